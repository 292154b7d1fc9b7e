// The page's numbers, and what charts of all kinds are drawn with.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const trials = new Map(data.trials.map((trial) => [trial.id, trial]));
const passTitles = data.passes;
const dashes = ["", "7 4", "2 3", "9 3 2 3"];

// The page's policy forbids style attributes in the markup, but lets a script set styles.
const set = (element, key, value) => (key === "style" ? (element.style.cssText = value) : element.setAttribute(key, value));
const html = (name, attributes = {}, text = "") => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) set(element, key, value);
  if (text !== "") element.textContent = text;
  return element;
};
const svg = (name, attributes = {}, text = "") => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) set(element, key, value);
  if (text !== "") element.textContent = text;
  return element;
};
const colour = (i) => `var(--c${i % 7})`;
const dash = (i) => dashes[Math.floor(i / 7) % dashes.length];

// Numbers as people read them.
const digits = (value) => (Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3))));
const secondsUnit = (value) => (value >= 1 ? ["s", 1] : value >= 1e-3 ? ["ms", 1e3] : ["µs", 1e6]);
const amount = (value, unit) => {
  if (unit !== "s") return `${digits(value)} ${unit}`;
  const [name, factor] = secondsUnit(value);
  return `${digits(value * factor)} ${name}`;
};

function scale(low, high, from, to, log) {
  const f = log ? Math.log : Number;
  const [a, b] = [f(low), f(high)];
  const g = (value) => from + ((f(value) - a) / (b - a || 1)) * (to - from);
  g.invert = (pixel) => {
    const value = a + ((pixel - from) / (to - from)) * (b - a);
    return log ? Math.exp(value) : value;
  };
  return g;
}

function ticks(low, high, log) {
  const values = [];
  if (log && high / low > 8) {
    const steps = high / low > 3000 ? [1] : [1, 2, 5];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
      for (const step of steps) {
        const value = step * 10 ** power;
        if (value >= low && value <= high) values.push(value);
      }
    return values;
  }
  const rough = (high - low) / 6;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((k) => k * power >= rough);
  for (let i = Math.ceil(low / step); i * step <= high * (1 + 1e-12); i++) values.push(i * step);
  return values;
}
