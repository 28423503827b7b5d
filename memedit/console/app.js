// The frame: which view shows, which keys do what, who is asking, how it looks.

import { get, session } from "./api.js";
import { dialog, h, replace, toast } from "./dom.js";
import { view as edits } from "./edits.js";
import { view as tryIt } from "./tryit.js";
import { view as scope } from "./scope.js";
import { view as runs } from "./runs.js";
import { view as metrics } from "./metrics.js";
import { view as requests } from "./requests.js";
import { view as namespaces } from "./namespaces.js";
import { view as audit } from "./audit.js";
import { view as keys } from "./keys.js";
import { here, link } from "./links.js";

const VIEWS = { edits, try: tryIt, requests, scope, runs, metrics, namespaces, audit, keys };
const GO = { e: "edits", t: "try", r: "requests", s: "scope", c: "runs", m: "metrics", n: "namespaces", a: "audit", k: "keys" };
const THEMES = ["system", "light", "dark"];
const main = document.getElementById("main"), status = document.getElementById("status"), spaces = document.getElementById("namespace");
let current = null, going = 0, asking = false;

function route() {
  const { view, params } = here();
  if (params.namespace && params.namespace !== chosen()) { session.namespace = params.namespace; connect(); return; }
  const next = VIEWS[view] || edits;
  if (current && current !== next) current.hide();
  else if (current === next) current.hide();
  current = next;
  document.getElementById("title").textContent = next.title;
  document.title = `${next.title} · memedit`;
  for (const one of document.querySelectorAll("#nav a")) {
    if (VIEWS[one.dataset.view] !== next) { one.removeAttribute("aria-current"); continue; }
    one.setAttribute("aria-current", "page");
    one.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  main.className = `view-${Object.keys(VIEWS).find((key) => VIEWS[key] === next)}`;
  next.show(main);
}

const chosen = () => session.namespace || "default";

// Another namespace on the same page, without what the address said of the one before.
function move(name) {
  session.namespace = name;
  const { view } = here();
  history.replaceState(null, "", link(view in VIEWS ? view : "edits"));
}

function typing(target) {
  return target.matches?.("textarea, select, [contenteditable]") || (target.matches?.("input") && !["range", "checkbox"].includes(target.type));
}

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  const free = !typing(event.target);
  const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
  if (free && plain) {
    if (going && GO[event.key]) { going = 0; event.preventDefault(); location.hash = link(GO[event.key]); return; }
    if (event.key === "g") { going = 1; setTimeout(() => { going = 0; }, 1200); return; }
    if (event.key === "?") { event.preventDefault(); help(); return; }
  }
  if ((free && plain) || (current.typing && !(plain && event.key !== "Escape"))) if (current.key(event)) event.preventDefault();
});

function help() {
  const rows = (keys) => keys.map(([key, text]) => [h("dt", {}, key.split(" ").map((one) => (one === "/" && key !== "/" ? " / " : h("kbd", {}, one)))), h("dd", {}, text)]);
  const everywhere = [...Object.entries(GO).map(([key, view]) => [`g ${key}`, VIEWS[view].title]), ["?", "This list"]];
  dialog("Shortcuts", h("div", { class: "help" }, h("section", {}, h("h3", {}, "Everywhere"), h("dl", {}, rows(everywhere))), h("section", {}, h("h3", {}, current.title), h("dl", {}, rows(current.keys)))));
}

function theme(name) {
  if (name === "system") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.dataset.theme = name;
  document.getElementById("theme-button").textContent = `Theme: ${name}`;
  try { localStorage.setItem("memedit.theme", name); } catch { /* private browsing: it lasts until the page is left */ }
}

function askKey(message) {
  if (asking) return;
  asking = true;
  const input = h("input", { id: "api-key", type: "password", autocomplete: "off", spellcheck: "false", placeholder: "mek_…", value: session.key });
  const form = h("form", { class: "editor" },
    h("p", {}, message || "The key is kept in this tab only, until it is closed, and sent to this server only."),
    h("label", { for: "api-key", class: "field" }, h("span", {}, "API key", h("small", {}, "made by memedit keys create")), input),
    h("footer", {}, session.key ? h("button", { type: "button", id: "forget-key", onclick: () => { session.key = ""; node.close(); connect(); } }, "Forget it") : null,
      h("button", { type: "submit", class: "primary" }, "Use this key")));
  form.addEventListener("submit", (event) => { event.preventDefault(); session.key = input.value.trim(); node.close(); connect(); });
  const node = dialog("API key", form, { onclose: () => { asking = false; } });
  input.focus();
}

session.locked = (error) => {
  status.textContent = "locked";
  status.className = "status bad";
  askKey(session.key ? `${error.message}.` : null);
};

async function connect() {
  try {
    const { data } = await get("v1/namespaces");
    const names = data.map((one) => one.name);
    if (session.namespace && !names.includes(session.namespace)) names.push(session.namespace);
    if (!names.length || (!session.namespace && !names.includes("default"))) names.unshift("default");
    const asked = here().params.namespace;
    if (asked) session.namespace = asked;
    if (asked && !names.includes(asked)) names.push(asked);
    const mine = session.namespace || (names.includes("default") ? "default" : names[0]);
    if (mine !== "default") session.namespace = mine;
    replace(spaces, [...new Set(names)].sort().map((name) => h("option", { value: name, selected: name === mine }, name)), h("option", { value: "\u0000new" }, "Other…"));
    status.textContent = "connected";
    status.className = "status good";
    route();
  } catch (error) {
    if (error.status === 401) { replace(main, h("div", { class: "empty" }, h("p", { class: "empty-title" }, "This server asks for an API key"), h("button", { type: "button", class: "primary", onclick: () => askKey() }, "Enter a key"))); return; }
    status.textContent = "not connected";
    status.className = "status bad";
    if (error.status === 403) { replace(spaces, h("option", { value: "" }, "the key's own")); route(); } else toast(error.message, { kind: "error", action: { label: "Try again", run: connect } });
  }
}

spaces.addEventListener("change", () => {
  if (spaces.value !== "\u0000new") { move(spaces.value); route(); return; }
  const input = h("input", { id: "new-namespace", required: true, maxlength: 255, autocomplete: "off" });
  const form = h("form", { class: "editor" }, h("label", { for: "new-namespace", class: "field" }, h("span", {}, "Namespace", h("small", {}, "it comes to be with its first edit")), input),
    h("footer", {}, h("button", { type: "submit", class: "primary" }, "Go there")));
  form.addEventListener("submit", (event) => { event.preventDefault(); if (input.value.trim()) { move(input.value.trim()); node.close(); } });
  const node = dialog("Another namespace", form, { onclose: connect });
  input.focus();
});

document.getElementById("theme-button").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme || "system";
  theme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
});
document.getElementById("key-button").addEventListener("click", () => askKey());
document.getElementById("help-button").addEventListener("click", help);
window.addEventListener("hashchange", route);
let kept = "system";
try { kept = localStorage.getItem("memedit.theme") || "system"; } catch { /* private browsing */ }
theme(THEMES.includes(kept) ? kept : "system");
connect();
