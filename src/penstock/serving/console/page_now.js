// Now: the loop with live numbers, freshness against its objective, the champion, fresh and stale by round, what waits.
import { call } from "./api.js";
import { gauge, lineChart, stack } from "./charts.js";
import { challengerCard } from "./gates.js";
import { clock, count, fact, figure, fill, make, panel, short, span, table, text, unchanged, verdict, version, when } from "./dom.js";
import { rolloutLink } from "./rollout.js";

export const title = "Now";
const OUTCOMES = ["promoted", "waiting", "refused", "quarantined", "failed", "skipped"];
const SAID = { waiting: "put to a person" };
const LOOK = { promoted: "pass", refused: "fail", failed: "fail", quarantined: "fail", waiting: "wait" };

export function mount(root) {
  const parts = Object.fromEntries(["failure", "loop", "champion", "freshness", "waiting", "curve", "rounds"].map((name) => [name, make("div")]));
  parts.message = make("p", { className: "message", role: "status", "aria-live": "polite" });
  const overview = make("div", { className: "overview" }, panel("Fresh against stale", parts.curve), make("div", { className: "stacked" }, panel("Freshness", parts.freshness), panel("Champion", parts.champion)));
  const waiting = panel("Waits for a decision", parts.message, parts.waiting);
  fill(root, make("h1", { className: "hidden-title", textContent: "Now", tabIndex: -1 }), parts.failure, panel("The loop", parts.loop), overview, waiting, panel("Rounds", parts.rounds));
  const say = (words, bad = false) => { parts.message.textContent = words; parts.message.classList.toggle("bad", bad); };
  const refresh = async (status) => {
    const [{ loop }, { challengers }, { rollout }] = await Promise.all([call("/v1/console/loop"), call("/v1/challengers"), call("/v1/rollout")]);
    drawFailure(parts.failure, status.service);
    drawLoop(parts.loop, status, challengers);
    drawChampion(parts.champion, status, rolloutLink(rollout));
    drawFreshness(parts.freshness, loop);
    drawWaiting(parts.waiting, challengers, status.champion, say, refresh.bind(null, status));
    const place = challengers.length || parts.message.textContent ? overview.previousElementSibling : overview; // what waits comes first, and what was just decided
    if (waiting.previousElementSibling !== place) place.after(waiting);
    drawCurve(parts.curve, loop);
    drawRounds(parts.rounds, status, loop.stages);
  };
  return { refresh };
}

function drawFailure(box, service) {
  const problem = service.failure ? `Version ${service.failure.version} could not be loaded, the old one stays. ${service.failure.error}` : service.poll_error;
  if (!unchanged(box, problem || "")) fill(box, problem ? make("div", { className: "alert", role: "alert", textContent: problem }) : null);
}

function drawLoop(box, status, challengers) {
  const { events, snapshots, quarantine, rounds, service, champion } = status;
  const held = (quarantine.by_status.held || 0), ended = Object.values(rounds).reduce((sum, one) => sum + one, 0);
  const judged = (rounds.promoted || 0) + (rounds.waiting || 0), refused = rounds.refused || 0;
  const nodes = [
    ["Journal", events.pending.toLocaleString(), `events waiting, of ${events.total.toLocaleString()} accepted`, "#data", ""],
    ["Validate", snapshots.accepted.toLocaleString(), held ? `snapshots good; ${held.toLocaleString()} in quarantine` : "snapshots good; nothing in quarantine", "#data", held ? "bad" : ""],
    ["Learn", ended.toLocaleString(), `${ended === 1 ? "round" : "rounds"} so far${rounds.failed ? `, ${rounds.failed} failed` : ""}`, "#history", rounds.failed ? "bad" : ""],
    ["Gates", judged.toLocaleString(), `passed, ${refused} refused`, "#challengers", ""],
    ["Decide", challengers.length.toLocaleString(), challengers.length === 1 ? "version waits for a person" : "versions wait for a person", "#challengers", challengers.length ? "wait" : ""],
    ["Serve", service.version ? `v${service.version}` : "–", service.version ? `for ${span(champion && champion.since_s)}, ${count(service.swapped, "swap")} here` : "nothing loaded yet", "#try", service.version ? "good" : "wait"],
  ];
  if (unchanged(box, nodes)) return;
  fill(box, make("ol", { className: "loop" }, ...nodes.map(([name, value, note, href, look]) => make("li", {}, make("a", { href, className: look }, text("span", name, "label"), text("strong", value), text("span", note, "note"))))),
    text("p", "every answer and every click goes back into the journal", "return"));
}

function drawChampion(box, status, beside) {
  const { champion, service } = status;
  if (unchanged(box, [champion && champion.version, service.version, service.swapped, Math.round((champion ? champion.age_s : 0) / 5), beside && beside.textContent])) return;
  if (!champion) { fill(box, text("p", "No version was promoted yet.", "dim"), make("p", {}, "Send events to ", text("code", "POST /v1/events"), " or ", text("code", "penstock ingest"), ", then run ", text("code", "penstock round"), "; the first version waits here for your approval.")); return; }
  const loaded = service.version === champion.version ? `loaded ${span(service.loaded_s)} ago` : service.version ? `not yet: v${service.version} answers here` : "not loaded here";
  fill(box, make("div", { className: "champion" }, make("a", { className: "version", href: `#challengers/${champion.version}`, textContent: `v${champion.version}` }),
    make("dl", { className: "facts" }, ...[["Its age", make("strong", { textContent: span(champion.age_s) })], ["Serving for", `${champion.since_s === null ? "–" : span(champion.since_s)}, ${loaded}`], ["Learned until", clock(champion.learned_until)], ...(beside ? [["Beside it", beside]] : []),
      ["Made of", make("span", {}, "bundle ", text("code", short(champion.digest)), ", data ", text("code", short(champion.data_sha256)))]].map(([name, value]) => make("div", {}, text("dt", name), make("dd", {}, value))))));
}

function drawFreshness(box, { freshness }) {
  if (unchanged(box, [freshness.last_s, Math.round((freshness.waiting_s || 0) / 2), freshness.waiting_s === null])) return;
  const { objective_s, last_s, waiting_s, steps } = freshness;
  if (last_s === null && waiting_s === null) { fill(box, make("p", { className: "dim" }, `The clock starts with the first event. Objective: ${span(objective_s)} from an event to a model that learned from it.`)); return; }
  fill(box, last_s === null ? null : gauge("from event to serving, last promotion", last_s, objective_s, span, `objective ${span(objective_s)} · ${last_s <= objective_s ? "met" : "missed"}`),
    steps.length ? stack(steps, span) : null,
    waiting_s === null ? text("p", "No event waits: everything accepted is in a snapshot.", "dim") : gauge("the oldest event in the journal has waited", waiting_s, objective_s, span, waiting_s <= objective_s ? "within the objective" : "over the objective: penstock round runs one, penstock up runs them on schedule"));
}

function drawWaiting(box, challengers, champion, say, after) {
  if (unchanged(box, challengers)) return;
  const none = champion ? "Nobody waits. A version that passes its gates appears here for a decision." : "Nobody waits yet. The first round's version will.";
  fill(box, ...(challengers.length ? challengers.map((one) => challengerCard(one, say, after, true)) : [text("p", none, "dim")]));
}

function drawCurve(box, loop) {
  if (unchanged(box, [loop.curve, loop.markers])) return;
  const curve = loop.curve.filter((one) => one.fresh !== null);
  if (!curve.length) { fill(box, text("p", "Here each round will show the version that learned from it beside the one that served meanwhile, on the same newest requests.", "dim")); return; }
  const served = new Map(loop.markers.filter((one) => one.kind === "promote").map((one) => [one.version, one]));
  const compared = curve.filter((one) => one.stale !== null), promoted = compared.filter((one) => served.has(one.version));
  const gain = promoted.reduce((sum, one) => sum + (one.fresh - one.stale) * one.requests, 0) / Math.max(1, promoted.reduce((sum, one) => sum + one.requests, 0));
  fill(box, promoted.length ? make("p", { className: "headline" }, make("strong", { textContent: `${gain < 0 ? "" : "+"}${figure(gain)}` }), " ", text("span", `${loop.metric}, fresh over stale, in ${count(promoted.length, "promoted round")}`, "dim")) : text("p", "No promoted round can be compared yet.", "dim"),
    lineChart({
      title: `${loop.metric} by round`, across: "Version", labels: curve.map((one) => `v${one.version}`), height: 310, format: (value) => value.toFixed(3),
      note: (place) => `v${curve[place].version}, ${clock(curve[place].at)}, ${count(curve[place].requests, "request")}${served.has(curve[place].version) ? "" : `, ${curve[place].outcome}`}`,
      series: [{ name: "fresh: learned from the round", style: "s0", points: curve.map((one) => ({ y: one.fresh, low: one.fresh_low, high: one.fresh_high, hollow: !served.has(one.version) })) },
        { name: "stale: served meanwhile", style: "s1 dashed", points: curve.map((one) => (one.stale === null ? null : { y: one.stale })) }],
      markers: [...curve.flatMap((one, at) => (served.has(one.version) ? [{ at, text: `promoted ${clock(served.get(one.version).at)}` }] : [])), ...rollbacks(loop.markers, curve)],
    }), make("p", { className: "dim small" }, `Each round’s newest requests, which neither version had learned from. `, text("span", "◆", "flag-key"), " promoted, ", text("span", "◆", "back-key"), " rolled back after this round; a hollow dot never served. Whiskers: 95% interval of the mean over users."));
}

// Where the champion went back: after the last round before it.
function rollbacks(markers, curve) {
  return markers.filter((one) => one.kind === "rollback").map((one) => ({ at: curve.findLastIndex((round) => round.at <= one.at), style: "back", text: `rolled back to v${one.version} ${clock(one.at)}` })).filter((one) => one.at >= 0);
}

function drawRounds(box, status, stages) {
  const { rounds, recent_rounds: recent } = status;
  if (unchanged(box, [rounds, recent, stages])) return;
  const known = OUTCOMES.filter((name) => rounds[name]).concat(Object.keys(rounds).filter((name) => !OUTCOMES.includes(name)));
  const bar = known.map((name) => { const part = make("span", { className: `o-${name}` }); part.style.flex = String(rounds[name]); return part; });
  const legend = known.map((name) => make("li", {}, make("i", { className: `o-${name}` }), `${rounds[name]} ${SAID[name] || name}`));
  const rows = recent.map((round) => make("tr", {}, make("th", { scope: "row" }, text("code", round.round_id)), make("td", {}, verdict(SAID[round.outcome] || round.outcome || round.status, LOOK[round.outcome] || "idle")),
    make("td", {}, round.version ? version(round.version) : "–"), when(round.ended_at), make("td", { textContent: round.reason })));
  fill(box, known.length ? make("div", { className: "stack", "aria-hidden": "true" }, ...bar) : null,
    make("ul", { className: "legend" }, ...(legend.length ? legend : [text("li", "No round has run yet.", "dim")])),
    stages.length ? [make("h3", { textContent: "Where the last round's time went" }), ...stack(stages.filter((one) => one.seconds >= 0.05), span)] : null,
    recent.length ? make("details", {}, text("summary", "Recent rounds"), table("Recent rounds", ["Round", "Came out", "Version", "Ended", "Reason"], rows)) : null);
}
