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

const plain = (name) => name.replaceAll("_", " ");

// Score, source, score parts and the past events behind an item, folded away until somebody asks.
function details(item) {
  const parts = Object.entries(item.features || {});
  const largest = Math.max(1e-9, ...parts.map(([, lift]) => Math.abs(lift)));
  const bars = parts.map(([name, lift]) => {
    const bar = make("i", { className: lift < 0 ? "less" : "" });
    bar.style.width = `${Math.max(2, (100 * Math.abs(lift)) / largest)}%`;
    return make("li", {}, text("span", plain(name)), make("span", { className: "part" }, bar), text("span", `${lift > 0 ? "+" : ""}${lift.toFixed(2)}`, "number"));
  });
  const clicks = (item.past || []).map((one) => make("li", {}, text("span", one.title || one.item_id), text("span", [one.kind, one.because].filter(Boolean).join(", "), "dim")));
  return make("details", { className: "because" }, text("summary", "Why"),
    make("p", { className: "dim" }, `Score ${item.score.toFixed(3)} · candidate from “${item.source || "all items"}” · `, text("code", item.item_id)),
    bars.length ? [text("p", "Stands out from the other candidates, in standard deviations:", "dim small"), make("ul", { className: "parts" }, ...bars)] : text("p", "No single feature stands out from the other candidates.", "dim small"),
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
