// Challengers: the rollout, what waits, every version, and one version whole: gates, slices, lists side by side, curves, lineage.
import { call, query } from "./api.js";
import { lineChart, stack } from "./charts.js";
import { clock, count, fact, figure, fill, make, panel, person, short, span, table, text, unchanged, verdict, version, when } from "./dom.js";
import { challengerCard, decisionForm, gateSummary, gateTable, rollbackForm } from "./gates.js";
import { itemList } from "./lists.js";
import { rolloutPanel } from "./rollout.js";

export const title = "Challengers";
const LOOK = { champion: "pass", challenger: "wait", refused: "fail", rejected: "fail", retired: "idle" };

export function mount(root, [number]) {
  return number ? mountOne(root, number) : mountAll(root);
}

function mountAll(root) {
  const waiting = make("div"), all = make("div"), message = make("p", { className: "message", role: "status", "aria-live": "polite" }), rollout = rolloutPanel();
  const say = (words, bad = false) => { message.textContent = words; message.classList.toggle("bad", bad); };
  fill(root, make("h1", { className: "hidden-title", textContent: "Challengers", tabIndex: -1 }), rollout.place, panel("Waits for a decision", message, waiting), panel("Every version", all));
  const refresh = async () => {
    const [{ challengers }, { versions }, beside] = await Promise.all([call("/v1/challengers"), call("/v1/console/versions"), call("/v1/rollout")]);
    rollout.draw(beside);
    if (!unchanged(waiting, challengers)) fill(waiting, ...(challengers.length ? challengers.map((one) => challengerCard(one, say, refresh)) : [text("p", "Nobody waits. A version that passes its gates appears here for a decision.", "dim")]));
    if (unchanged(all, versions)) return;
    const rows = versions.map((one) => make("tr", {}, make("th", { scope: "row" }, version(one.number)), make("td", {}, verdict(one.status, LOOK[one.status])),
      make("td", { textContent: one.verdict === "refused" ? `refused by ${one.refusals.replaceAll("_", " ")}` : one.verdict }), when(one.created_at), make("td", {}, text("code", short(one.digest)))));
    fill(all, versions.length ? table("Every version", ["Version", "Standing", "Gates", "Registered", "Bundle"], rows) : text("p", "No version yet. A round that learns makes one; see the first page.", "dim"));
  };
  return { refresh };
}

function mountOne(root, number) {
  const body = make("div", { className: "stacked" }), message = make("p", { className: "message", role: "status", "aria-live": "polite" });
  const say = (words, bad = false) => { message.textContent = words; message.classList.toggle("bad", bad); };
  fill(root, make("div", {}, make("h1", { textContent: `Version ${number}`, tabIndex: -1 }), message), body);
  const refresh = async (status) => {
    const found = await Promise.all([call(`/v1/console/versions/${encodeURIComponent(number)}`), call("/v1/challengers"), call("/v1/console/versions")]).catch((error) => { if (error.status !== 404) throw error; say(error.message, true); });
    if (!found) return;
    const [{ detail }, { challengers }, { versions }] = found;
    const waits = challengers.find((one) => one.number === number), champion = status && status.champion ? status.champion.version : null;
    if (unchanged(body, [detail, champion, waits])) return;
    const parts = [gates(detail), ...slices(detail), sideBySide(detail, champion), learning(detail), lineage(detail, versions), decisions(detail)];
    fill(body, overview(detail, waits, say, () => refresh(status)), contents(parts), ...parts);
  };
  return { refresh };
}

// What is on this long page; each button leads there.
function contents(panels) {
  return make("nav", { className: "contents", "aria-label": "On this page" }, ...panels.map((one) => {
    const heading = one.querySelector("h2");
    heading.tabIndex = -1;
    return make("button", { type: "button", className: "quiet", textContent: heading.textContent, onclick: () => { one.scrollIntoView(); heading.focus({ preventScroll: true }); } });
  }));
}

// The versions it descends from, nearest first.
function ancestors(number, versions) {
  const parent = Object.fromEntries(versions.map((one) => [one.number, one.parent])), found = [];
  for (let one = parent[number]; one && !found.includes(one); one = parent[one]) found.push(one);
  return found;
}

function overview(detail, waits, say, after) {
  const report = detail.report;
  return make("section", { className: "panel", "aria-label": "Standing" }, make("p", {}, verdict(detail.status, LOOK[detail.status]), " ", report ? gateSummary(report.gates) : null),
    detail.report_error ? text("p", detail.report_error, "alert") : null,
    make("dl", { className: "tiles" }, fact("Registered", clock(detail.created_at), `asked for by ${detail.requester}`), fact("Bundle", text("code", short(detail.digest)), "sha256 of everything that serves"),
      fact("Measured on", report ? count(report.requests, "request") : "–", report ? `of ${count(report.users, "user")}` : "")),
    waits ? decisionForm(waits, say, after) : detail.status === "retired" && detail.decisions.some((one) => ["promote", "rollback"].includes(one.what)) ? rollbackForm(detail.number, say, after) : null);
}

const whole = (gate) => !gate.slice || gate.slice === "all";

function gates(detail) {
  if (!detail.report) return panel("Gates", text("p", "There is no gate report.", "dim"));
  return panel("Gates", gateTable(detail.report.gates.filter(whole), `Gates of version ${detail.number}`), make("p", {}, make("a", { href: `/reports/${detail.number}`, textContent: "The gate report as a page" })));
}

function slices(detail) {
  const found = detail.report ? detail.report.gates.filter((gate) => !whole(gate)) : [], means = detail.report && detail.report.extra && detail.report.extra.means;
  const small = (detail.report && detail.report.extra && detail.report.extra.not_judged) || [];
  const stated = small.length ? make("details", {}, text("summary", `${small.length} too small to judge: neither passed nor refused`), make("ul", {}, ...small.map((one) => make("li", {}, one.slice, text("small", ` ${one.name.replaceAll("_", " ")}: ${one.why}`, "dim"))))) : null;
  const out = found.length || stated ? [panel("Slices and frozen windows", found.length ? gateTable(found, `Slices of version ${detail.number}`) : null, stated)] : [];
  if (!means) return out;
  const cell = (one) => make("td", { className: "number" }, one ? [figure(one.mean), text("small", `${figure(one.low)} … ${figure(one.high)}`)] : "–");
  const columns = ["Metric", { name: `Version ${detail.number}`, number: true }, ...(means.champion ? [{ name: "Served meanwhile", number: true }] : [])];
  const rows = Object.keys(means.challenger || {}).map((name) => make("tr", {}, make("th", { scope: "row", textContent: name }), cell(means.challenger[name]), means.champion ? cell(means.champion[name]) : null));
  return [...out, panel("Means", text("p", "On the held-out requests, with the 95% interval over users.", "dim"), table("Means on the held-out requests", columns, rows, "narrow"))];
}

function sideBySide(detail, champion) {
  const other = detail.number === champion ? (detail.lineage && detail.lineage.parent_version) : champion;
  const box = make("div"), users = make("select", {}), message = make("p", { className: "message", role: "status" });
  if (!other) return panel("Old and new list", text("p", "Nothing to compare with yet: no other version served.", "dim"));
  const load = async () => {
    message.classList.remove("bad");
    message.textContent = `Asking version ${other} and version ${detail.number}…`;
    try {
      const { lists, shared } = await call(`/v1/console/compare?${query({ versions: `${other},${detail.number}`, user_id: users.value, k: 10 })}`);
      const [before, after] = lists;
      message.textContent = `${shared} of ${after.items.length} items are in both lists.`;
      fill(box, make("div", { className: "lists" }, make("div", {}, text("h3", `Version ${before.number}`), itemList(before.items, { faded: true, brief: true })), make("div", {}, text("h3", `Version ${after.number}`), itemList(after.items, { before: before.items }))));
    } catch (error) { message.textContent = error.message; message.classList.add("bad"); fill(box, make("p")); }
  };
  users.addEventListener("change", load);
  call("/v1/users?k=20").then(({ users: found }) => { fill(users, ...found.map((user) => make("option", { value: user, textContent: person(user) }))); if (found.length) load(); else message.textContent = "No user has a history yet."; })
    .catch((error) => { message.textContent = error.message; message.classList.add("bad"); });
  return panel("Old and new list", make("div", { className: "row" }, make("label", {}, "Real user", users)), message, box);
}

const CURVES = [["loss", "Loss by step", "s0"], ["learning_rate", "Learning rate by step", "s3"], ["gradient_norm", "Gradient norm by step", "s2"]];

// At most some 200 of a curve's finite points, the last one among them.
function curve(detail, [name, words, style]) {
  const points = (detail.curves[name] || []).filter((point) => point.value !== null), every = Math.max(1, Math.ceil(points.length / 200));
  const some = points.filter((_, place) => place % every === 0 || place === points.length - 1);
  if (some.length < 2) return null;
  return make("div", {}, text("h3", words), lineChart({ title: words, across: "Step", labels: some.map((point) => String(point.step)), format: (value) => String(Number(value.toPrecision(3))), height: 190, series: [{ name: words.split(" by")[0].toLowerCase(), style, points: some.map((point) => ({ y: point.value })) }], note: (place) => `step ${some[place].step}` }));
}

function learning(detail) {
  const round = detail.round, numbers = round ? Object.entries(round.metrics) : [], curves = CURVES.map((one) => curve(detail, one)).filter(Boolean);
  return panel("Learning", curves.length ? [text("p", "Each step learns from other requests, so a loss that rises says that they were harder; the means above are measured on the same ones. Steps are counted through all rounds.", "dim"), make("div", { className: "plots" }, ...curves)] : text("p", "No loss curve was kept for this version.", "dim"),
    round && Object.keys(round.stages_s).length ? [text("h3", "Seconds by stage"), ...stack(Object.entries(round.stages_s).filter(([, seconds]) => seconds >= 0.05).map(([name, seconds]) => ({ name, seconds })), span)] : null,
    numbers.length ? make("details", {}, text("summary", "What the round measured"), table("What the round measured", ["Metric", { name: "Value", number: true }], numbers.map(([name, value]) => make("tr", {}, make("th", { scope: "row", textContent: name.replaceAll("_", " ") }), make("td", { className: "number", textContent: figure(value) }))))) : null);
}

function lineage(detail, versions) {
  const from = detail.lineage, snapshot = detail.snapshot, before = ancestors(detail.number, versions);
  if (!from) return panel("Data and lineage", text("p", "This version carries no lineage; it was registered by something else.", "dim"));
  const rows = [["Round", text("code", from.round_id)], ["Learned from", make("span", {}, make("a", { href: "#data", textContent: from.snapshot_id }), snapshot ? `, ${count(snapshot.rows, "event")}` : "")], ["Data sha256", text("code", from.data_sha256)],
    ["Learned until", clock(from.learned_until)], ["Descends from", before.length ? make("span", {}, ...before.flatMap((one, place) => [place ? " ← " : "", version(one)])) : from.parent_version ? version(from.parent_version) : "none: the first"], ["Parameters sha256", text("code", from.params_sha256)], ["Code", text("code", from.git_commit)], ["Seed", String(from.seed)],
    ["Gate report sha256", text("code", detail.report_digest || "–")], ["Bundle sha256", text("code", detail.digest)], ["Libraries", Object.entries(from.libraries).map(([name, value]) => `${name} ${value}`).join(", ")]];
  return panel("Data and lineage", snapshot ? make("ul", { className: "legend" }, ...Object.entries(snapshot.counts_by_kind).map(([kind, number]) => text("li", `${number.toLocaleString()} × ${kind}`))) : null,
    make("dl", { className: "facts" }, ...rows.map(([name, value]) => make("div", {}, text("dt", name), make("dd", {}, value)))));
}

function decisions(detail) {
  const rows = detail.decisions.map((one) => make("tr", {}, when(one.at), make("td", {}, verdict(one.what, one.what === "reject" ? "fail" : "pass")), make("td", { textContent: one.who }), make("td", { textContent: one.why })));
  return panel("Decisions", rows.length ? table("Decisions", ["When", "What", "Who", "Why"], rows) : text("p", "Nobody has decided on it.", "dim"));
}
