// Who changed what, from what to what.

import { get, session } from "./api.js";
import { ago, empty, h, replace } from "./dom.js";
import { here, link, point } from "./links.js";

const SAID = { add: "added", update: "changed", supersede: "added in place of another", superseded: "replaced by another", delete: "withdrew", restore: "restored", state: "moved to another state",
  "told-apart": "told apart from another", encode: "encoded anew", setting: "set", quota: "set the quota", artefacts: "prepared", "key created": "made a key", "key revoked": "revoked a key", "key changed": "changed a key" };
const FIELDS = ["prompt", "target", "subject", "paraphrases", "blocks", "ground_truth", "kind", "metadata", "source", "valid_at", "invalid_at", "state"];
const state = { actor: "", everywhere: false, entries: [], next: null };
let nodes = null, timer = null, turn = 0;

export const view = {
  title: "Audit",
  keys: [["/", "Only one actor"], ["u", "Read again"]],
  show(main) {
    const { params } = here();
    Object.assign(state, { actor: params.actor || "", everywhere: params.all === "1" });
    const actor = h("input", { id: "audit-actor", type: "search", placeholder: "Only by this key, as name/id", "aria-label": "Only by this key", value: state.actor, autocomplete: "off",
      oninput: () => { state.actor = actor.value.trim(); clearTimeout(timer); timer = setTimeout(load, 250); } });
    const all = h("input", { type: "checkbox", id: "audit-all", onchange: () => { state.everywhere = all.checked; load(); } });
    all.checked = state.everywhere;
    const list = h("ol", { class: "audit", id: "audit-rows" }), more = h("button", { type: "button", class: "more", hidden: true, onclick: () => load(true) }, "Show older");
    nodes = { actor, list, more };
    replace(main, h("section", { class: "card" }, h("div", { class: "bar" }, h("div", { class: "search" }, actor, h("kbd", {}, "/")), h("label", { class: "check" }, all, "All namespaces, and keys")), list, more));
    load();
  },
  hide() { clearTimeout(timer); nodes = null; turn += 1; },
  key(event) {
    const acts = { "/": () => { nodes.actor.focus(); nodes.actor.select(); }, u: () => load() };
    if (!acts[event.key]) return false;
    acts[event.key]();
    return true;
  },
};

async function load(older = false) {
  if (!nodes) return;
  const mine = ++turn;
  if (older !== true) point("audit", "", { actor: state.actor, all: state.everywhere ? "1" : "" });
  try {
    const found = await get("v1/audit", { namespace: state.everywhere ? null : session.namespace || "default", actor: state.actor, limit: 50, before: older === true ? state.next : null });
    if (mine !== turn || !nodes) return;
    state.entries = older === true ? [...state.entries, ...found.data] : found.data;
    state.next = found.next;
    nodes.more.hidden = state.next === null;
    replace(nodes.list, state.entries.length ? state.entries.map(entry) : h("li", {}, empty("No change yet", "Every change of an edit, a quota or a key is written here in the same transaction.")));
  } catch (error) {
    if (mine === turn && nodes) replace(nodes.list, h("li", {}, empty("The log could not be read", error.message, h("button", { type: "button", onclick: () => load() }, "Try again"))));
  }
}

function entry(one) {
  const about = one.after || one.before;
  const differ = about ? FIELDS.filter((name) => JSON.stringify(one.before?.[name] ?? null) !== JSON.stringify(one.after?.[name] ?? null)) : [];
  return h("li", { class: one.action.replaceAll(" ", "-") },
    h("div", { class: "bar" }, h("strong", {}, one.actor ?? "command line"), h("span", {}, SAID[one.action] || one.action), one.namespace && state.everywhere ? h("span", { class: "chip" }, one.namespace) : null,
      one.other ? h("code", { class: "id" }, one.other) : null, h("span", { class: "grow" }), h("span", { class: "num" }, `r${one.revision}`), h("span", { class: "when" }, ago(one.at))),
    about ? h("p", {}, h("a", { class: "prompt", href: link("edits", one.edit_id, { state: "all", namespace: one.namespace }) }, about.prompt)) : null,
    about && one.before && differ.length ? h("details", {}, h("summary", {}, differ.map((name) => name.replaceAll("_", " ")).join(", ")), h("dl", { class: "differ" }, differ.map((name) => [h("dt", {}, name.replaceAll("_", " ")),
      h("dd", {}, h("del", {}, text(one.before[name])), " → ", h("ins", {}, text(one.after?.[name])))]))) : about ? h("p", { class: "target" }, about.target) : null);
}

const text = (value) => (value === null || value === undefined || value === "" ? "nothing" : typeof value === "string" ? value : JSON.stringify(value));
