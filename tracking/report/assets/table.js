// The table of trials: sort, filter, and open a row to its step times.
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
  // Rows without a number come last in both directions.
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
