// One way to the service: JSON in, JSON out, errors as the service words them.
export class Refused extends Error {
  constructor(message, status) { super(message); this.status = status; }
}

export async function call(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(path, { credentials: "same-origin", ...options });
  const answer = await response.json();
  if (!response.ok) throw new Refused(answer.error ? answer.error.message : response.statusText, response.status);
  return answer;
}

export const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value !== undefined && value !== "" && value !== false)).toString();
export const unique = () => `console-${[...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
