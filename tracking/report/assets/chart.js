// The chart over batch size.
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
  // With a single batch size the lines would lie on top of each other, so they are set side by side.
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
    const side = chart.unit === "times as fast" ? `${trial.name}: ` : "";  // a ratio has trials on two sides
    if (pass) lines.push(`${side}${pass.n} steps, stopped at ${pass.stopped}${pass.outliers ? `, ${pass.outliers} outlier${pass.outliers > 1 ? "s" : ""}` : ""}`);
    lines.push(side + (trial.quality.length ? `doubt: ${trial.quality.join("; ")}` : "verdict: good"));
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
