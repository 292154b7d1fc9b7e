"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const trials = new Map(data.trials.map((trial) => [trial.id, trial]));
  const passTitles = data.passes;
  const dashes = ["", "7 4", "2 3", "9 3 2 3"];

  // The page's policy forbids styles in attributes, not what a script sets.
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

  // Numbers for people.
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
    const found = [];
    if (log && high / low > 8) {
      const steps = high / low > 3000 ? [1] : [1, 2, 5];
      for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
        for (const step of steps) {
          const value = step * 10 ** power;
          if (value >= low && value <= high) found.push(value);
        }
      return found;
    }
    const rough = (high - low) / 6;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((k) => k * power >= rough);
    for (let i = Math.ceil(low / step); i * step <= high * (1 + 1e-12); i++) found.push(i * step);
    return found;
  }

  // ---- The chart over batch sizes -------------------------------------------------------------------------------
  const place = document.getElementById("chart");
  const figureBox = document.getElementById("figure");
  const passBox = document.getElementById("pass");
  const logX = document.getElementById("log-x");
  const logY = document.getElementById("log-y");
  const reset = document.getElementById("reset");
  const state = { chart: null, hidden: new Set(), view: null, focus: null };

  function pick() {
    const passes = [...new Set(data.charts.filter((c) => c.figure === figureBox.value).map((c) => c.pass))];
    const wanted = passes.includes(passBox.value) ? passBox.value : passes[0];
    passBox.replaceChildren(...passes.map((name) => html("option", { value: name || "" }, name ? passTitles[name] : "all")));
    if (wanted) passBox.value = wanted;
    passBox.disabled = passes.length < 2;
    state.chart = data.charts.find((c) => c.figure === figureBox.value && c.pass === (passBox.value || null));
    const points = state.chart.lines.flatMap((line) => line.points);
    const xs = points.map((p) => p.x), ys = points.map((p) => p.y);
    const sizes = [...new Set(xs)].sort((a, b) => a - b);
    const gaps = sizes.slice(1).map((x, i) => x - sizes[i]);
    logX.checked = sizes[sizes.length - 1] > 8 * sizes[0] && Math.max(...gaps) > 2 * Math.min(...gaps);
    logY.checked = Math.min(...ys) > 0 && Math.max(...ys) / Math.min(...ys) > 30;
    logX.disabled = sizes.length < 2;
    state.view = null;
    draw();
  }

  function bounds(lines) {
    const points = lines.flatMap((line) => line.points);
    const failed = lines.flatMap((line) => line.failed.map(([batch]) => batch));
    const xs = [...points.map((p) => p.x), ...failed];
    const low = Math.min(...points.map((p) => Math.max(p.low, p.y / 10))), high = Math.max(...points.map((p) => p.high));
    const [left, right] = [Math.min(...xs), Math.max(...xs)];
    const y = logY.checked ? [low / 1.3, high * 1.3] : [0, high * 1.06];
    if (left === right) return { x: [left * 0.5, left * 1.5], y };
    if (logX.checked) return { x: [left / (right / left) ** 0.04, right * (right / left) ** 0.04], y };
    return { x: [left - 0.04 * (right - left), right + 0.04 * (right - left)], y };
  }

  function draw() {
    const chart = state.chart;
    const shown = chart.lines.map((line, i) => ({ ...line, i })).filter((line) => !state.hidden.has(line.label));
    const drawn = shown.some((line) => line.points.length) ? shown : chart.lines.map((line, i) => ({ ...line, i }));
    const plot = html("div", { class: "plot" });
    place.replaceChildren(plot);
    if (chart.lines.length > 1) place.append(legend(chart));
    const width = Math.max(320, plot.clientWidth), height = 440;
    const edge = { left: 66, right: 16, top: 12, bottom: 46 };
    const view = state.view || bounds(drawn);
    reset.disabled = !state.view;
    const x = scale(...view.x, edge.left, width - edge.right, logX.checked);
    const y = scale(...view.y, height - edge.bottom, edge.top, logY.checked);
    const picture = svg("svg", {
      viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: "img",
      "aria-label": `${chart.figure}${chart.pass ? ", " + passTitles[chart.pass] : ""} over batch size; arrow keys walk from point to point`,
    });
    const clip = svg("clipPath", { id: "inside" });
    clip.append(svg("rect", { x: edge.left, y: edge.top - 4, width: width - edge.left - edge.right, height: height - edge.top - edge.bottom + 8 }));
    picture.append(clip);

    const [unitName, factor] = chart.unit === "s" ? secondsUnit(view.y[1] / 3) : [chart.unit, 1];
    for (const value of ticks(view.y[0] * factor, view.y[1] * factor, logY.checked)) {
      const at = y(value / factor);
      picture.append(svg("line", { class: "grid", x1: edge.left, x2: width - edge.right, y1: at, y2: at }));
      picture.append(svg("text", { x: edge.left - 8, y: at + 4, "text-anchor": "end" }, digits(value)));
    }
    let last = -Infinity;
    for (const batch of [...new Set(chart.lines.flatMap((line) => [...line.points.map((p) => p.x), ...line.failed.map(([b]) => b)]))].sort((a, b) => a - b)) {
      const at = x(batch);
      if (at < edge.left || at > width - edge.right || at - last < Math.max(22, 10 + 8 * String(batch).length)) continue;
      last = at;
      picture.append(svg("line", { class: "axis", x1: at, x2: at, y1: height - edge.bottom, y2: height - edge.bottom + 5 }));
      picture.append(svg("text", { x: at, y: height - edge.bottom + 19, "text-anchor": "middle" }, batch));
    }
    picture.append(svg("path", { class: "axis", d: `M${edge.left} ${edge.top}V${height - edge.bottom}H${width - edge.right}` }));
    picture.append(svg("text", { x: (edge.left + width - edge.right) / 2, y: height - 8, "text-anchor": "middle", class: "faint" }, "batch size"));
    picture.append(svg("text", { transform: `translate(14 ${height / 2}) rotate(-90)`, "text-anchor": "middle", class: "faint" }, chart.axis.replace("{unit}", unitName)));
    if (chart.reference !== null && view.y[0] < chart.reference && view.y[1] > chart.reference) {
      const at = y(chart.reference);
      picture.append(svg("line", { class: "axis", "stroke-dasharray": "2 3", x1: edge.left, x2: width - edge.right, y1: at, y2: at }));
      picture.append(svg("text", { x: width - edge.right - 4, y: at + 14, "text-anchor": "end", class: "faint" }, chart.referenceName));
    }

    const inside = svg("g", { "clip-path": "url(#inside)" });
    const spots = [];
    const stacked = new Map();
    // With one batch size lines would lie on each other: they are set side by side.
    const one = new Set(drawn.flatMap((line) => line.points.map((p) => p.x))).size === 1;
    const beside = (k) => (one ? ((k + 0.5) / shown.length - 0.5) * (width - edge.left - edge.right) * 0.8 : 0);
    shown.forEach((line, k) => {
      const group = svg("g", { style: `stroke:${colour(line.i)};fill:${colour(line.i)}` });
      const at = line.points.map((p) => [x(p.x) + beside(k), y(Math.max(p.y, view.y[0] / 2 || 0))]);
      if (at.length > 1)
        group.append(svg("polyline", { points: at.map((p) => p.join()).join(" "), fill: "none", "stroke-width": 2, "stroke-dasharray": dash(line.i) }));
      line.points.forEach((p, n) => {
        const [px, py] = at[n];
        if (p.high > p.low) group.append(svg("path", { fill: "none", "stroke-width": 1.3, d: `M${px} ${y(p.low)}V${y(p.high)}M${px - 4} ${y(p.low)}h8M${px - 4} ${y(p.high)}h8` }));
        group.append(svg("circle", { cx: px, cy: py, r: 4, stroke: "none", class: "point" }));
        if (px >= edge.left && px <= width - edge.right && py >= edge.top - 4 && py <= height - edge.bottom + 4) spots.push({ px, py, line, p });
      });
      for (const [batch, status] of line.failed) {
        const up = stacked.get(batch) || 0;
        stacked.set(batch, up + 1);
        const px = x(batch) + beside(k), py = height - edge.bottom - 9 - (one ? 0 : 15 * up);
        if (py < edge.top + 10) continue;
        group.append(svg("path", { d: `M${px - 4} ${py - 4}l8 8m0 -8l-8 8`, "stroke-width": 2.4, fill: "none" }));
        group.append(svg("text", { x: px - 8, y: py + 4, "text-anchor": "end", style: "stroke:none;fill:inherit;font-size:11px" }, status));
      }
      inside.append(group);
    });
    const ring = svg("circle", { class: "ring", r: 7, visibility: "hidden" });
    const box = svg("rect", { class: "zoom", visibility: "hidden" });
    inside.append(ring, box);
    picture.append(inside);
    const tip = html("div", { class: "tip", role: "status", hidden: "" });
    plot.append(picture, tip);

    function show(spot) {
      state.focus = spot;
      ring.setAttribute("visibility", spot ? "visible" : "hidden");
      tip.hidden = !spot;
      if (!spot) return;
      ring.setAttribute("cx", spot.px);
      ring.setAttribute("cy", spot.py);
      tip.replaceChildren(...describe(chart, spot).map((text) => html("div", {}, text)));
      const ratio = picture.getBoundingClientRect().width / width;
      const left = spot.px * ratio + 14;
      tip.style.left = `${left + tip.offsetWidth > plot.clientWidth ? Math.max(0, spot.px * ratio - 14 - tip.offsetWidth) : left}px`;
      tip.style.top = `${Math.max(0, spot.py * ratio - tip.offsetHeight - 10)}px`;
    }
    const where = (event) => {
      const frame = picture.getBoundingClientRect();
      return [((event.clientX - frame.left) * width) / frame.width, ((event.clientY - frame.top) * height) / frame.height];
    };
    let start = null;
    picture.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || event.pointerType === "touch") return;
      start = where(event);
      picture.setPointerCapture(event.pointerId);
    });
    picture.addEventListener("pointermove", (event) => {
      const [px, py] = where(event);
      if (start) {
        const attributes = { x: Math.min(px, start[0]), y: Math.min(py, start[1]), width: Math.abs(px - start[0]), height: Math.abs(py - start[1]), visibility: "visible" };
        for (const [key, value] of Object.entries(attributes)) box.setAttribute(key, value);
        return;
      }
      let best = null, nearest = 45;
      for (const spot of spots) {
        const away = Math.hypot(spot.px - px, spot.py - py);
        if (away < nearest) [best, nearest] = [spot, away];
      }
      show(best);
    });
    picture.addEventListener("pointerup", (event) => {
      if (!start) return;
      const from = start, to = where(event);
      start = null;
      box.setAttribute("visibility", "hidden");
      if (Math.abs(to[0] - from[0]) < 12 || Math.abs(to[1] - from[1]) < 12) return;
      const sorted = (a, b) => (a < b ? [a, b] : [b, a]);
      state.view = { x: sorted(x.invert(from[0]), x.invert(to[0])), y: sorted(y.invert(from[1]), y.invert(to[1])) };
      draw();
    });
    picture.addEventListener("pointerleave", () => start || show(null));
    picture.addEventListener("blur", () => show(null));
    picture.addEventListener("dblclick", () => { state.view = null; draw(); });
    picture.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") { state.view = null; draw(); place.querySelector("svg").focus(); return; }
      if (!step || !spots.length) return;
      event.preventDefault();
      const now = spots.indexOf(state.focus);
      if (event.key === "ArrowLeft" || event.key === "ArrowRight") return show(spots[(now + step + spots.length) % spots.length]);
      const lines = shown.filter((line) => spots.some((s) => s.line === line));
      const next = lines[(lines.indexOf(now < 0 ? null : spots[now].line) + step + lines.length) % lines.length];
      show(spots.find((s) => s.line === next && (now < 0 || s.p.x >= spots[now].p.x)) || spots.find((s) => s.line === next));
    });
  }

  function describe(chart, { line, p }) {
    const lines = [`${line.label}, batch ${p.x}`];
    const around = p.high > p.low ? ` (95%: ${amount(p.low, chart.unit)} to ${amount(p.high, chart.unit)})` : "";
    lines.push(chart.unit === "times as fast" ? `${digits(p.y)} times as fast (95%: ${digits(p.low)} to ${digits(p.high)})` : amount(p.y, chart.unit) + around);
    for (const id of p.ids) {
      const trial = trials.get(id);
      const pass = chart.pass && trial.passes[chart.pass];
      const whose = chart.unit === "times as fast" ? `${trial.name}: ` : "";  // two sides stand behind a ratio
      if (pass) lines.push(`${whose}${pass.n} steps, stopped at ${pass.stopped}${pass.outliers ? `, ${pass.outliers} outlier${pass.outliers > 1 ? "s" : ""}` : ""}`);
      lines.push(whose + (trial.quality.length ? `doubt: ${trial.quality.join("; ")}` : "verdict: good"));
    }
    return lines;
  }

  function legend(chart) {
    const list = html("ul", { class: "legend", "aria-label": "lines of the chart" });
    chart.lines.forEach((line, i) => {
      const button = html("button", { type: "button", "aria-pressed": String(!state.hidden.has(line.label)) });
      const key = svg("svg", { viewBox: "0 0 34 14", "aria-hidden": "true", style: `stroke:${colour(i)};fill:${colour(i)}` });
      key.append(svg("line", { x1: 0, x2: 34, y1: 7, y2: 7, "stroke-width": 2, "stroke-dasharray": dash(i) }), svg("circle", { cx: 17, cy: 7, r: 4, stroke: "none" }));
      button.append(key, html("span", {}, line.label));
      button.addEventListener("click", () => {
        if (!state.hidden.delete(line.label)) state.hidden.add(line.label);
        draw();
        place.querySelectorAll(".legend button")[i].focus();
      });
      const item = html("li");
      item.append(button);
      list.append(item);
    });
    return list;
  }

  if (data.charts.length) {
    document.getElementById("charts").hidden = false;
    figureBox.append(...[...new Set(data.charts.map((c) => c.figure))].map((name) => html("option", {}, name)));
    figureBox.addEventListener("change", pick);
    passBox.addEventListener("change", pick);
    for (const box of [logX, logY]) box.addEventListener("change", () => { state.view = null; draw(); });
    reset.addEventListener("click", () => { state.view = null; draw(); });
    pick();
    let width = window.innerWidth;
    window.addEventListener("resize", () => { if (window.innerWidth !== width) { width = window.innerWidth; draw(); } });
  }

  // ---- The table: sort, filter, open ----------------------------------------------------------------------------
  const table = document.getElementById("results");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const count = document.getElementById("count");
  const closeAll = () => {
    for (const row of body.querySelectorAll(".detail")) row.remove();
    for (const button of body.querySelectorAll("[aria-expanded=true]")) button.setAttribute("aria-expanded", "false");
  };

  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    closeAll();
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const number = head.dataset.kind === "number";
    const words = new Intl.Collator("en", { numeric: true });
    const keyed = [...body.rows].map((row) => {
      const cell = row.cells[column];
      const failed = row.classList.contains("failed");
      const missing = number && (failed || !cell || !cell.dataset.v);
      const text = failed && column === heads.length - 1 ? row.lastElementChild : cell;
      return { row, missing, key: number ? Number(cell && cell.dataset.v) : text ? text.textContent : "" };
    });
    // What has no number comes last in both directions.
    keyed.sort((a, b) => a.missing - b.missing || (a.missing ? 0 : (number ? a.key - b.key : words.compare(a.key, b.key)) * (down ? -1 : 1)));
    body.append(...keyed.map((entry) => entry.row));
  }));

  document.getElementById("filter").addEventListener("input", (event) => {
    closeAll();
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      left += !row.hidden;
    }
    count.textContent = words.length ? `${left} of ${body.rows.length} rows` : "";
  });

  body.addEventListener("click", (event) => {
    const button = event.target.closest("button.open");
    if (!button) return;
    const opened = button.getAttribute("aria-expanded") === "true";
    const row = button.closest("tr");
    if (opened) row.nextElementSibling.remove();
    else {
      const cell = html("td", { colspan: heads.length });
      cell.append(trace(data.trials[button.dataset.trial].passes[button.dataset.pass]));
      const detail = html("tr", { class: "detail" });
      detail.append(cell);
      row.after(detail);
    }
    button.setAttribute("aria-expanded", String(!opened));
  });

  function trace(pass) {
    const width = 900, height = 170, left = 60, right = 10, top = 10, bottom = 30;
    const highest = Math.max(...pass.steps);
    const high = 1.06 * Math.max(highest, Math.min(1.3 * highest, Math.max(0, ...pass.warmup)));
    const x = scale(-pass.warmup.length - 0.5, pass.n - 0.5, left, width - right, false);
    const y = scale(0, high, height - bottom, top, false);
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "step times in order" });
    const [unit, factor] = secondsUnit(pass.median);
    for (const value of ticks(0, high * factor, false)) {
      picture.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(value / factor), y2: y(value / factor) }));
      picture.append(svg("text", { x: left - 6, y: y(value / factor) + 4, "text-anchor": "end" }, digits(value)));
    }
    const points = (values, first, stride) => values.map((value, i) => [x(first + i * stride), y(Math.min(value, high))]);
    const draw = (at, style) => {
      picture.append(svg("polyline", { points: at.map((p) => p.join()).join(" "), fill: "none", style: `stroke:${style}`, "stroke-width": 1.2 }));
      if (at.length <= 150) for (const [cx, cy] of at) picture.append(svg("circle", { cx, cy, r: 2, style: `fill:${style}` }));
    };
    draw(points(pass.warmup, -pass.warmup.length, 1), "var(--faint)");
    draw(points(pass.steps, 0, pass.stride), "var(--c0)");
    picture.append(svg("line", { x1: left, x2: width - right, y1: y(pass.median), y2: y(pass.median), style: "stroke:var(--c1)", "stroke-dasharray": "5 4" }));
    const thinned = pass.stride > 1 ? ", thinned to the lowest and highest of each stretch" : "";
    picture.append(svg("text", { x: left, y: height - 8, class: "faint" }, `step time (${unit}) over ${pass.n} steps${thinned}; grey: warm-up; dashed: median`));
    return picture;
  }

  for (const cell of document.querySelectorAll("td.share")) cell.style.setProperty("--share", `${cell.dataset.share}%`);
})();
