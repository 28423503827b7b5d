// API keys: who has one, what it opens, when it was last used; making, limiting and revoking them.

import { call, get, post } from "./api.js";
import { ago, confirmed, dialog, empty, h, replace, toast, visible } from "./dom.js";
import { drawLimits, limitFields, openLimits } from "./limits.js";
import { link } from "./links.js";

const ROLES = [["generate", "ask the model"], ["read", "look at edits"], ["edit", "change edits, and look at them"], ["admin", "everything"]];
let place = null, revoked = false, data = [];

export const view = {
  title: "Keys",
  keys: [["n", "New key"], ["u", "Read again"]],
  show(main) { place = main; replace(main, h("p", { class: "faint", role: "status" }, "Reading…")); load(); },
  hide() { place = null; },
  key(event) {
    const acts = { n: create, u: load };
    if (!acts[event.key]) return false;
    acts[event.key]();
    return true;
  },
};

async function load() {
  try {
    data = (await get("v1/keys")).data;
    if (place) draw();
  } catch (error) {
    if (place) replace(place, h("section", { class: "card" }, empty("The keys could not be read", error.message, h("button", { type: "button", onclick: load }, "Try again"))));
  }
}

function draw() {
  const gone = data.filter((key) => key.state !== "usable").length, shown = data.filter((key) => revoked || key.state === "usable");
  const box = h("input", { type: "checkbox", id: "show-revoked", onchange: () => { revoked = box.checked; draw(); } });
  box.checked = revoked;
  replace(place, h("div", { class: "bar page-bar" }, h("span", { class: "count", role: "status" }, `${shown.length} ${shown.length === 1 ? "key" : "keys"}`), gone ? h("label", { class: "check" }, box, `revoked and expired too (${gone})`) : null, h("span", { class: "grow" }),
      h("button", { type: "button", class: "primary", id: "new-key", onclick: create }, "New key", h("kbd", {}, "n"))),
    shown.length ? h("ul", { class: "cards", id: "keys" }, shown.map(drawKey)) : h("section", { class: "card" }, empty("No key", "A server that asks for keys answers nobody without one.")));
}

function drawKey(key) {
  const item = (name, value) => [h("dt", {}, name), h("dd", {}, value)];
  const usable = key.state === "usable";
  return h("li", { class: "card key-card", "data-id": key.id },
    h("div", { class: "bar" }, h("h3", { class: "version-name" }, key.name), h("span", { class: `badge ${usable ? "" : "retired"}` }, key.state), key.logged ? null : h("span", { class: "badge pending" }, "never logged"), h("span", { class: "grow" }),
      usable ? [h("button", { type: "button", onclick: () => limit(key) }, "Limits"), h("button", { type: "button", class: "danger", onclick: () => revoke(key) }, "Revoke")] : null),
    h("dl", { class: "facts" },
      item("Id", h("code", {}, key.id)), item("Roles", key.roles.join(", ")), item("Namespaces", key.namespaces === null ? "all" : key.namespaces.join(", ")),
      item("Last used", key.last_used_at ? ago(key.last_used_at) : "never"), item("Made", ago(key.created_at)), key.expires_at ? item("Expires", new Date(key.expires_at).toLocaleString()) : null,
      item("Limits", drawLimits(key, key.used)), item("Requests", h("a", { href: link("requests", "", { key: `${key.name}/${key.id}` }) }, "in the log"))));
}

function create() {
  const name = h("input", { id: "k-name", required: true, maxlength: 200, autocomplete: "off" });
  const roles = ROLES.map(([value, said]) => h("label", { class: "check" }, h("input", { type: "checkbox", name: "role", value }), h("span", {}, h("strong", {}, value), " ", h("span", { class: "faint" }, said))));
  const spaces = h("textarea", { id: "k-spaces", rows: 2, placeholder: "one a line; empty: all" });
  const expires = h("input", { id: "k-expires", type: "datetime-local" }), logged = h("input", { id: "k-logged", type: "checkbox" });
  logged.checked = true;
  const limits = limitFields(null), problem = h("p", { class: "problem", role: "alert", hidden: true });
  const form = h("form", { class: "editor", novalidate: true },
    h("label", { for: "k-name", class: "field" }, h("span", {}, "Name", h("small", {}, "whom it is for; the audit log shows it")), name),
    h("fieldset", {}, h("legend", {}, "Roles"), roles),
    h("label", { for: "k-spaces", class: "field" }, h("span", {}, "Namespaces"), spaces),
    h("details", {}, h("summary", {}, "Limits, end, log"), h("div", { class: "grid" }, limits.nodes, h("label", { for: "k-expires", class: "field" }, h("span", {}, "Expires"), expires)), h("label", { class: "check" }, logged, "Its requests may stand in the request log")),
    problem, h("footer", {}, h("button", { type: "button", onclick: () => node.close() }, "Cancel"), h("button", { type: "submit", class: "primary" }, "Make the key")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const lines = spaces.value.split("\n").map((line) => line.trim()).filter(Boolean);
    const body = { name: name.value.trim(), roles: [...form.querySelectorAll("[name=role]:checked")].map((one) => one.value), namespaces: lines.length ? lines : null, logged: logged.checked, ...limits.read() };
    if (expires.value) body.expires_at = new Date(expires.value).toISOString();
    try {
      if (!body.name) throw new Error("The name is empty.");
      if (!body.roles.length) throw new Error("Choose at least one role.");
      const made = await post("v1/keys", body);
      node.close();
      shown(made);
      load();
    } catch (error) { problem.hidden = false; problem.textContent = visible(error.message); }
  });
  const node = dialog("New key", form, { wide: true });
  name.focus();
}

function shown(made) {
  const secret = h("input", { id: "k-secret", readonly: true, value: made.secret, "aria-label": "The key", onfocus: () => secret.select() });
  const copy = async () => { try { await navigator.clipboard.writeText(made.secret); toast("Copied."); } catch { secret.focus(); toast("Copy it by hand: the browser does not let the page do it."); } };
  dialog(`Key of ${made.name}`, [h("p", {}, "Keep it now: this is the only time it is shown. The server keeps a digest alone."), h("div", { class: "bar secret" }, secret, h("button", { type: "button", class: "primary", onclick: copy }, "Copy"))]);
  secret.focus();
}

async function limit(key) {
  const logged = h("input", { type: "checkbox", id: "l-logged" });
  logged.checked = key.logged;
  const path = `v1/keys/${encodeURIComponent(key.id)}`;
  const text = "Edits are those that it added and that are not withdrawn. Rates are those of one server.";
  if (await openLimits(`Limits of ${key.name}`, key, (quota) => call("PATCH", path, { body: { ...quota, logged: logged.checked } }), { text, extra: h("label", { class: "check" }, logged, "Its requests may stand in the request log") })) { toast("Saved.", { kind: "good" }); load(); }
}

async function revoke(key) {
  if (!await confirmed(`Revoke the key of ${key.name}?`, "It opens nothing from now on, on every server of this memory. That cannot be taken back.", "Revoke")) return;
  try { await call("DELETE", `v1/keys/${encodeURIComponent(key.id)}`); toast("Revoked."); } catch (error) { toast(error.message, { kind: "error" }); }
  load();
}
