// The console: which page is shown, the polling that keeps it live, light and dark. No build step, nothing from elsewhere.
import { call } from "./api.js";
import { $, fill, make, text } from "./dom.js";
import * as challengers from "./page_challengers.js";
import * as data from "./page_data.js";
import * as history from "./page_history.js";
import * as now from "./page_now.js";
import * as tryIt from "./page_try.js";
import { session, signInForm, whoIsThere } from "./session.js";

const POLL_MS = 3000;
const PAGES = { now, challengers, data, try: tryIt, history };
let shown = null;

async function show(focus) {
  const [name, ...rest] = location.hash.slice(1).split("/").map(decodeURIComponent);
  const page = PAGES[name] ? name : "now", root = $("page");
  document.title = `${PAGES[page].title} – penstock`;
  for (const link of document.querySelectorAll("nav a[data-page]")) {
    if (link.dataset.page === page) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  if (session.required && !session.caller) { fill(root, signInForm(() => show(true))); shown = null; link("", "sign in to look"); return; }
  shown = PAGES[page].mount(root, rest);
  if (focus) { window.scrollTo(0, 0); root.querySelector("h1")?.focus({ preventScroll: true }); }
  await refresh();
}

async function refresh() {
  const asked = shown;
  if (!asked) return;
  try {
    const { status } = await call("/v1/status");
    $("environment").textContent = `${status.environment} · ${status.task}`;
    $("environment").hidden = false;
    link("up", status.service.version ? "live" : "waiting for a version");
    $("as-of").textContent = `As of ${new Date(status.at).toLocaleTimeString()}.`;
    waits(status.challengers.length);
    await asked.refresh(status);
  } catch (error) {
    if (error.status === 401) { await whoIsThere(); if (session.required && !session.caller) return show(false); }
    link("down", error instanceof TypeError ? "service not reachable" : error.message);
  }
}

function link(className, words) { $("link").className = `link-state ${className}`; if ($("link").textContent !== words) $("link").textContent = words; }

function waits(count) {
  const badge = $("waiting-count");
  badge.hidden = !count;
  if (badge.textContent !== String(count)) fill(badge, String(count), text("span", count === 1 ? " version waits" : " versions wait", "visually-hidden"));
}

async function loop() { if (!document.hidden) await refresh(); setTimeout(loop, POLL_MS); }

const theme = localStorage.getItem("penstock.theme");
if (theme) document.documentElement.dataset.theme = theme;
$("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("penstock.theme", document.documentElement.dataset.theme);
});
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); $("page").focus(); });
window.addEventListener("hashchange", () => show(true));
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
fill($("page"), make("p", { className: "dim", textContent: "Loading…" }));
whoIsThere().catch((error) => link("down", error.message)).then(() => show(false)).then(() => setTimeout(loop, POLL_MS));
