// Who is looking. With tokens the service keeps one in a cookie that scripts cannot read; without, everybody is trusted.
import { call } from "./api.js";
import { $, fill, make, text } from "./dom.js";

export const session = { required: false, caller: null, may: [] };
export const allowed = (what) => !session.required || session.may.includes(what);

export async function whoIsThere() {
  try {
    const { required, caller, may } = await call("/v1/session");
    Object.assign(session, { required, caller, may });
  } catch (error) {
    if (error.status !== 404) throw error;
    Object.assign(session, { required: false, caller: null, may: [] });
  }
  show();
}

async function signOut(after) {
  await fetch("/v1/session", { method: "DELETE", headers: { "Content-Type": "application/json" } });
  await whoIsThere();
  after();
}

export function signInForm(after) {
  const token = make("input", { type: "password", required: true, autocomplete: "current-password", maxLength: 200 });
  const message = make("p", { className: "message bad", role: "alert" });
  const form = make("form", { className: "row" }, make("label", { className: "grow" }, "Token", token), make("button", { type: "submit", textContent: "Sign in" }));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try { await call("/v1/session", { token: token.value }); await whoIsThere(); after(); } catch (error) { message.textContent = error.message; }
  });
  return make("section", { className: "panel", "aria-label": "Sign in" }, text("h1", "Sign in"),
    text("p", "This service asks for a token. An administrator makes one with: penstock token create.", "dim"), form, message);
}

function show() {
  const { required, caller } = session;
  fill($("who"), caller ? [text("span", `${caller.name} (${caller.role})`, "dim"), make("button", { type: "button", className: "quiet", textContent: "Sign out", onclick: () => signOut(() => location.reload()) })] : null);
  $("who").hidden = !required;
}

// Who decides: the token's name, or a name that is typed in and remembered.
export function signature() {
  if (session.caller) return { field: text("span", `Signed as ${session.caller.name}`, "dim"), name: () => undefined };
  const input = make("input", { required: true, maxLength: 200, autocomplete: "name", value: localStorage.getItem("penstock.actor") || "" });
  return { field: make("label", {}, "Your name", input), name: () => { localStorage.setItem("penstock.actor", input.value); return input.value; } };
}
