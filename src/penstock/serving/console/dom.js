// Elements and figures. Text goes in as text, never as HTML: nothing in the console parses markup from data.
const ATTRIBUTES = ["scope", "for", "title", "role", "href", "colspan", "list", "download"];
const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

function build(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("data-") || name.startsWith("aria-") || ATTRIBUTES.includes(name)) element.setAttribute(name, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element[name] = value;
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const make = (tag, properties = {}, ...children) => build(document.createElement(tag), properties, children);
export const fill = (element, ...children) => element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
export const text = (tag, content, className = "") => make(tag, { textContent: content, className });

export function shape(tag, attributes = {}, ...children) {
  const part = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) part.setAttribute(name, value);
  part.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return part;
}

// Draws again only what changed, so that a half-typed reason, a focus or an opened detail survives the polling.
export function unchanged(element, value) {
  const key = JSON.stringify(value);
  if (element.drawnFrom === key) return true;
  element.drawnFrom = key;
  return false;
}

export function table(caption, columns, rows, className = "") {
  const head = columns.map((column) => make("th", { scope: "col", className: column.number ? "number" : "", textContent: column.name ?? column }));
  return make("div", { className: "scroll", role: "region", tabIndex: 0, "aria-label": `${caption}, table` },
    make("table", { className }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)));
}

export function panel(title, ...children) {
  const id = `panel-${title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-")}`;
  return make("section", { className: "panel", "aria-labelledby": id }, make("h2", { id, textContent: title }), ...children);
}

export function fact(name, value, note = "") {
  return make("div", {}, text("dt", name), make("dd", {}, value, note ? text("small", note) : null));
}

export const verdict = (word, look = "idle") => text("span", word, `verdict ${look}`);
export const version = (number) => make("a", { href: `#challengers/${number}`, textContent: `v${number}` });

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const s = Math.max(0, seconds);
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 129600) return `${(s / 3600).toFixed(1)} h`;
  return `${Math.round(s / 86400)} days`;
}
export const short = (digest) => (digest ? digest.slice(0, 10) : "–");
// A user by name, or the beginning of the pseudonym.
export const person = (user) => (/^u_[0-9a-f]{64}$/.test(user) ? `${user.slice(0, 10)}…` : user);
export const named = (tag, user) => make(tag, { title: user, textContent: person(user) });
export const clock = (iso) => (iso ? new Date(iso).toLocaleString([], { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" }) : "–");
// Times beside an axis: the hour while they are of one day, the day too where they are not.
export function ticking(isos) {
  const days = new Set(isos.map((iso) => new Date(iso).toDateString()));
  return isos.map((iso) => (days.size > 1 ? new Date(iso).toLocaleString([], { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" }) : new Date(iso).toLocaleTimeString([], { hour12: false })));
}
export const when = (iso) => make("td", { className: "when", textContent: clock(iso) });
const plural = (word) => (word.endsWith("s") ? `${word}es` : word.replace(/y$/, "ie") + "s");
export const count = (value, word) => `${value.toLocaleString()} ${value === 1 ? word : plural(word)}`;
export const percent = (share) => (share === null || share === undefined ? "–" : `${(share * 100).toFixed(share < 0.1 ? 1 : 0)}%`);
export function figure(value) {
  if (value === null || value === undefined) return "not measured";
  if (value < 0) return `−${figure(-value)}`;
  if (value === 0) return "0";
  return value < 0.0001 ? value.toExponential(1) : value < 10 ? value.toFixed(4) : value < 1000 ? value.toFixed(1) : Math.round(value).toLocaleString();
}
