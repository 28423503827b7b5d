// Where the console is, as an address that can be kept and sent: #/view/id?name=value, with the namespace in it.

import { session } from "./api.js";

export function here() {
  const [path, query = ""] = location.hash.slice(2).split("?");
  const [view, id = ""] = path.split("/");
  let name = id;
  try { name = decodeURIComponent(id); } catch { /* no address of ours: as it stands */ }
  return { view: view || "edits", id: name, params: Object.fromEntries(new URLSearchParams(query)) };
}

export function link(view, id = "", params = {}) {
  const told = { ...params, namespace: params.namespace ?? session.namespace };
  const query = new URLSearchParams(Object.entries(told).filter(([, value]) => value));
  return `#/${view}${id ? `/${encodeURIComponent(id)}` : ""}${query.size ? `?${query}` : ""}`;
}

// Says where we are without going anywhere.
export function point(view, id, params) {
  const text = link(view, id, params);
  if (text !== location.hash) history.replaceState(null, "", text);
}
