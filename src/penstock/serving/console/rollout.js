// A rollout: a version that ranks beside the champion, in the dark or for a share of the users, and what it came to.
import { interval } from "./charts.js";
import { clock, count, fact, fill, make, panel, percent, span, table, text, unchanged, verdict, version } from "./dom.js";

const IN_SIGHT_MS = 24 * 3600 * 1000; // an ended one stays for a day
const MODES = {
  shadow: ["Shadow", (share) => `ranks what the champion answers ${share} of the users; nobody sees its lists`],
  canary: ["Canary", () => "always the same ones; ends itself when they choose less or it fails more"],
  ab: ["A/B", () => "always the same ones; ends itself only when it fails more"],
};
const ARMS = { champion: "Champion", challenger: "Challenger", shadow: "Shadow" };

const rate = (value) => (value === null ? "–" : `${(100 * value).toFixed(2)}%`);
const points = (value) => `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(2)}`;
const level = (found) => `${Number((100 * found.confidence).toPrecision(4))}%`;
const ms = (value) => (value === null ? "–" : value.toFixed(1));
const reach = ({ mode, share }) => (mode === "shadow" ? "in the dark" : `for ${percent(share)} of the users`);

// One line where a rollout runs; it leads to the panel.
export function rolloutLink(found) {
  if (!found || found.rollout.ended_at) return null;
  return make("a", { href: "#challengers", textContent: `v${found.rollout.number} ${reach(found.rollout)}` });
}

// A place for the panel, empty while there is nothing to tell; draw takes the answer of GET /v1/rollout. Only figures are drawn
// again as they move, so that a focus stays.
export function rolloutPanel() {
  const body = make("div", { className: "rollout" }), whole = panel("Rollout", body), place = make("div");
  const draw = ({ rollout: found, error }) => {
    const ended = found && found.rollout.ended_at;
    if (!found || (ended && Date.now() - Date.parse(ended) > IN_SIGHT_MS)) { fill(place); return; }
    if (!place.firstChild) fill(place, whole);
    if (!unchanged(body, [found.rollout, found.confidence, found.stop, error])) fill(body, frame(found, error));
    const tiles = body.querySelector(".tiles"), rows = body.querySelector("tbody");
    if (!unchanged(tiles, found)) { fill(tiles, ...facts(found)); fill(rows, ...arms(found)); }
  };
  return { place, draw };
}

function frame(found, error) {
  const { rollout } = found, ended = rollout.ended_at;
  const columns = ["Arm", ...["Answers", "Users", "Failed", `Click rate, ${level(found)} interval`, "p50 ms", "p99 ms"].map((name) => ({ name, number: true }))];
  return [make("p", {}, verdict(ended ? "ended" : "runs", ended ? "idle" : "pass"), " ", version(rollout.number), " beside the champion ", version(rollout.champion), `, since ${clock(rollout.started_at)}.`), ended ? text("p", `Ended ${clock(ended)}: ${rollout.ended_why}`) : null,
    error ? text("p", `Looking after it failed: ${error}`, "alert") : null, !ended && found.stop ? text("p", `It ends itself: ${found.stop}.`, "alert") : null,
    make("dl", { className: "tiles" }), table("Arms of the rollout", columns, [], "folding"), ended ? null : howToEnd(rollout)];
}

function howToEnd({ mode }) {
  return make("p", { className: "dim" }, "To end it: ", text("code", "penstock rollout stop --reason \"…\""), mode === "shadow" ? ["; what its lists would have earned: ", text("code", "penstock rollout evaluate")] : "; the champion answers everybody again", ".");
}

function facts(found) {
  const { rollout, agreement, shadows_dropped: dropped } = found, [name, words] = MODES[rollout.mode];
  const first = fact(name, reach(rollout), words(percent(rollout.share)));
  if (rollout.mode === "shadow") return [first, fact("Items that both show", percent(agreement), "of the champion’s, mean over answers"), fact("Left out", count(dropped, "answer"), "of this process, while it could not keep up")];
  const [word, look, why] = saying(found);
  return [first, fact(rollout.ended_at ? "What it said" : "What it says so far", verdict(word, look), why), fact("Difference of click rates", ...difference(found))];
}

// In plain words, by the service's own rule: nothing while an arm has too few answers, or the interval holds 0.
function saying({ rollout, arms: both, difference_low: low, difference_high: high, click_window_s, min_requests, ...found }) {
  const told = Math.min(...both.map((one) => one.told)), open = rollout.ended_at ? "could not be told" : "cannot be told yet";
  if (told < min_requests) return [open, "idle", `${count(told, "answer")} in the smaller arm, ${min_requests.toLocaleString()} are needed; one counts ${span(click_window_s)} after it was given`];
  if (low === null) return [open, "idle", "an arm has fewer than two users"];
  if (low <= 0 && high >= 0) return [open, "idle", `the ${level(found)} interval holds 0`];
  if (low > 0) return ["better", "pass", `the whole ${level(found)} interval is above 0`];
  return ["worse", "fail", `the whole ${level(found)} interval is below 0: ${rollout.mode === "canary" ? "a canary ends itself" : "an A/B goes on until a person ends it"}`];
}

function difference(found) {
  const { difference: observed, difference_low: low, difference_high: high } = found;
  if (observed === null) return ["–", "there is one once both arms have a click rate"];
  if (low === null) return [points(observed), "percentage points"];
  return [[points(observed), interval({ low, high, observed }, [low, high, 0], 0)], `percentage points, challenger less champion; ${level(found)}: ${points(low)} … ${points(high)}`];
}

// The click rates' intervals are drawn on one scale.
function arms({ rollout, arms: both, click_window_s }) {
  const ends = both.flatMap((one) => [one.click_rate_low, one.click_rate_high, one.click_rate]);
  const cell = (name, ...children) => make("td", { className: name === "click rate" ? "number whole" : "number", "data-name": name }, ...children);
  return both.map((arm) => make("tr", {}, make("th", { scope: "row", textContent: `${ARMS[arm.name]} v${arm.name === "champion" ? rollout.champion : rollout.number}` }),
    cell("answers", arm.requests.toLocaleString()), cell("users", arm.users.toLocaleString()), cell("failed", arm.failed.toLocaleString(), arm.failed ? ` (${rate(arm.error_rate)})` : null),
    cell("click rate", ...clickRate(arm, ends, click_window_s)), cell("p50 ms", ms(arm.p50_ms)), cell("p99 ms", ms(arm.p99_ms))));
}

function clickRate(arm, ends, window_s) {
  if (arm.name === "shadow") return ["–", text("small", "nobody saw its lists")];
  if (arm.click_rate === null) return ["–", text("small", `no answer is ${span(window_s)} old`)];
  const of = `of ${count(arm.told, "answer")}`;
  if (arm.click_rate_low === null) return [rate(arm.click_rate), text("small", of)];
  return [rate(arm.click_rate), text("small", `${rate(arm.click_rate_low)} … ${rate(arm.click_rate_high)}, ${of}`), interval({ low: arm.click_rate_low, high: arm.click_rate_high, observed: arm.click_rate }, ends)];
}
