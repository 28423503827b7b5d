// All namespaces at a glance: how many edits, which limits, what is used of them.

import { call, get, session } from "./api.js";
import { empty, h, replace, toast } from "./dom.js";
import { drawLimits, openLimits } from "./limits.js";
import { link } from "./links.js";

const STATES = [["active", "active"], ["pending", "pending"], ["consolidated", "in weights"], ["retired", "withdrawn"]];
let place = null;

export const view = {
  title: "Namespaces",
  keys: [["u", "Read again"]],
  show(main) { place = main; replace(main, h("p", { class: "faint", role: "status" }, "Reading…")); load(); },
  hide() { place = null; },
  key(event) { if (event.key !== "u") return false; load(); return true; },
};

async function load() {
  try {
    const { data } = await get("v1/namespaces");
    if (!place) return;
    replace(place, data.length ? h("ul", { class: "cards", id: "namespaces" }, data.map(drawSpace)) : h("section", { class: "card" }, empty("No namespace yet", "A namespace comes to be with its first edit, or its first limit.")));
  } catch (error) {
    if (place) replace(place, h("section", { class: "card" }, empty("The namespaces could not be read", error.message, h("button", { type: "button", onclick: load }, "Try again"))));
  }
}

function drawSpace(space) {
  const live = STATES.slice(0, 3).reduce((total, [name]) => total + (space.edits[name] || 0), 0);
  const mine = space.name === (session.namespace || "default");
  const at = (view) => link(view, "", { namespace: space.name });
  return h("li", { class: "card", "data-name": space.name },
    h("div", { class: "bar" }, h("h3", { class: "version-name" }, space.name), mine ? h("span", { class: "badge consolidated" }, "chosen") : null, h("span", { class: "grow" }), h("button", { type: "button", onclick: () => limit(space) }, "Limits")),
    h("p", { class: "figure" }, live.toLocaleString("en"), h("small", {}, live === 1 ? "edit" : "edits")),
    h("p", { class: "counts" }, STATES.filter(([name]) => space.edits[name]).map(([name, said]) => h("span", { class: "chip" }, `${space.edits[name].toLocaleString("en")} ${said}`))),
    h("dl", { class: "facts" }, h("dt", {}, "Limits"), h("dd", {}, drawLimits(space.quota, space.used))),
    h("p", { class: "ways" }, h("a", { href: at("edits") }, "Edits"), h("a", { href: at("requests") }, "Requests"), h("a", { href: at("audit") }, "Audit"), h("a", { href: at("scope") }, "Scope")));
}

async function limit(space) {
  const save = (quota) => call("PUT", "v1/quota", { params: { namespace: space.name }, body: quota });
  if (await openLimits(`Limits of ${space.name}`, space.quota, save, { text: "Edits are those that are not withdrawn; what is there already stays. Rates are those of one server." })) { toast("Saved.", { kind: "good" }); load(); }
}
