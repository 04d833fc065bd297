// Data: snapshots, what was put aside and why, how the stream drifts, Data Docs; what is held can be sent back.
import { call } from "./api.js";
import { lineChart } from "./charts.js";
import { clock, count, fact, fill, make, named, panel, percent, table, text, ticking, unchanged, verdict, when } from "./dom.js";
import { allowed, signature } from "./session.js";

export const title = "Data";
const LOOK = { learned: "pass", closed: "wait", quarantined: "fail", open: "idle" };

export function mount(root) {
  const parts = Object.fromEntries(["tiles", "drift", "snapshots", "quarantine"].map((name) => [name, make("div")]));
  const message = make("p", { className: "message", role: "status", "aria-live": "polite" });
  const say = (words, bad = false) => { message.textContent = words; message.classList.toggle("bad", bad); };
  fill(root, make("h1", { className: "hidden-title", textContent: "Data", tabIndex: -1 }), panel("Events and snapshots", parts.tiles), panel("Quarantine", message, parts.quarantine), panel("Drift", parts.drift), panel("Snapshots", parts.snapshots));
  const refresh = async (status) => {
    const { data } = await call("/v1/console/data");
    drawTiles(parts.tiles, status, data);
    drawQuarantine(parts.quarantine, data, say, () => refresh(status));
    if (!unchanged(parts.drift, [data.snapshots, data.mix])) fill(parts.drift, ...drift(data));
    if (!unchanged(parts.snapshots, data.snapshots)) fill(parts.snapshots, snapshotTable(data.snapshots));
  };
  return { refresh };
}

function drawTiles(box, { events, snapshots }, data) {
  const held = data.by_status.held || 0, settled = (data.by_status.replayed || 0) + (data.by_status.waived || 0);
  if (unchanged(box, [events, snapshots, data.by_status])) return;
  fill(box, make("dl", { className: "tiles" }, fact("Events accepted", events.total.toLocaleString(), `${events.pending.toLocaleString()} wait for a snapshot`), fact("Snapshots accepted", snapshots.accepted.toLocaleString(), `${snapshots.quarantined} refused whole`),
    fact("In quarantine", held.toLocaleString(), settled ? `held; ${settled.toLocaleString()} settled before` : "held")));
}

const PLOTS = [
  ["Clicks per impression", (one) => one.click_rate, percent, "s0", 1], ["Rows", (one) => one.rows, (value) => Math.round(value).toLocaleString(), "s3", Infinity],
  ["Late rows", (one) => one.late_share, percent, "s4", 1], ["Rows put aside", (one) => one.bad_share, percent, "s2", 1],
];

function drift(data) {
  if (!data.snapshots.length) return [text("p", "Each snapshot will add a point: volume, click rate, late rows, rows put aside.", "dim")];
  const labels = ticking(data.snapshots.map((one) => one.created_at));
  return [text("p", "One point for each snapshot, by the time it closed; a hollow one was refused, a gap is one whose acts were not kept.", "dim"), make("div", { className: "plots" }, ...PLOTS.map(([name, value, format, style, most]) => {
    const points = data.snapshots.map((one) => (value(one) === null ? null : { y: value(one), hollow: one.status === "quarantined" }));
    if (!points.some(Boolean)) return null;
    const limit = name === "Rows put aside" ? { y: data.limits.bad_share, text: `refused above ${percent(data.limits.bad_share)}` } : null;
    return make("div", {}, text("h3", name), lineChart({ title: name, across: "Closed", labels, series: [{ name, style, points }], format, height: 170, zero: true, most, limit, note: told(data) }));
  }), ...mixPlots(data, labels))];
}

const told = (data) => (place) => `${data.snapshots[place].snapshot_id}, ${data.snapshots[place].status}`;
const TONES = ["s0", "s1", "s2", "s3", "s4", "s5"];

// What people acted on: the categories' shares, and how far each snapshot's lie from the ones before.
function mixPlots({ mix, ...data }, labels) {
  const points = (values) => values.map((y) => (y === null ? null : { y })), shares = Object.entries(mix ? mix.shares : {});
  if (!shares.length) return [];
  const limit = mix.limit === null ? null : { y: mix.limit, text: `refused above ${percent(mix.limit)}` };
  return [make("div", {}, text("h3", "Category mix"), lineChart({ title: "Category mix", across: "Closed", labels, series: shares.map(([name, values], place) => ({ name, style: TONES[place], points: points(values) })), format: percent, height: 170, zero: true, most: 1, note: told(data) })),
    mix.distance.some((one) => one !== null) ? make("div", {}, text("h3", "Distance from the mix before"), lineChart({ title: "Distance from the mix before", across: "Closed", labels, series: [{ name: "share that moved to other categories", style: "s1", points: points(mix.distance) }], format: percent, height: 170, zero: true, most: 1, limit, note: told(data) })) : null];
}

function snapshotTable(snapshots) {
  if (!snapshots.length) return make("p", { className: "dim" }, "No snapshot yet: one closes when enough events have waited. ", text("code", "penstock ingest"), " or ", text("code", "POST /v1/events"), " bring them.");
  const rows = [...snapshots].reverse().map((one) => make("tr", {}, make("th", { scope: "row" }, text("code", one.snapshot_id), text("small", `${clock(one.window_start)} – ${clock(one.window_end)}`)), make("td", {}, verdict(one.status, LOOK[one.status])),
    make("td", { className: "number", textContent: one.rows.toLocaleString() }), make("td", { textContent: Object.entries(one.counts_by_kind).map(([kind, number]) => `${number.toLocaleString()} ${kind}`).join(", ") }),
    make("td", { className: "number", textContent: percent(one.bad_share) }), make("td", {}, one.docs ? make("a", { href: one.docs, "aria-label": `Data Docs of ${one.snapshot_id}`, textContent: "Data Docs" }) : text("span", "no pages kept", "dim"))));
  return table("Snapshots", ["Snapshot", "Status", { name: "Rows", number: true }, "Kinds", { name: "Put aside", number: true }, "Validation"], rows);
}

function drawQuarantine(box, data, say, after) {
  if (unchanged(box, [data.quarantine, data.reasons])) return;
  if (!data.quarantine.length) { fill(box, text("p", "Nothing was put aside. Rows that fail validation appear here, each with its reason.", "dim")); return; }
  const held = data.quarantine.filter((one) => one.status === "held");
  const rows = data.quarantine.map((one) => make("tr", {}, make("td", {}, one.status === "held" ? make("input", { type: "checkbox", value: String(one.id), "aria-label": `Choose entry ${one.id}` }) : ""), make("th", { scope: "row", textContent: String(one.id) }),
    make("td", {}, one.event ? `${one.event.kind || "?"} of ${one.event.item_id || "?"}` : "whole snapshot", one.event ? named("small", one.event.user_id || "") : text("small", one.snapshot_id)),
    make("td", { textContent: one.reasons.join("; ") }), make("td", {}, verdict(one.status, one.status === "held" ? "wait" : "idle")), when(one.at)));
  fill(box, data.reasons.length ? [text("h3", "Held, by reason"), make("ul", { className: "reasons" }, ...data.reasons.map((one) => make("li", {}, text("strong", one.rows.toLocaleString()), " ", one.reason)))] : null,
    held.length && allowed("decide") ? settleForm(box, held, say, after) : null, make("div", { className: "tall" }, table("Quarantine", ["Choose", "Entry", "What", "Reasons", "Status", "Since"], rows)));
}

function settleForm(box, held, say, after) {
  const who = signature(), reason = make("input", { required: true, maxLength: 2000, autocomplete: "off", placeholder: "what was repaired, or why it may be left" });
  const replay = make("button", { type: "submit", value: "replay", textContent: "Replay" }), waive = make("button", { type: "submit", value: "waive", className: "second", textContent: "Waive" });
  const all = make("input", { type: "checkbox" }), entries = () => box.querySelectorAll("tbody input");
  all.addEventListener("change", () => { for (const one of entries()) one.checked = all.checked; });
  const form = make("form", { className: "row" }, who.field, make("label", { className: "grow" }, "Reason", reason), replay, waive, make("label", { className: "check" }, all, " choose all that is held"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const how = event.submitter ? event.submitter.value : "replay", chosen = [...entries()].filter((one) => one.checked).map((one) => Number(one.value)), actor = who.name();
    const ids = chosen.length ? chosen : held.length === 1 ? [held[0].id] : [];
    if (!ids.length) { say("Choose the entries first.", true); return; }
    replay.disabled = waive.disabled = true;
    try {
      const done = await call(`/v1/quarantine/${how}`, { ids, actor, reason: reason.value });
      say(how === "replay" ? `${count(done.entries, "entry")} replayed: ${count(done.released, "event")} wait again, and the next snapshot takes them.` : `${count(done.entries, "entry")} waived.`);
      await after();
    } catch (error) { say(error.message, true); } finally { replay.disabled = waive.disabled = false; }
  });
  return make("div", {}, text("p", "After a fix, replay sends what is held back into the journal; waive settles it without learning from it.", "dim"), form);
}
