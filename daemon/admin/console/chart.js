// Charts of lines: small ones in a row of text, and one with axes.
import { h, mark, s } from "./dom.js";
import { brief, figure } from "./format.js";

const points = (values, width, height, low, high) =>
  values.map(
    (y, i) =>
      `${((i * width) / Math.max(1, values.length - 1)).toFixed(1)},${(height - ((y - low) * height) / (high - low || 1)).toFixed(1)}`,
  );

// A line as high as a word. `update(values)` draws it; it says nothing to those who can't see it, since a number stands beside it.
export function spark(width = 96, height = 20) {
  const area = s("path", { class: "area" });
  const line = s("path", { class: "line" });
  const node = s(
    "svg",
    { class: "spark", viewBox: `0 -1 ${width} ${height + 2}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    area,
    line,
  );
  const update = (values) => {
    const drawn = values.length > 1 ? `M${points(values, width, height, 0, Math.max(...values, 1e-9)).join("L")}` : "";
    mark(line, "d", drawn);
    mark(area, "d", drawn && `${drawn}V${height}H0Z`);
  };
  return { node, update };
}

// Round numbers between two, about so many.
export function ticks(low, high, about) {
  const rough = (high - low || 1) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const found = [];
  for (let n = Math.ceil(low / step) * step; n <= high + step * 1e-6; n += step)
    found.push(Math.abs(n) < step * 1e-6 ? 0 : n);
  return found;
}

const box = { left: 56, right: 132, top: 12, bottom: 36 };

// Lines over a common axis: `series` are `{ name, look, points: [[x, y]] }`, `marks` are `{ x, name }`, drawn as ticks at the axis.
export function chart({ label, x, y, series, marks = [], width = 920, height = 300 }) {
  const all = series.flatMap((each) => each.points).filter(([, value]) => value != null);
  if (!all.length) return h("p", { class: "soft" }, "There is nothing to draw yet.");
  const [left, right] = extent(all.map(([value]) => value));
  const [low, high] = padded(extent(all.map(([, value]) => value)));
  const across = (value) => box.left + ((value - left) / (right - left || 1)) * (width - box.left - box.right);
  const up = (value) => height - box.bottom - ((value - low) / (high - low || 1)) * (height - box.top - box.bottom);
  const frame = { left, right, low, high, across, up, width, height, x, y };
  const node = s("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  node.append(
    ...axes(frame),
    ...marks.flatMap((each) => [...tick(each, frame)]),
    ...series.map((each) => line(each, frame)),
    ...names(series, frame),
  );
  return h(
    "div",
    { class: "charted", tabindex: 0, role: "region", "aria-label": y },
    node,
    readout(node, series, frame),
  );
}

const extent = (values) => [Math.min(...values), Math.max(...values)];
const padded = ([low, high]) =>
  low === high ? [low - 0.5, high + 0.5] : [low - (high - low) * 0.06, high + (high - low) * 0.06];
const text = (x, y, words, look) => s("text", { x, y, class: look }, words);

function* axes({ left, right, low, high, across, up, width, height, x, y }) {
  for (const value of ticks(low, high, 5)) {
    yield s("line", { class: "grid", x1: box.left, x2: width - box.right, y1: up(value), y2: up(value) });
    yield text(box.left - 8, up(value) + 4, brief(value), "axis end");
  }
  for (const value of ticks(left, right, 6))
    yield text(across(value), height - box.bottom + 18, brief(value), "axis mid");
  yield text(width - box.right + 8, height - box.bottom + 18, x, "axis");
  yield text(box.left, 9, y, "axis");
}

function* tick({ x, name }, { across, up, low, left, right }) {
  if (x < left || x > right) return;
  yield s("path", { class: "tick", d: `M${across(x)} ${up(low)}v8` }, s("title", null, name));
}

function line({ look, points: values }, { across, up }) {
  const known = values.filter(([, value]) => value != null);
  return s("path", {
    class: `line ${look}`,
    d: `M${known.map(([a, b]) => `${across(a).toFixed(1)},${up(b).toFixed(1)}`).join("L")}`,
  });
}

// Each line's name at its end, moved apart where they would touch.
function names(series, { up, width }) {
  const ends = series.map((each) => ({
    each,
    y: up(each.points.findLast(([, value]) => value != null)?.[1] ?? 0) + 4,
  }));
  ends.sort((a, b) => a.y - b.y);
  for (let i = 1; i < ends.length; i++) ends[i].y = Math.max(ends[i].y, ends[i - 1].y + 14);
  return ends.map(({ each, y }) => text(width - box.right + 8, y, each.name, `name ${each.look}`));
}

// Where the pointer is, the values are said below the chart.
function readout(node, series, { left, right, across, width, height, x }) {
  const said = h("p", { class: "readout soft" }, "Point at the chart to read it.");
  const rule = s("line", { class: "rule", y1: box.top, y2: height - box.bottom, visibility: "hidden" });
  node.append(rule);
  node.addEventListener("pointermove", (event) => {
    const at = node.getBoundingClientRect();
    const value =
      left +
      ((((event.clientX - at.left) / at.width) * width - box.left) / (width - box.left - box.right)) * (right - left);
    const near = (values) =>
      values.reduce((best, each) => (Math.abs(each[0] - value) < Math.abs(best[0] - value) ? each : best), values[0]);
    const found = series.filter((each) => each.points.length).map((each) => [each.name, near(each.points)]);
    if (value < left || value > right) return;
    for (const end of ["x1", "x2"]) mark(rule, end, across(found[0][1][0]));
    mark(rule, "visibility", "visible");
    said.textContent = `${figure(found[0][1][0])} ${x}: ${found.map(([name, [, b]]) => `${name} ${figure(b)}`).join(", ")}`;
  });
  return said;
}
