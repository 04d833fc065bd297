// History: every promotion, rollback, decision and refusal, newest first, with who and why.
import { call } from "./api.js";
import { clock, fill, make, panel, text, unchanged, verdict, version } from "./dom.js";

export const title = "History";
const WORDS = {
  promote: ["promoted", "pass"], rollback: ["rolled back", "wait"], approve: ["approved", "pass"], reject: ["rejected", "fail"], asked: ["asks to serve", "idle"], refused: ["refused by a gate", "fail"],
  quarantined: ["snapshot refused", "fail"], failed: ["round failed", "fail"], "quarantine replay": ["quarantine replayed", "wait"], "quarantine waive": ["quarantine waived", "wait"], "quarantine fix": ["quarantine fixed", "wait"], reconcile: ["put right", "idle"], "watch-period": ["watch ended", "idle"],
  "create-token": ["token made", "idle"], "revoke-token": ["token revoked", "idle"], "rollout-start": ["rollout began", "idle"], "rollout-stop": ["rollout ended", "idle"], erase: ["user erased", "wait"], prune: ["bundle removed", "idle"],
};
const KINDS = { "everything": () => true, "changes of the champion": (one) => ["promote", "rollback"].includes(one.kind), "decisions": (one) => ["approve", "reject", "rollback"].includes(one.kind) || one.kind.startsWith("quarantine "), "refusals": (one) => ["refused", "reject", "quarantined", "failed"].includes(one.kind) || one.kind.endsWith("-refused") };

export function mount(root) {
  const audit = make("p", { className: "dim" }), list = make("div");
  const filter = make("select", {}, ...Object.keys(KINDS).map((name) => make("option", { value: name, textContent: name })));
  fill(root, make("h1", { className: "hidden-title", textContent: "History", tabIndex: -1 }), panel("History", make("div", { className: "row" }, make("label", {}, "Show", filter)), audit, list));
  let known = null;
  const draw = () => {
    const entries = known.entries.filter(KINDS[filter.value]);
    if (!unchanged(list, [entries, filter.value])) fill(list, entries.length ? make("ol", { className: "timeline" }, ...entries.map(entry)) : text("p", known.entries.length ? "Nothing of that kind." : "Nothing has happened yet. Promotions, rollbacks and refusals appear here, each with who and why.", "dim"));
  };
  filter.addEventListener("change", () => known && draw());
  const refresh = async () => {
    ({ history: known } = await call("/v1/console/history"));
    audit.textContent = known.audit_ok ? `The audit log is whole: ${known.audit}.` : `The audit log was altered: ${known.audit}.`;
    audit.classList.toggle("alert", !known.audit_ok);
    draw();
  };
  return { refresh };
}

function entry(one) {
  const [word, look] = WORDS[one.kind] || [one.kind.endsWith("-refused") ? `${one.kind.replace("-refused", "")} turned down` : one.kind, one.kind.endsWith("-refused") ? "fail" : "idle"];
  return make("li", { className: look }, make("time", { textContent: clock(one.at), title: one.at }), make("div", {},
    make("p", {}, verdict(word, look), " ", one.version && /^[0-9]+$/.test(one.version) ? version(one.version) : text("span", one.about || ""), one.previous && one.kind !== "watch-period" ? [" in place of ", version(one.previous)] : null, text("span", ` by ${one.who}`, "dim")),
    one.why ? text("p", one.why, "why") : null,
    make("details", {}, text("summary", "Record"), make("dl", { className: "facts" }, ...Object.entries({ ...(one.round_id ? { round: one.round_id } : {}), ...one.details }).map(([name, value]) => make("div", {}, text("dt", name.replaceAll("_", " ")), make("dd", {}, text("code", typeof value === "object" ? JSON.stringify(value) : String(value)))))))));
}
