// Ranked items with why each is there, and how one list differs from another.
import { make, text } from "./dom.js";

function moved(item, place, before) {
  if (!before) return null;
  const was = before.findIndex((other) => other.item_id === item.item_id);
  if (was < 0) return text("span", "new", "move new");
  if (was === place) return null;
  const up = was > place, by = Math.abs(was - place);
  return make("span", { className: `move ${up ? "up" : "down"}`, role: "img", "aria-label": `${up ? "up" : "down"} ${by}`, textContent: `${up ? "▲" : "▼"}${by}` });
}

// A feature's name in words; the longest beginning that fits.
const FEATURES = [
  ["category_popularity", "demand for its category"], ["category_affinity", "the user’s liking for its category"], ["popularity", "popularity"], ["rate", "clicks when shown"], ["novelty", "newness"],
  ["cooccurrence", "taken with the user’s items"], ["follows", "follows the user’s items"], ["repeat", "the user had it"], ["history_popularity", "popularity of the user’s items"], ["history_size", "length of the user’s past"],
];

function spoken(name) {
  const [start, words] = FEATURES.find(([beginning]) => name.startsWith(beginning)) || [name, name.replaceAll("_", " ")];
  const rest = name.slice(start.length).replaceAll("_", " ").trim();
  return rest ? `${words}, ${rest.replace(/(\d)h$/, "$1 h")}` : words;
}

function bars(parts) {
  const largest = Math.max(1e-9, ...parts.map(([, worth]) => Math.abs(worth)));
  return make("ul", { className: "parts" }, ...parts.map(([name, worth]) => {
    const bar = make("i", { className: worth < 0 ? "less" : "" });
    bar.style.width = `${Math.max(2, (100 * Math.abs(worth)) / largest)}%`;
    return make("li", {}, text("span", name), make("span", { className: "part" }, bar), text("span", `${worth > 0 ? "+" : "−"}${Math.abs(worth).toFixed(2)}`, "number"));
  }));
}

// What the score rests on, where it was measured (item.parts); else what stands out.
function reasons(item) {
  if (item.parts) return [text("p", "What the score rests on, against an average item:", "dim small"), bars(Object.entries(item.parts).filter(([, worth]) => Math.abs(worth) >= 0.005).sort(([, a], [, b]) => Math.abs(b) - Math.abs(a)))];
  const lifts = Object.entries(item.features || {});
  if (!lifts.length) return text("p", "No single feature stands out from the other candidates.", "dim small");
  return [text("p", "Stands out from the other candidates, in standard deviations:", "dim small"), bars(lifts.map(([name, lift]) => [spoken(name), lift]))];
}

// Score, source, score parts and the past events behind an item, folded away until somebody asks.
function details(item) {
  const clicks = (item.past || []).map((one) => make("li", {}, text("span", one.title || one.item_id), text("span", [one.kind, one.because].filter(Boolean).join(", "), "dim")));
  return make("details", { className: "because" }, text("summary", "Why"),
    make("p", { className: "dim" }, `Score ${item.score.toFixed(3)} · candidate from “${item.source || "all items"}” · `, text("code", item.item_id)), reasons(item),
    clicks.length ? [text("p", "Through what this user did:", "dim small"), make("ul", { className: "past" }, ...clicks)] : null);
}

// before: the items to compare places with. onclick(item, place): what a click does; no button without it.
export function itemList(items, { before = null, marked = null, onclick = null, label = "Click", faded = false, brief = false } = {}) {
  return make("ol", { className: `items${faded ? " faded" : ""}` }, ...items.map((item, place) => make("li", { className: item.item_id === marked ? "clicked" : "" },
    text("span", String(place + 1), "rank"),
    make("div", {}, text("span", item.title || item.item_id, "title"), text("span", item.category || "", "category"), " ", moved(item, place, before),
      text("div", (item.why || []).join(" · "), "why"), brief ? null : details(item)),
    onclick ? make("button", { type: "button", textContent: label, "aria-label": `${label} ${item.title}`, onclick: () => onclick(item, place) }) : make("span"))));
}
