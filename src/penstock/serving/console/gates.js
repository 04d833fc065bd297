// Gates: a table with each interval drawn beside its threshold, and the form that approves or rejects.
import { call } from "./api.js";
import { interval } from "./charts.js";
import { clock, figure, make, short, table, text, verdict } from "./dom.js";
import { allowed, signature } from "./session.js";

function row(gate) {
  const measured = gate.low !== null && gate.high !== null && gate.observed !== null;
  const shown = measured ? make("span", {}, `${figure(gate.low)} … ${figure(gate.high)}`, interval(gate, [gate.low, gate.high, gate.threshold, gate.observed], gate.threshold, gate.comparison === ">=")) : "";
  return make("tr", {},
    make("th", { scope: "row" }, gate.name.replaceAll("_", " "), gate.slice && gate.slice !== "all" ? text("small", ` ${gate.slice}`, "dim") : null, gate.metric ? text("small", ` ${gate.metric}`, "dim") : null),
    make("td", {}, verdict(gate.passed ? "passed" : "refused", gate.passed ? "pass" : "fail")),
    make("td", { className: "number", "data-name": "observed", textContent: figure(gate.observed) }),
    make("td", { className: "number", "data-name": measured ? "interval" : null }, shown),
    make("td", { className: "number", "data-name": "threshold", textContent: `${gate.comparison === ">=" ? "≥" : "≤"} ${figure(gate.threshold)}` }),
    make("td", { className: "detail", textContent: gate.detail }));
}

export function gateTable(gates, caption) {
  return table(caption, ["Gate", "Verdict", { name: "Observed", number: true }, { name: "Interval", number: true }, { name: "Threshold", number: true }, "Detail"], [...gates].sort((a, b) => a.passed - b.passed).map(row), "folding"); // what refused comes first
}

export function gateSummary(gates) {
  const passed = gates.filter((gate) => gate.passed).length;
  return verdict(`${passed} of ${gates.length} gates passed`, gates.length && passed === gates.length ? "pass" : "fail");
}

// A decision is a POST with a name and a reason; there is no link that decides.
export function decisionForm(challenger, say, after) {
  if (!allowed("decide")) return text("p", "Your token may look, not decide.", "dim");
  const who = signature();
  const reason = make("input", { required: true, maxLength: 2000, autocomplete: "off", placeholder: "what did you look at?" });
  const approve = make("button", { type: "submit", value: "approve", textContent: "Approve" });
  const reject = make("button", { type: "submit", value: "reject", className: "second", textContent: "Reject" });
  const form = make("form", { className: "row decision" }, who.field, make("label", { className: "grow" }, "Reason", reason), approve, reject);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const decision = event.submitter ? event.submitter.value : "approve", actor = who.name();
    approve.disabled = reject.disabled = true;
    say(decision === "approve" ? `Approving version ${challenger.number}: verifying and promoting…` : `Rejecting version ${challenger.number}…`);
    try {
      const answer = await call(`/v1/challengers/${challenger.number}/${decision}`, { actor, reason: reason.value, seen: challenger.binding });
      say(decision === "approve" ? `Version ${challenger.number} was approved; version ${answer.version} serves now.` : `Version ${challenger.number} was rejected and never serves.`);
      await after();
    } catch (error) { say(error.message, true); } finally { approve.disabled = reject.disabled = false; }
  });
  return form;
}

// What a decision is about first: what refused, and every comparison that has an interval on all requests.
const headline = (gate) => !gate.passed || (gate.low !== null && (!gate.slice || gate.slice === "all"));

function gatesOf(challenger, brief) {
  const some = challenger.gates.filter(headline), caption = `Gates of version ${challenger.number}`;
  if (!brief || some.length === challenger.gates.length) return gateTable(challenger.gates, caption);
  return [gateTable(some, `Main gates of version ${challenger.number}`), make("details", {}, text("summary", `All ${challenger.gates.length} gates`), gateTable(challenger.gates, caption))];
}

// brief: the main gates, the others folded away.
export function challengerCard(challenger, say, after, brief = false) {
  return make("article", { className: "card" },
    make("header", {}, make("h3", {}, make("a", { href: `#challengers/${challenger.number}`, textContent: `Version ${challenger.number}` })), gateSummary(challenger.gates),
      make("span", { className: "dim" }, "bundle ", text("code", short(challenger.digest)), ` · ${clock(challenger.created_at)}` + (challenger.requests ? ` · ${challenger.requests} requests of ${challenger.users} users` : "")),
      challenger.report ? make("a", { href: challenger.report, textContent: "gate report" }) : null),
    challenger.error ? text("p", challenger.error, "alert") : gatesOf(challenger, brief), decisionForm(challenger, say, after));
}

// A version that served before serves again: an administrator's order, with a reason.
export function rollbackForm(number, say, after) {
  if (!allowed("administer")) return null;
  const who = signature(), reason = make("input", { required: true, maxLength: 2000, autocomplete: "off", placeholder: "why go back?" });
  const button = make("button", { type: "submit", className: "second", textContent: "Serve it again" });
  const form = make("form", { className: "row" }, who.field, make("label", { className: "grow" }, "Reason", reason), button);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    say(`Rolling back to version ${number}: verifying first…`);
    try {
      const answer = await call("/v1/rollback", { to: number, actor: who.name(), reason: reason.value });
      say(`Version ${answer.serving} serves again.`);
      await after();
    } catch (error) { say(error.message, true); } finally { button.disabled = false; }
  });
  return form;
}
