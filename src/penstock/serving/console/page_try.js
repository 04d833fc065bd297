// Try it: pick or invent a user, see ten items with why, click one and watch the list change; compare two versions.
import { call, query, unique } from "./api.js";
import { count, fill, make, panel, person, text, unchanged } from "./dom.js";
import { itemList } from "./lists.js";
import { labelForm } from "./page_label.js";

export const title = "Try it";
const TOP = 10, LATELY = 5, KEPT_MS = 900;
const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
let remembered = { user: "", query: "", other: "" };
const offered = new Map(); // a pseudonym's beginning, as it stands in the field, and the pseudonym

export function mount(root) {
  const user = make("input", { autocomplete: "off", spellcheck: false, maxLength: 256, placeholder: "somebody new", value: remembered.user });
  user.setAttribute("list", "users");
  const asked = make("input", { autocomplete: "off", maxLength: 400, placeholder: "what are they looking for?", value: remembered.query });
  const unseen = make("input", { type: "checkbox" }), options = make("datalist", { id: "users" });
  const other = make("select", {}, make("option", { value: "", textContent: "no other version" }));
  const invent = make("button", { type: "button", className: "second plain", textContent: "Invent a user" });
  const explain = make("button", { type: "button", className: "second plain", textContent: "Score parts and past clicks", hidden: true });
  const form = make("form", { className: "ask" }, make("div", { className: "row" }, make("label", {}, "User", user), options, invent, make("label", { className: "grow" }, "Query, optional", asked), make("label", {}, "Compare with", other)),
    make("div", { className: "row" }, make("button", { type: "submit", textContent: "Recommend" }), explain, make("label", { className: "check" }, unseen, " only what is new to them")));
  const message = make("p", { className: "message", role: "status", "aria-live": "polite" }), lists = make("div", { className: "lists" }), past = make("p", { className: "dim small", hidden: true });
  fill(root, make("h1", { className: "hidden-title", textContent: "Try it", tabIndex: -1 }),
    panel("Try it", text("p", "Ask as a user, click an item, and watch the list answer. A click here is a real event: it is kept in the journal and learned from.", "dim"), form, message, past, lists));
  const say = (words, bad = false) => { message.textContent = words; message.classList.toggle("bad", bad); };
  const asking = () => offered.get(user.value.trim()) ?? user.value.trim(), told = () => { user.title = asking(); }, choose = (value) => { user.value = value; told(); };
  told();
  let shown = null;

  async function recommend() {
    remembered = { user: user.value.trim(), query: asked.value.trim(), other: other.value };
    const body = { k: TOP, filters: { exclude_seen: unseen.checked } };
    if (remembered.user) body.user_id = asking();
    if (remembered.query) body.query = remembered.query;
    return { ...(await call("/v1/recommendations", body)), user: body.user_id, query: body.query, at: performance.now() };
  }

  async function compared(answer) {
    if (!other.value || other.value === answer.version) return null;
    const { lists: found } = await call(`/v1/console/compare?${query({ versions: other.value, user_id: answer.user, query: answer.query, k: TOP, exclude_seen: unseen.checked })}`);
    return found[0];
  }

  const column = (heading, note, list) => make("div", {}, make("h3", {}, heading, " ", text("span", note, "dim")), list);

  async function ask(event) {
    event.preventDefault();
    say("Asking…");
    try {
      shown = await recommend();
      const beside = await compared(shown);
      explain.hidden = !shown.items.length;
      fill(lists, beside ? column(`Version ${beside.number}`, "for comparison", itemList(beside.items, { faded: true })) : null,
        column(beside ? `Version ${shown.version}` : "Top ten", beside ? "serves" : "", itemList(shown.items, { before: beside && beside.items, onclick: click })));
      const who = shown.user ? person(shown.user) : "Somebody new", same = beside ? beside.items.filter((one) => shown.items.some((item) => item.item_id === one.item_id)).length : 0;
      say(!shown.items.length ? "Nothing fits these filters." : `${shown.known_user ? `For ${who}, from their history` : `${who} has no history: popular and fresh items`}, by version ${shown.version}.${beside ? ` ${same} of ${shown.items.length} are in both lists.` : ""}`);
      await recall();
    } catch (error) { say(error.message, true); }
  }

  async function click(item, place) {
    const before = shown, at = new Date().toISOString();
    if (!user.value.trim()) choose(unique().slice(0, 14));
    const user_id = asking();
    const event = (kind, one, position) => ({ event_id: unique(), user_id, item_id: one.item_id, kind, at, position, request_id: before.request_id, ...(before.query ? { query: before.query } : {}) });
    try {
      const began = performance.now();
      const answer = await call("/v1/events", { events: [...before.items.map((one, index) => event("impression", one, index)), event("click", item, place)] });
      if (answer.rejected.length) throw new Error(`the event was not taken: ${answer.rejected[0].reason}`);
      shown = await recommend();
      const took = Math.round(performance.now() - began);
      fill(lists, column("Before", `version ${before.version}`, itemList(before.items, { marked: item.item_id, faded: true })),
        column("After the click", `version ${shown.version}`, itemList(shown.items, { before: before.items, marked: item.item_id, onclick: click })));
      const fresh = shown.items.filter((one) => !before.items.some((old) => old.item_id === one.item_id)).length;
      const movedBy = shown.items.filter((one, index) => before.items[index] && before.items[index].item_id !== one.item_id).length;
      say(`${person(user_id)} clicked “${item.title}”. ${movedBy} of ${shown.items.length} places changed, ${fresh} items are new in the list; ${took} ms from the click to the new list, by version ${shown.version}.`);
      explain.hidden = false;
      lists.lastElementChild.querySelector("button")?.focus({ preventScroll: matchMedia("(min-width: 46rem)").matches }); // one above the other: down to the new list
      await recall();
    } catch (error) { say(error.message, true); }
  }

  // An answer is kept a moment after it was given: waits for that, and asks again where it took longer.
  async function explained(answer, influence, tries = 5) {
    await pause(Math.max(0, answer.at + KEPT_MS - performance.now()));
    try { return (await call(`/v1/requests/${encodeURIComponent(answer.request_id)}?influence=${influence}`)).explanation; } catch (error) {
      if (error.status !== 404 || tries === 1) throw error;
      await pause(KEPT_MS);
      return explained(answer, influence, tries - 1);
    }
  }

  // What the list was made from: the user's last acts as they stood then. Says nothing where the answer is not kept.
  async function recall() {
    const asked = shown;
    past.hidden = true;
    if (!asked.known_user) return;
    const { history } = await explained(asked, false).catch((error) => { if (error.status !== 404) throw error; return { history: [] }; });
    if (shown !== asked || !history.length) return;
    const lately = history.slice(-LATELY).reverse().map((one) => `${one.title || one.item_id} (${one.kind})`);
    past.textContent = `Their past, newest first: ${lately.join(" · ")}${history.length > LATELY ? ` and ${history.length - LATELY} more` : ""}.`;
    past.hidden = false;
  }

  // Measured by the service: the same items scored again without each family of features and each item of the past.
  async function measure() {
    const asked = shown;
    explain.disabled = true;
    say("Scoring again with each family of features and each past item left out; this takes some seconds…");
    try {
      const { influence, parts } = await explained(asked, true);
      if (shown !== asked) return;
      const moved = (item) => (influence ? influence.items : []).map((one) => ({ ...one, by: one.changes[item.item_id] || 0 })).filter((one) => Math.abs(one.by) > 1e-4).sort((a, b) => Math.abs(b.by) - Math.abs(a.by)).slice(0, 3);
      asked.items = asked.items.map((item) => ({ ...item, parts: (parts || {})[item.item_id], past: moved(item).map((one) => ({ item_id: one.item_id, title: one.title, because: `${one.by > 0 ? "raises" : "lowers"} its score by ${Math.abs(one.by).toFixed(3)}` })) }));
      fill(lists, column("Top ten", "and what each score rests on", itemList(asked.items, { onclick: click })));
      for (const one of lists.querySelectorAll(".because")) one.open = true;
      say(influence && influence.items.length ? `Each item with what its score rests on, and the past clicks that moved it most, of ${count(influence.past_events, "past event")}.` : "Each item with what its score rests on. This list owes nothing to past clicks.");
    } catch (error) { say(error.message, true); } finally { explain.disabled = false; }
  }

  explain.addEventListener("click", measure);
  user.addEventListener("input", told);
  form.addEventListener("submit", ask);
  invent.addEventListener("click", () => { choose(unique().slice(0, 14)); fill(lists); explain.hidden = past.hidden = true; say(`${user.value} has no history yet. Recommend, then click something.`); });

  let first = true;
  const refresh = async (status) => {
    if (status.service.task === null) { say("No version is loaded yet; the first page says what it waits for.", true); return; }
    if (status.service.task === "classify") { if (first) { first = false; fill(root, make("h1", { className: "hidden-title", textContent: "Try it", tabIndex: -1 }), panel("Try it", labelForm())); } return; }
    const [{ users }, { versions }] = await Promise.all([call("/v1/users"), call("/v1/console/versions")]);
    for (const one of users) offered.set(person(one), one);
    if (!unchanged(options, users)) fill(options, ...users.map((one) => make("option", { value: person(one), title: one })));
    const usable = versions.filter((one) => one.number !== status.service.version).map((one) => [one.number, one.status]);
    if (!unchanged(other, usable)) {
      fill(other, make("option", { value: "", textContent: "no other version" }), ...usable.map(([number, standing]) => make("option", { value: number, textContent: `version ${number} (${standing})` })));
      other.value = usable.some(([number]) => number === remembered.other) ? remembered.other : "";
    }
    if (first) { first = false; if (!user.value && users.length) choose(person(users[0])); if (users.length) form.requestSubmit(); }
  };
  return { refresh };
}
