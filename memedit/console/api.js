// The server's API. The key lives in this tab's session storage and goes nowhere but to this server.

const BASE = new URL("..", import.meta.url);
const KEY = "memedit.key", SPACE = "memedit.namespace";

export const session = {
  get key() { return sessionStorage.getItem(KEY) || ""; },
  set key(value) { value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY); },
  get namespace() { return sessionStorage.getItem(SPACE) || ""; },
  set namespace(value) { value ? sessionStorage.setItem(SPACE, value) : sessionStorage.removeItem(SPACE); },
  revision: 0,
  locked: null, // called when the server wants a key
};

export class ApiError extends Error {
  constructor(status, error) {
    super(error.message || `the server answered ${status}`);
    this.status = status;
    this.code = error.code;
    this.param = error.param;
    this.error = error;
  }
}

function headers(extra) {
  const found = { ...extra };
  if (session.key) found.Authorization = `Bearer ${session.key}`;
  if (session.namespace) found["X-Memedit-Namespace"] = session.namespace;
  return found;
}

async function refusal(response) {
  let error = {};
  try { error = (await response.json()).error || {}; } catch { /* no envelope: the status has to do */ }
  const told = new ApiError(response.status, error);
  if (response.status === 401 && session.locked) session.locked(told);
  return told;
}

export async function call(method, path, { params = {}, body, text, type, headers: extra = {}, signal, raw = false } = {}) {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(params)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  const init = { method, signal, headers: headers(extra), cache: "no-store" };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers["Content-Type"] = "application/json";
  } else if (text !== undefined) {
    init.body = text;
    init.headers["Content-Type"] = type;
  }
  if (method !== "GET" && path.startsWith("v1/") && !path.includes("explain")) {
    init.headers["Idempotency-Key"] = crypto.randomUUID ? crypto.randomUUID() : String(Math.random()).slice(2) + Date.now();
  }
  const response = await fetch(url, init);
  const revision = Number(response.headers.get("X-Memedit-Revision"));
  if (revision > session.revision) session.revision = revision;
  if (!response.ok) throw await refusal(response);
  if (raw) return response.text();
  return response.status === 204 ? null : response.json();
}

export const get = (path, params, options) => call("GET", path, { params, ...options });
export const post = (path, body, options) => call("POST", path, { body, ...options });

// Yields the JSON of each event of a streamed answer.
export function stream(path, body, signal) {
  return read(path, {
    method: "POST", signal, cache: "no-store",
    headers: headers({ "Content-Type": "application/json" }),
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
  });
}

// Yields the JSON of each event at a path.
export const events = (path, signal) => read(path, { signal, cache: "no-store", headers: headers() });

async function* read(path, init) {
  const response = await fetch(new URL(path, BASE), init);
  if (!response.ok) throw await refusal(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:")) continue;
        const data = line.slice(5).trim();
        if (data === "[DONE]") return;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new ApiError(200, chunk.error);
        yield chunk;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

const edit = (id) => `v1/edits/${encodeURIComponent(id)}`;
const matching = (version) => (version ? { "If-Match": `"${version}"` } : {});

export const edits = {
  list: (params) => get("v1/edits", params),
  search: (params) => get("v1/edits/search", params),
  one: (id) => get(edit(id)),
  history: (id) => get(`${edit(id)}/history`),
  add: (fields, policy) => call("POST", "v1/edits", { body: fields, params: { on_conflict: policy } }),
  change: (id, fields, version, policy) =>
    call("PATCH", edit(id), { body: fields, params: { on_conflict: policy }, headers: matching(version) }),
  withdraw: (id) => call("DELETE", edit(id)),
  conflicts: () => get("v1/edits/conflicts"),
  settle: (id, other, same) => post("v1/edits/conflicts/settle", { edits: [id, other], same }),
  restore: (id, policy) => call("POST", `${edit(id)}/restore`, { params: { on_conflict: policy } }),
};
