// Try it, where the service labels texts: type one, see every label's probability, from the version that serves.
import { call } from "./api.js";
import { fill, make, percent, text } from "./dom.js";

export function labelForm() {
  const words = make("textarea", { rows: 3, maxLength: 20000, required: true, placeholder: "a text to label" });
  const form = make("form", { className: "row" }, make("label", { className: "grow" }, "Text", words), make("button", { type: "submit", textContent: "Label it" }));
  const message = make("p", { className: "message", role: "status", "aria-live": "polite" }), result = make("ul", { className: "parts" });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const answer = await call("/v1/classifications", { texts: [words.value] }), [{ label, probabilities }] = answer.results;
      const ranked = Object.entries(probabilities).sort(([, a], [, b]) => b - a).slice(0, 10);
      fill(result, ...ranked.map(([name, share]) => { const bar = make("i"); bar.style.width = `${Math.max(1, share * 100)}%`; return make("li", {}, text("span", name), make("span", { className: "part" }, bar), text("span", percent(share), "number")); }));
      message.textContent = `“${label}”, by version ${answer.version}.`;
      message.classList.remove("bad");
    } catch (error) { message.textContent = error.message; message.classList.add("bad"); }
  });
  return make("div", {}, text("p", "Nothing is learned from what you type here.", "dim"), form, message, result);
}
