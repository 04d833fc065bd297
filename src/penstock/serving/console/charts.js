// Charts as SVG, redrawn at the width they have. Each can be read by pointer, by arrow keys, and as a table.
import { fill, make, shape, table, text } from "./dom.js";

const PAD = { left: 52, right: 26, top: 16, bottom: 26 };
const TONES = 12; // .t0 to .t11 in pages.css

function ticks(low, high, about = 4) {
  const width = high - low || Math.abs(high) || 1;
  const power = 10 ** Math.floor(Math.log10(width / about));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => (width / about) / power <= factor * 1.001);
  const first = Math.floor(low / step + 1e-9), last = Math.max(Math.ceil(high / step - 1e-9), first + 1);
  return Array.from({ length: last - first + 1 }, (_, index) => Number(((first + index) * step).toPrecision(10)));
}

// labels: one for each place on the x axis, which is `across`. series: {name, style, points: [{y, low, high} or null]}.
// markers: {at: place, text, style}. limit: {y, text}, a line that a value should stay below.
// most: what no value can pass, as 1 for a share.
export function lineChart({ title, across, labels, series, markers = [], limit = null, format, height = 230, zero = false, most = Infinity, note = null }) {
  const box = make("div", { className: "plot" });
  const legend = make("ul", { className: "legend" }, ...series.map((one) => make("li", {}, make("i", { className: one.style }), one.name)));
  const frame = make("div", { className: "frame", tabIndex: 0, role: "group", "aria-label": `${title}. Left and right arrow keys read the values.` });
  const tip = make("p", { className: "tip", role: "status" });
  const rows = labels.map((label, place) => make("tr", {}, make("th", { scope: "row", textContent: label }), ...series.map((one) => make("td", { className: "number", textContent: one.points[place] ? format(one.points[place].y) : "–" }))));
  const values = make("details", {}, text("summary", "As a table"), table(title, [across, ...series.map((one) => ({ name: one.name, number: true }))], rows));
  fill(box, series.length > 1 ? legend : null, frame, tip, values);
  let chosen = null, geometry = null;

  function read(place) {
    chosen = Math.max(0, Math.min(labels.length - 1, place));
    const found = series.filter((one) => one.points[chosen]).map((one) => `${one.name} ${format(one.points[chosen].y)}${one.points[chosen].low === undefined || one.points[chosen].low === null ? "" : ` (95%: ${format(one.points[chosen].low)} to ${format(one.points[chosen].high)})`}`);
    const marker = markers.filter((one) => one.at === chosen).map((one) => one.text);
    tip.textContent = [note ? note(chosen) : labels[chosen], ...found, ...marker].join(" · ");
    geometry.cursor.setAttribute("x1", geometry.x(chosen)); geometry.cursor.setAttribute("x2", geometry.x(chosen));
    geometry.cursor.setAttribute("class", "cursor");
  }

  function draw() {
    const width = Math.max(260, frame.clientWidth), bottom = height - PAD.bottom, right = width - PAD.right;
    const ys = series.flatMap((one) => one.points.filter(Boolean).flatMap((point) => [point.y, point.low, point.high])).filter((y) => y !== null && y !== undefined);
    if (limit) ys.push(limit.y);
    if (zero || Math.min(...ys) === Math.max(...ys)) ys.push(0); // what never moves is drawn from 0
    const scale = ticks(Math.min(...ys), Math.max(...ys)).filter((tick) => tick <= most), low = scale[0], high = Math.min(most, Math.max(...ys, ...scale));
    const x = (place) => (labels.length < 2 ? (PAD.left + right) / 2 : PAD.left + 8 + (place / (labels.length - 1)) * (right - PAD.left - 16));
    const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - PAD.top);
    const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
    for (const tick of scale) svg.append(shape("line", { class: "grid", x1: PAD.left, x2: right, y1: y(tick), y2: y(tick) }), label(format(tick), PAD.left - 7, y(tick) + 4, "end"));
    const every = Math.ceil(labels.length / Math.max(2, Math.floor((right - PAD.left) / 58)));
    labels.forEach((name, place) => { if (place % every === 0) svg.append(label(name, x(place), height - 8, "middle")); });
    for (const one of markers) {
      const across = x(one.at) + (one.style ? 12 : 0); // beside the flag of a promotion in the same place
      svg.append(shape("line", { class: "marker", x1: x(one.at), x2: x(one.at), y1: PAD.top - 4, y2: bottom }), shape("path", { class: `flag ${one.style || ""}`, d: `M${across} ${PAD.top - 10}l5 5-5 5-5-5z` }));
    }
    if (limit) svg.append(shape("line", { class: "limit", x1: PAD.left, x2: right, y1: y(limit.y), y2: y(limit.y) }), label(limit.text, right, y(limit.y) - 5, "end", "tick limit-text"));
    for (const one of [...series].reverse()) { // the first one on top
      const places = one.points.map((point, place) => (point ? place : -1)).filter((place) => place >= 0);
      for (const place of places) {
        const point = one.points[place];
        if (point.low !== undefined && point.low !== null) svg.append(shape("line", { class: `whisker ${one.style}`, x1: x(place), x2: x(place), y1: y(point.low), y2: y(point.high) }));
      }
      svg.append(shape("path", { class: `line ${one.style}`, d: places.map((place, index) => `${index && one.points[place - 1] ? "L" : "M"}${x(place).toFixed(1)} ${y(one.points[place].y).toFixed(1)}`).join("") }));
      if (places.length < 90) for (const place of places) svg.append(shape("circle", { class: `dot ${one.style}${one.points[place].hollow ? " hollow" : ""}`, cx: x(place), cy: y(one.points[place].y), r: 3.6 }));
    }
    const cursor = shape("line", { class: "cursor off", x1: 0, x2: 0, y1: PAD.top, y2: bottom });
    svg.append(cursor);
    geometry = { x, cursor };
    fill(frame, svg);
    if (chosen !== null) read(chosen);
  }
  const label = (content, x, y, anchor, style = "tick") => { const part = shape("text", { class: style, x, y, "text-anchor": anchor }); part.textContent = content; return part; };
  const nearest = (event) => {
    const left = event.clientX - frame.getBoundingClientRect().left;
    return labels.reduce((best, _, place) => (Math.abs(geometry.x(place) - left) < Math.abs(geometry.x(best) - left) ? place : best), 0);
  };
  frame.addEventListener("pointermove", (event) => { if (geometry) read(nearest(event)); });
  frame.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !geometry) return;
    event.preventDefault();
    read(chosen === null ? (step > 0 ? 0 : labels.length - 1) : chosen + step);
  });
  new ResizeObserver(() => { if (frame.clientWidth && labels.length) draw(); }).observe(frame);
  return box;
}

// A value on a bar that ends past its objective; the tick is the objective.
export function gauge(name, seconds, objective, words, note) {
  const top = Math.max(objective * 1.25, seconds * 1.05), fine = seconds <= objective;
  const bar = make("div", { className: "gauge", role: "meter", "aria-label": name, "aria-valuemin": 0, "aria-valuemax": Math.round(top), "aria-valuenow": Math.round(seconds), "aria-valuetext": `${words(seconds)}, objective ${words(objective)}` },
    make("i", { className: fine ? "fine" : "over" }), make("b", {}));
  bar.children[0].style.width = `${Math.max(0.6, (100 * seconds) / top)}%`;
  bar.children[1].style.left = `${(100 * objective) / top}%`;
  return make("div", { className: "gauge-box" }, make("p", {}, make("strong", { textContent: words(seconds) }), " ", text("span", name, "dim")), bar, text("p", note, "dim small"));
}

// Parts of a whole, in their order.
export function stack(parts, words) {
  const total = parts.reduce((sum, part) => sum + part.seconds, 0) || 1;
  const bar = make("div", { className: "stack", "aria-hidden": "true" }, ...parts.map((part, place) => { const piece = make("span", { className: `t${place % TONES}` }); piece.style.flex = String(Math.max(part.seconds / total, 0.004)); return piece; }));
  return [bar, make("ul", { className: "legend" }, ...parts.map((part, place) => make("li", {}, make("i", { className: `t${place % TONES}` }), `${part.name} ${words(part.seconds)}`)))];
}

// A measured value with its interval on one line that spans all of `within`: one look instead of three numbers.
// edge: a threshold, the side of it that passes shaded.
export function interval({ low, high, observed }, within, edge = null, above = true) {
  const known = within.filter((value) => value !== null), from = Math.min(...known), width = Math.max(...known) - from || 1;
  const x = (value) => 6 + (108 * (value - from)) / width, limit = edge === null ? null : x(edge);
  return shape("svg", { viewBox: "0 0 120 16", width: 120, height: 16, class: "picture", "aria-hidden": "true" },
    limit === null ? null : shape("rect", { x: above ? limit : 0, y: 1, width: above ? 120 - limit : limit, height: 14, rx: 2, class: "allowed" }),
    shape("line", { x1: x(low), x2: x(high), y1: 8, y2: 8, class: "range" }), shape("circle", { cx: x(observed), cy: 8, r: 3.2, class: "point" }),
    limit === null ? null : shape("line", { x1: limit, x2: limit, y1: 1, y2: 15, class: "edge" }));
}
