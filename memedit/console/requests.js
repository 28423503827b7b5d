// The request log, as it grows: what was asked, which edits fired, and what should have been.

import { call, edits, get, post, session } from "./api.js";
import { ago, dialog, empty, figure, h, moreOf, replace, toast } from "./dom.js";
import { here, link, point } from "./links.js";
import { openProposal } from "./proposal.js";

const EVERY = 1500, PAGE = 50, KEPT = 400, NEAR = 3, OVERLAP = 10;
const state = { q: "", key: "", fired: "", edit: "", rows: [], next: null, live: true, said: new Map() };
let nodes = null, timer = null, turn = 0;

export const view = {
  title: "Requests",
  keys: [["/", "Search"], ["l", "Live tail on or off"], ["f", "What mends the feedback"], ["Esc", "Close the request"]],

  show(main) {
    const { id, params } = here();
    Object.assign(state, { q: params.q || "", key: params.key || "", fired: params.fired || "", edit: params.edit || "" });
    const later = (name, input) => () => { state[name] = input.value.trim(); clearTimeout(timer); timer = setTimeout(() => load(), 200); };
    const search = h("input", { type: "search", id: "request-search", placeholder: "Search requests", "aria-label": "Search requests", value: state.q, autocomplete: "off" });
    search.addEventListener("input", later("q", search));
    const key = h("input", { id: "request-key", class: "extra", placeholder: "key, as name/id", "aria-label": "Only of this key", value: state.key, autocomplete: "off" });
    key.addEventListener("input", later("key", key));
    const fired = h("select", { id: "request-fired", class: "extra", "aria-label": "Which requests", onchange: () => { state.fired = fired.value; load(); } },
      [["", "All requests"], ["true", "An edit fired"], ["false", "No edit fired"]].map(([value, text]) => h("option", { value, selected: value === state.fired }, text)));
    const live = h("button", { type: "button", id: "live", "aria-pressed": String(state.live), onclick: toggle }, h("span", { class: "pulse", "aria-hidden": "true" }), "Live", h("kbd", {}, "l"));
    const list = h("ol", { class: "log", id: "request-rows", "aria-label": "Requests" });
    const more = h("button", { type: "button", class: "more", hidden: true, onclick: () => load(true) }, "Show older");
    const detail = h("aside", { class: "detail", id: "request-detail", "aria-label": "Selected request", tabindex: "0", hidden: true });
    const open = h("button", { type: "button", id: "open-feedback", hidden: true, onclick: mend });
    nodes = { search, live, list, more, detail, open };
    replace(main, h("div", { class: "edits" },
      h("div", { class: "bar" }, h("div", { class: "search" }, search, h("kbd", {}, "/")), moreOf("More"), fired, key, state.edit ? h("button", { type: "button", id: "any-edit", onclick: () => { state.edit = ""; load().then(() => document.getElementById("any-edit")?.remove()); } }, `Only edit ${state.edit.slice(0, 8)}… ×`) : null, live, open),
      h("div", { class: "split" }, h("div", { class: "list", tabindex: "0", role: "region", "aria-label": "List of requests" }, list, more), detail)));
    load();
    readFeedback();
    if (id) show(id);
  },

  hide() { clearTimeout(timer); turn += 1; nodes = null; },

  key(event) {
    const acts = { "/": () => { nodes.search.focus(); nodes.search.select(); }, l: toggle, f: mend, Escape: shut };
    if (!acts[event.key]) return false;
    acts[event.key]();
    return true;
  },
};

const wanted = () => ({ namespace: session.namespace || "default", q: state.q, key: state.key, fired: state.fired, edit: state.edit });

const filters = () => ({ q: state.q, key: state.key, fired: state.fired, edit: state.edit });

function toggle() {
  state.live = !state.live;
  nodes.live.setAttribute("aria-pressed", String(state.live));
  if (state.live) load();
}

async function load(older = false) {
  if (!nodes) return;
  clearTimeout(timer);
  const mine = ++turn;
  if (!older) point("requests", here().id, filters());
  try {
    const found = await get("v1/requests", { ...wanted(), limit: PAGE, before: older ? state.next : null });
    if (mine !== turn || !nodes) return;
    state.rows = older ? [...state.rows, ...found.data] : found.data;
    state.next = found.next;
    draw(found.enabled);
    timer = setTimeout(() => tail(mine), EVERY);
  } catch (error) {
    if (mine === turn && nodes) replace(nodes.list, h("li", {}, empty("The requests could not be read", error.message, h("button", { type: "button", onclick: () => load() }, "Try again"))));
  }
}

async function tail(mine) {
  if (mine !== turn || !nodes) return;
  if (state.live && !document.hidden) {
    try {
      // a few rows back: what another server wrote a moment later may be older than the newest
      const after = state.rows[Math.min(OVERLAP, state.rows.length - 1)]?.id, known = new Set(state.rows.map((row) => row.id));
      const found = await get("v1/requests", { ...wanted(), limit: PAGE, after });
      if (mine !== turn || !nodes) return;
      const fresh = found.data.filter((row) => !known.has(row.id));
      if (fresh.length) {
        state.rows = [...fresh, ...state.rows].sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, KEPT);
        draw(found.enabled, new Set(fresh.map((row) => row.id)));
      }
    } catch { /* away just now: the next time will do */ }
  }
  timer = setTimeout(() => tail(mine), EVERY);
}

function draw(enabled, fresh = new Set()) {
  nodes.more.hidden = !state.next;
  if (!state.rows.length) {
    replace(nodes.list, h("li", {}, !enabled
      ? empty("No request log is kept", "Start the server with --request-log to keep what is asked and which edits fire. --redact PATTERN keeps what matches out of it, and a key made with --no-log is never logged.")
      : state.q || state.key || state.fired || state.edit ? empty("Nothing found", "No request that is kept fits.") : empty("No request yet", "What is asked in this namespace from now on shows here as it comes.")));
    return;
  }
  const open = here().id;
  replace(nodes.list, state.rows.map((row) => drawRow(row, row.id === open, fresh.has(row.id))));
}

function drawRow(row, current, fresh) {
  const fired = row.considered.filter((one) => one.fired), best = row.considered[0];
  return h("li", { class: fresh ? "fresh" : null },
    h("a", { class: "entry", href: link("requests", row.id, filters()), "data-id": row.id, "aria-current": current ? "true" : null },
      h("span", { class: "what" }, h("span", { class: "prompt" }, row.query || "token ids"),
        h("span", { class: fired.length ? "target" : "faint" }, fired.length ? fired.map((one) => one.target ?? one.id).join(" · ") : "no edit fired")),
      h("span", { class: "marks" }, row.status === "ok" ? null : h("span", { class: "badge bad" }, row.status), best ? h("span", { class: "num" }, figure(best.score, 3)) : null,
        h("span", { class: "num" }, `${Math.round(row.seconds * 1000).toLocaleString("en")} ms`), h("span", { class: "when" }, ago(row.at)))));
}

function shut() {
  nodes.detail.hidden = true;
  point("requests", "", filters());
  nodes.list.querySelectorAll("[aria-current]").forEach((one) => one.removeAttribute("aria-current"));
}

async function show(id) {
  try {
    const row = state.rows.find((one) => one.id === id) || await get(`v1/requests/${encodeURIComponent(id)}`);
    if (nodes) drawDetail(row);
  } catch (error) { toast(error.message, { kind: "error" }); }
}

function drawDetail(row) {
  const item = (name, value) => (value === null || value === "" ? null : [h("dt", {}, name), h("dd", {}, value)]);
  const again = () => { sessionStorage.setItem("memedit.try", row.query); location.hash = link("try"); };
  nodes.detail.hidden = false;
  replace(nodes.detail,
    h("header", {}, h("span", { class: `badge ${row.status === "ok" ? "" : "bad"}` }, row.status), h("code", { class: "id" }, row.request_id),
      h("button", { type: "button", class: "icon", "aria-label": "Close", onclick: shut }, "×")),
    row.earlier.length ? h("details", {}, h("summary", {}, `${row.earlier.length} turns before`), h("ol", { class: "turns" }, row.earlier.map((text) => h("li", {}, text)))) : null,
    h("p", { class: "big prompt" }, row.query),
    row.answer !== null ? h("p", { class: "big answer-kept" }, row.answer) : null,
    h("div", { class: "actions" }, h("button", { type: "button", onclick: again }, "Try it"), row.query ? h("button", { type: "button", id: "other-edit", onclick: () => another(row) }, "Another edit should have fired…") : null),
    h("h3", {}, row.considered.length ? "Edits that were looked at" : "No edit was looked at", row.threshold === null ? null : h("span", { class: "faint" }, ` threshold ${figure(row.threshold, 3)}`)),
    h("ol", { class: "judged" }, row.considered.slice(0, NEAR).map((one) => drawJudged(row, one))),
    row.considered.length > NEAR ? h("details", {}, h("summary", {}, `${row.considered.length - NEAR} farther away`), h("ol", { class: "judged" }, row.considered.slice(NEAR).map((one) => drawJudged(row, one)))) : null,
    h("dl", {}, item("When", new Date(row.at).toLocaleString()), item("Key", row.key), item("Model", row.model), item("Route", row.route), item("Adapter", row.adapter), item("Version", row.version), item("Scope", row.scope),
      item("Revision", row.revision === null ? null : String(row.revision)), item("Time", `${figure(row.seconds * 1000, 0)} ms${row.first_token === null ? "" : `, first token ${figure(row.first_token * 1000, 0)} ms`}`),
      item("Tokens", `${row.prompt_tokens.toLocaleString("en")} read, ${row.completion_tokens.toLocaleString("en")} written`)));
}

function drawJudged(row, one) {
  const said = state.said.get(`${row.id} ${one.id}`);
  const verdict = said
    ? h("p", { class: "verdict" }, h("span", { class: "badge pending" }, said.should_fire ? "should have fired" : "should not have fired"), h("button", { type: "button", class: "link", onclick: () => takeBack(row, said) }, "Take back"))
    : h("button", { type: "button", class: one.fired ? "danger" : "", onclick: () => say(row, one.id, !one.fired) }, one.fired ? "Should not have fired" : "Should have fired");
  return h("li", { class: one.fired ? "fires" : null, "data-id": one.id },
    h("div", { class: "hit-head" }, h("a", { class: "prompt", href: link("edits", one.id, { state: "all", namespace: row.namespace }) }, one.prompt ?? one.id), h("span", { class: "num" }, figure(one.score, 3))),
    h("div", { class: "bar" }, h("span", { class: "target" }, one.target ?? "withdrawn for good"), one.in_weights ? h("span", { class: "badge consolidated" }, "by the weights") : null, h("span", { class: "grow" }), one.prompt === null || !row.query ? null : verdict));
}

async function say(row, edit, should) {
  try {
    await post(`v1/requests/${encodeURIComponent(row.id)}/feedback`, { edit, should_fire: should });
    toast("Kept. It changes nothing until it is acted upon.", { action: { label: "What mends it", run: mend } });
    await readFeedback();
    await show(row.id);
  } catch (error) { toast(error.message, { kind: "error" }); }
}

async function takeBack(row, said) {
  try { await call("DELETE", `v1/feedback/${encodeURIComponent(said.id)}`); } catch (error) { toast(error.message, { kind: "error" }); }
  await readFeedback();
  await show(row.id);
}

async function readFeedback() {
  try {
    const { data } = await get("v1/feedback", { namespace: session.namespace || "default", settled: false, limit: 1000 });
    state.said = new Map(data.map((one) => [`${one.request} ${one.edit}`, one]));
    if (!nodes) return;
    nodes.open.hidden = !data.length;
    replace(nodes.open, `${data.length.toLocaleString("en")} open ${data.length === 1 ? "complaint" : "complaints"}`, h("kbd", {}, "f"));
  } catch { /* a key that may not read has none */ }
}

async function mend() {
  if (await openProposal()) load();
  readFeedback();
}

function another(row) {
  const list = h("ul", { class: "choices", "aria-live": "polite" });
  const search = h("input", { id: "other-search", type: "search", placeholder: "Words of the edit", autocomplete: "off", value: "" });
  let wait = null;
  const look = async () => {
    try {
      const { data } = search.value.trim() ? await edits.search({ q: search.value.trim(), mode: "text", limit: 8 }) : await edits.search({ q: row.query, mode: "semantic", limit: 8 });
      replace(list, data.map(({ edit }) => h("li", {}, h("button", { type: "button", class: "choice", onclick: () => { node.close(); say(row, edit.id, true); } }, h("span", { class: "prompt" }, edit.prompt), h("span", { class: "target" }, edit.target)))),
        data.length ? null : h("li", { class: "faint" }, "No edit fits."));
    } catch (error) { replace(list, h("li", { class: "problem" }, error.message)); }
  };
  search.addEventListener("input", () => { clearTimeout(wait); wait = setTimeout(look, 180); });
  const node = dialog("Which edit should have fired?", h("div", { class: "editor" }, h("label", { for: "other-search", class: "field" }, h("span", {}, "Edit", h("small", {}, "the nearest by meaning at first")), search), list));
  search.focus();
  look();
}
