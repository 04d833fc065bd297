// The console: reads /v1/status and /v1/challengers, sends decisions and events. Text goes in as text, never as HTML.
const POLL_MS = 3000, TOP = 10;
const OUTCOMES = ["promoted", "waiting", "refused", "quarantined", "failed", "skipped"];
const $ = (id) => document.getElementById(id);

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("data-") || name.startsWith("aria-") || ["scope", "for", "title", "role"].includes(name)) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}
const fill = (element, ...children) => element.replaceChildren(...children);

async function call(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ? answer.error.message : response.statusText);
  return answer;
}

// ---- figures as people read them
function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const s = Math.max(0, seconds);
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 129600) return `${(s / 3600).toFixed(1)} h`;
  return `${Math.round(s / 86400)} days`;
}
const short = (digest) => (digest ? digest.slice(0, 10) : "–");
const clock = (iso) => (iso ? new Date(iso).toLocaleString([], { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" }) : "–");
function figure(value) {
  if (value === null || value === undefined) return "not measured";
  if (value < 0) return `−${figure(-value)}`;
  if (value === 0) return "0";
  return value < 0.001 ? value.toExponential(1) : value < 10 ? value.toFixed(4) : value < 1000 ? value.toFixed(1) : Math.round(value).toLocaleString();
}
function say(id, text, bad = false) { $(id).textContent = text; $(id).classList.toggle("bad", bad); }

// ---- Now
function showNow(status) {
  const { champion, service, snapshots, events } = status;
  $("environment").textContent = `${status.environment} · ${status.task}`;
  $("environment").hidden = false;
  $("champion-version").textContent = champion ? `v${champion.version}` : service.version ? `v${service.version}` : "none";
  $("champion-note").textContent = champion ? `bundle ${short(champion.digest)} · data ${short(champion.data_sha256)}` : "no version was promoted yet";
  const report = $("champion-report");
  report.hidden = !champion;
  if (champion) report.href = `/reports/${champion.version}`;
  const tiles = [
    ["Freshness", span(status.freshness_s), "event to serving, last promotion"],
    ["Champion's age", span(champion && champion.age_s), champion && champion.since_s !== null ? `serving for ${span(champion.since_s)}` : ""],
    ["Serving here", service.version ? `v${service.version}` : "–", service.version ? `loaded ${span(service.loaded_s)} ago · ${service.swapped} ${service.swapped === 1 ? "swap" : "swaps"}` : "not loaded"],
    ["Learned until", champion ? `${span((new Date(status.at) - new Date(champion.learned_until)) / 1000)} ago` : "–", "events after it move the counts live"],
    ["Snapshots", snapshots.accepted.toLocaleString(), `${snapshots.quarantined} quarantined`],
    ["Events waiting", events.pending.toLocaleString(), `of ${events.total.toLocaleString()} accepted`],
  ];
  fill($("tiles"), ...tiles.map(([name, value, note]) => make("div", {}, make("dt", { textContent: name }), make("dd", {}, value, make("small", { textContent: note })))));
  const problem = service.failure ? `Version ${service.failure.version} could not be loaded, the old one stays. ${service.failure.error}` : service.poll_error;
  $("failure").hidden = !problem;
  if ($("failure").textContent !== (problem || "")) $("failure").textContent = problem || "";
  showRounds(status.rounds, status.recent_rounds);
}

function showRounds(rounds, recent) {
  const known = OUTCOMES.filter((name) => rounds[name]).concat(Object.keys(rounds).filter((name) => !OUTCOMES.includes(name)));
  const bar = known.map((name) => { const part = make("span", { className: `o-${name}` }); part.style.flex = String(rounds[name]); return part; });
  fill($("round-bar"), ...bar);
  const legend = known.map((name) => make("li", {}, make("i", { className: `o-${name}` }), `${rounds[name]} ${name}`));
  fill($("round-legend"), ...(legend.length ? legend : [make("li", { className: "dim", textContent: "no round has run yet" })]));
  const look = { promoted: "pass", refused: "fail", failed: "fail", quarantined: "fail", waiting: "wait" };
  $("recent").hidden = !recent.length;
  fill($("recent-rows"), ...recent.map((round) => make("tr", {},
    make("th", { scope: "row" }, make("code", { textContent: round.round_id })),
    make("td", {}, make("span", { className: `verdict ${look[round.outcome] || "idle"}`, textContent: round.outcome || round.status })),
    make("td", { textContent: round.version ? `v${round.version}` : "–" }),
    make("td", { textContent: clock(round.ended_at) }), make("td", { textContent: round.reason }))));
}

// ---- Challengers: redrawn only when they change, so that a half-typed reason survives the polling
let drawn = "";
function showChallengers(list) {
  $("challenger-count").textContent = list.length;
  const key = JSON.stringify(list);
  if (key === drawn) return;
  drawn = key;
  fill($("challenger-list"), ...(list.length ? list.map(card) : [make("p", { className: "dim", textContent: "Nobody waits. A version that passes its gates appears here for a decision." })]));
}

// The interval on a line, the side of the threshold that passes shaded: one look instead of three numbers.
function picture(gate) {
  const shape = (tag, properties) => { const part = document.createElementNS("http://www.w3.org/2000/svg", tag); Object.entries(properties).forEach(([name, value]) => part.setAttribute(name, value)); return part; };
  const values = [gate.low, gate.high, gate.threshold, gate.observed].filter((value) => value !== null);
  const from = Math.min(...values), width = Math.max(...values) - from || 1, x = (value) => 6 + (108 * (value - from)) / width;
  const svg = shape("svg", { viewBox: "0 0 120 16", width: 120, height: 16, class: "picture", "aria-hidden": "true" });
  const edge = x(gate.threshold), above = gate.comparison === ">=";
  svg.append(shape("rect", { x: above ? edge : 0, y: 1, width: above ? 120 - edge : edge, height: 14, rx: 2, class: "allowed" }),
    shape("line", { x1: x(gate.low), x2: x(gate.high), y1: 8, y2: 8, class: "range" }), shape("circle", { cx: x(gate.observed), cy: 8, r: 3.2, class: "point" }),
    shape("line", { x1: edge, x2: edge, y1: 1, y2: 15, class: "edge" }));
  return svg;
}

function gateRow(gate) {
  const measured = gate.low !== null && gate.high !== null && gate.observed !== null;
  const interval = measured ? make("span", {}, `${figure(gate.low)} … ${figure(gate.high)}`, picture(gate)) : "";
  return make("tr", {},
    make("th", { scope: "row" }, gate.name, make("small", { className: "dim", textContent: gate.slice && gate.slice !== "all" ? ` ${gate.slice}` : "" })),
    make("td", {}, make("span", { className: `verdict ${gate.passed ? "pass" : "fail"}`, textContent: gate.passed ? "passed" : "refused" })),
    make("td", { className: "number", "data-name": "observed" }, figure(gate.observed)),
    make("td", { className: "number", "data-name": "interval" }, interval || "–"),
    make("td", { className: "number", "data-name": "threshold" }, `${gate.comparison === ">=" ? "≥" : "≤"} ${figure(gate.threshold)}`),
    make("td", { className: "detail", textContent: gate.detail }));
}

function card(challenger) {
  const table = make("div", { className: "scroll", role: "region", tabIndex: 0, "aria-label": `Gates of version ${challenger.number}` }, make("table", { className: "gates" },
    make("thead", {}, make("tr", {}, ...["Gate", "Verdict"].map((name) => make("th", { scope: "col", textContent: name })),
      ...["Observed", "95% interval", "Threshold"].map((name) => make("th", { scope: "col", className: "number", textContent: name })), make("th", { scope: "col", textContent: "Detail" }))),
    make("tbody", {}, ...challenger.gates.map(gateRow))));
  const passed = challenger.gates.filter((gate) => gate.passed).length;
  return make("article", { className: "card" },
    make("header", {}, make("h4", { textContent: `Version ${challenger.number}` }),
      make("span", { className: `verdict ${challenger.passed ? "pass" : "fail"}`, textContent: `${passed} of ${challenger.gates.length} gates passed` }),
      make("span", { className: "dim" }, "bundle ", make("code", { textContent: short(challenger.digest) }), ` · ${clock(challenger.created_at)}` + (challenger.requests ? ` · ${challenger.requests} requests of ${challenger.users} users` : "")),
      challenger.report ? make("a", { href: challenger.report, textContent: "full report" }) : null),
    challenger.error ? make("p", { className: "alert", textContent: challenger.error }) : table, decisionForm(challenger));
}

function decisionForm(challenger) {
  const actor = make("input", { required: true, maxLength: 200, autocomplete: "name", value: localStorage.getItem("penstock.actor") || "" });
  const reason = make("input", { required: true, maxLength: 2000, autocomplete: "off", placeholder: "why?" });
  const approve = make("button", { type: "submit", value: "approve", textContent: "Approve" });
  const reject = make("button", { type: "submit", value: "reject", className: "second", textContent: "Reject" });
  const form = make("form", { className: "row" }, make("label", {}, "Your name", actor), make("label", { className: "grow" }, "Reason", reason), approve, reject);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const decision = event.submitter ? event.submitter.value : "approve";
    localStorage.setItem("penstock.actor", actor.value);
    approve.disabled = reject.disabled = true;
    say("decision-message", decision === "approve" ? `Approving version ${challenger.number}: verifying and promoting…` : `Rejecting version ${challenger.number}…`);
    try {
      const answer = await call(`/v1/challengers/${challenger.number}/${decision}`, { actor: actor.value, reason: reason.value });
      say("decision-message", decision === "approve" ? `Version ${challenger.number} approved by ${actor.value}; version ${answer.version} serves now.` : `Version ${challenger.number} rejected.`);
      await refresh();
    } catch (error) { say("decision-message", error.message, true); } finally { approve.disabled = reject.disabled = false; }
  });
  return form;
}

// ---- Try it
let shown = null;
async function recommend() {
  const body = { k: TOP, filters: { exclude_seen: $("unseen").checked } };
  if ($("user").value.trim()) body.user_id = $("user").value.trim();
  if ($("query").value.trim()) body.query = $("query").value.trim();
  return { ...(await call("/v1/recommendations", body)), user: body.user_id, query: body.query };
}

function moved(item, place, before) {
  if (!before) return null;
  const was = before.items.findIndex((other) => other.item_id === item.item_id);
  if (was < 0) return make("span", { className: "move new", textContent: "new" });
  if (was === place) return null;
  const up = was > place;
  return make("span", { className: `move ${up ? "up" : "down"}`, "aria-label": `${up ? "up" : "down"} ${Math.abs(was - place)}`, textContent: `${up ? "▲" : "▼"}${Math.abs(was - place)}` });
}

function draw(list, answer, before, clicked, active) {
  fill(list, ...answer.items.map((item, place) => {
    const name = make("div", {}, make("span", { className: "title", textContent: item.title }), make("span", { className: "category", textContent: item.category || "" }), " ", moved(item, place, before),
      make("div", { className: "why", textContent: item.why.join(" · ") }));
    const button = active ? make("button", { type: "button", textContent: "Click", "aria-label": `Click ${item.title}` }) : make("span");
    if (active) button.addEventListener("click", () => click(item, place));
    return make("li", { className: item.item_id === clicked ? "clicked" : "", title: `${item.item_id} · score ${item.score.toFixed(3)} · ${item.source}` }, make("span", { className: "rank", textContent: String(place + 1) }), name, button);
  }));
}

async function ask(event) {
  event.preventDefault();
  try {
    shown = await recommend();
    $("before-box").hidden = true;
    $("after-box").hidden = false;
    $("after-title").textContent = "Top ten";
    draw($("after"), shown, null, null, true);
    const who = shown.user || "somebody new";
    say("try-message", shown.items.length ? `${shown.known_user ? `For ${who}, from their history` : `${who} has no history: popular and fresh items`}, by version ${shown.version}.` : "Nothing fits these filters.");
  } catch (error) { say("try-message", error.message, true); }
}

const unique = () => `console-${[...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;

async function click(item, place) {
  const before = shown, at = new Date().toISOString();
  if (!$("user").value.trim()) $("user").value = unique().slice(0, 14);
  const user_id = $("user").value.trim();
  const event = (kind, other, position) => ({ event_id: unique(), user_id, item_id: other.item_id, kind, at, position, request_id: before.request_id, ...(before.query ? { query: before.query } : {}) });
  try {
    const events = [...before.items.map((other, index) => event("impression", other, index)), event("click", item, place)];
    const answer = await call("/v1/events", { events });
    if (answer.rejected.length) throw new Error(`the event was not taken: ${answer.rejected[0].reason}`);
    shown = await recommend();
    $("before-box").hidden = $("after-box").hidden = false;
    $("before-note").textContent = `version ${before.version}`;
    $("after-title").textContent = "After the click";
    draw($("before"), before, null, item.item_id, false);
    draw($("after"), shown, before, item.item_id, true);
    const fresh = shown.items.filter((other) => !before.items.some((old) => old.item_id === other.item_id)).length;
    say("try-message", `${user_id} clicked “${item.title}”. ${fresh} of ${shown.items.length} items are new in the list; version ${shown.version} answered.`);
    $("after").querySelector("button")?.focus({ preventScroll: true });
  } catch (error) { say("try-message", error.message, true); }
}

async function offerUsers() {
  try { fill($("users"), ...(await call("/v1/users")).users.map((user) => make("option", { value: user }))); }
  catch (error) { say("try-message", error.message, true); }
}

// ---- Quarantine
function showQuarantine(quarantine) {
  const total = Object.values(quarantine.by_status).reduce((sum, count) => sum + count, 0);
  $("quarantine-count").textContent = total;
  $("quarantine-empty").hidden = total > 0;
  $("quarantine-box").hidden = total === 0;
  fill($("quarantine-rows"), ...quarantine.recent.map((row) => make("tr", {},
    make("td", { textContent: clock(row.at) }), make("td", {}, make("code", { textContent: row.snapshot_id || "–" })),
    make("td", {}, row.event ? `${row.event.kind || "?"} of ${row.event.item_id || "?"}` : "whole snapshot", make("small", { textContent: row.event ? row.event.user_id || "" : "" })),
    make("td", { textContent: row.reasons.join("; ") }), make("td", {}, make("span", { className: "verdict idle", textContent: row.status })))));
}

// ---- start
let users = false;
async function refresh() {
  try {
    const [{ status }, { challengers }] = await Promise.all([call("/v1/status"), call("/v1/challengers")]);
    showNow(status); showChallengers(challengers); showQuarantine(status.quarantine);
    if (!users && status.service.task === "rank") { users = true; offerUsers(); }
    $("link").className = "link-state up"; $("link").textContent = status.service.version ? "serving" : "waiting for a version";
    $("as-of").textContent = `As of ${new Date(status.at).toLocaleTimeString()}.`;
  } catch (error) {
    $("link").className = "link-state down"; $("link").textContent = error instanceof TypeError ? "service not reachable" : error.message;
  }
}
async function loop() { if (!document.hidden) await refresh(); setTimeout(loop, POLL_MS); }

const theme = localStorage.getItem("penstock.theme");
if (theme) document.documentElement.dataset.theme = theme;
$("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("penstock.theme", document.documentElement.dataset.theme);
});
$("ask").addEventListener("submit", ask);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
loop();
