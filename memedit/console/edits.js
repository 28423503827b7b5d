// The list of edits, and one of them in full beside it.

import { edits } from "./api.js";
import { Marks } from "./bulk.js";
import { openConflicts } from "./conflicts.js";
import { ORDERS, STATES, metadataOf } from "./filters.js";
import { openExport, openImport } from "./files.js";
import { here, link, point } from "./links.js";
import { ago, empty, figure, h, moreOf, replace, toast } from "./dom.js";
import { openEditor, settled } from "./editor.js";

const PAGE = 50;
const state = { query: "", mode: "text", filter: "", order: "", metadata: "", marks: null, rows: [], next: null, total: null, selected: -1, busy: false, shown: null };
let nodes = null, timer = null, turn = 0;

export const view = {
  title: "Edits",
  keys: [
    ["/", "Search"], ["n", "New edit"], ["j / k", "Next, previous edit"], ["Enter", "Open the edit"],
    ["e", "Change it"], ["x", "Withdraw it"], ["r", "Restore it"], ["t", "Try it"], ["c", "Possible conflicts"],
    ["Space", "Mark the edit"], ["a", "Mark all that are shown"], ["i", "Import"], ["o", "Export"], ["Esc", "Close the edit"],
  ],

  show(main) {
    const { id, params } = here();
    Object.assign(state, { query: params.q || "", mode: params.mode || state.mode, filter: params.state || "", order: params.order || "", metadata: params.metadata || "" });
    const search = h("input", {
      type: "search", id: "search", placeholder: "Search edits", "aria-label": "Search edits", value: state.query, autocomplete: "off",
      oninput: () => { state.query = search.value.trim(); clearTimeout(timer); timer = setTimeout(load, 180); },
      onkeydown: (event) => {
        if (event.key === "Enter" || event.key === "ArrowDown") { event.preventDefault(); move(state.selected < 0 ? 1 : 0); nodes.list.focus(); }
        if (event.key === "Escape") { event.stopPropagation(); search.value ? ((search.value = state.query = ""), load()) : search.blur(); }
      },
    });
    const modes = h("div", { class: "segments", role: "group", "aria-label": "Search by" },
      ["text", "semantic"].map((mode) => h("button", {
        type: "button", "data-mode": mode, "aria-pressed": String(state.mode === mode),
        onclick: () => { state.mode = mode; modes.querySelectorAll("button").forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.mode === mode))); if (state.query) load(); },
      }, mode === "text" ? "Words" : "Meaning")));
    const filter = h("select", { id: "state-filter", class: "extra", "aria-label": "State", onchange: () => { state.filter = filter.value; load(); } },
      STATES.map(([value, label]) => h("option", { value, selected: value === state.filter }, label)));
    const order = h("select", { id: "order", class: "extra", "aria-label": "Order", onchange: () => { state.order = order.value; load(); } }, ORDERS.map(([value, label]) => h("option", { value, selected: value === state.order }, label)));
    const metadata = h("input", { id: "metadata-filter", class: "extra", "aria-label": "Metadata", placeholder: "metadata: team=sales", value: state.metadata, autocomplete: "off", spellcheck: "false",
      oninput: () => { state.metadata = metadata.value.trim(); clearTimeout(timer); timer = setTimeout(load, 300); } });
    const list = h("div", { class: "rows", id: "edit-rows", role: "group", tabindex: "0", "aria-label": "Edits" });
    const more = h("button", { type: "button", class: "more", hidden: true, onclick: () => load(true) }, "Show more");
    const detail = h("aside", { class: "detail", id: "detail", "aria-label": "Selected edit", hidden: true });
    const doubts = h("button", { type: "button", id: "possible-conflicts", hidden: true, onclick: () => settleConflicts() });
    state.marks = new Marks((again) => (again ? load() : drawMarks()));
    nodes = { search, filter, order, metadata, list, more, detail, doubts, count: h("span", { class: "count", role: "status" }) };
    replace(main, h("div", { class: "edits" },
      h("div", { class: "bar" }, h("div", { class: "search" }, search, h("kbd", {}, "/")), modes, moreOf("More"), filter, order, metadata, nodes.count, doubts,
        h("button", { type: "button", id: "import", class: "extra", onclick: bringIn }, "Import"), h("button", { type: "button", id: "export", class: "extra", onclick: openExport }, "Export"),
        h("button", { type: "button", class: "primary", id: "add", onclick: () => add() }, "Add edit", h("kbd", {}, "n")), state.marks.bar),
      h("div", { class: "split" }, h("div", { class: "list" }, list, more), detail)));
    list.addEventListener("click", (event) => { const row = event.target.closest(".row"); if (!row) return; select(Number(row.dataset.at)); event.target.closest(".tick") || event.ctrlKey || event.metaKey ? mark() : open(); });
    state.selected = -1;
    state.shown = id || null;
    load().then(() => { if (id && nodes) reveal(id); });
  },

  hide() { clearTimeout(timer); nodes = null; },

  key(event) {
    const edit = state.rows[state.selected]?.edit;
    const acts = {
      "/": () => { nodes.search.focus(); nodes.search.select(); },
      n: () => add(),
      j: () => move(1), ArrowDown: () => move(1),
      k: () => move(-1), ArrowUp: () => move(-1),
      Enter: () => edit && open(),
      e: () => edit && change(edit),
      x: () => edit && edit.state !== "retired" && withdraw(edit),
      r: () => edit && edit.state === "retired" && restore(edit),
      t: () => edit && tryIt(edit),
      c: () => settleConflicts(),
      " ": () => mark(), a: () => state.marks.all(state.rows.map((row) => row.edit.id)), i: () => bringIn(), o: () => openExport(),
      Escape: () => shut(),
    };
    if (!acts[event.key]) return false;
    if (event.key.startsWith("Arrow") && document.activeElement !== nodes.list) return false;
    if ([" ", "Enter"].includes(event.key) && document.activeElement?.closest("button, a, select")) return false;
    acts[event.key]();
    return true;
  },
};

async function load(further = false) {
  if (!nodes) return;
  const mine = ++turn;
  nodes.list.setAttribute("aria-busy", "true");
  try {
    let found, next = null, total = null;
    remember();
    nodes.order.disabled = nodes.metadata.disabled = Boolean(state.query);
    if (state.query) {
      const body = await edits.search({ q: state.query, mode: state.mode, limit: PAGE });
      found = body.data.filter((hit) => !state.filter || state.filter === "all" || hit.edit.state === state.filter);
    } else {
      const body = await edits.list({ state: state.filter, order: state.order, metadata: metadataOf(state.metadata), limit: PAGE, after: further ? state.next : null, count: true });
      found = body.data.map((edit) => ({ edit, score: null }));
      next = body.next;
      total = body.total;
    }
    if (mine !== turn || !nodes) return;
    if (!further) countConflicts(mine);
    state.rows = further ? [...state.rows, ...found] : found;
    state.next = next;
    state.total = total;
    const kept = state.rows.findIndex((row) => row.edit.id === state.shown);
    state.selected = kept;
    draw();
  } catch (error) {
    if (mine === turn && nodes) asList(false), replace(nodes.list, empty("The edits could not be read", error.message, h("button", { type: "button", onclick: () => load() }, "Try again")));
  } finally {
    nodes?.list.removeAttribute("aria-busy");
  }
}

const remember = () => point("edits", state.shown || "", { q: state.query, mode: state.query ? state.mode : "", state: state.filter, order: state.order, metadata: state.metadata });

function mark() {
  const edit = state.rows[state.selected]?.edit;
  if (edit) state.marks.toggle(edit.id);
}

function drawMarks() {
  nodes?.list.querySelectorAll(".row").forEach((row) => row.setAttribute("aria-checked", String(state.marks.has(row.dataset.id))));
}

async function bringIn() {
  if (await openImport()) await load();
}

async function countConflicts(mine) {
  let found = 0;
  try { found = (await edits.conflicts()).data.length; } catch { /* the list itself will say what is wrong */ }
  if (mine !== turn || !nodes) return;
  nodes.doubts.hidden = !found;
  replace(nodes.doubts, `${found} possible ${found === 1 ? "conflict" : "conflicts"}`, h("kbd", {}, "c"));
}

async function settleConflicts() {
  if (await openConflicts()) await load();
}

function draw() {
  nodes.more.hidden = !state.next;
  const count = state.total ?? state.rows.length, best = state.query && state.rows.length === PAGE ? "the best " : "";
  nodes.count.textContent = count ? `${best}${count.toLocaleString("en")} ${count === 1 ? "edit" : "edits"}` : "";
  asList(state.rows.length > 0);
  if (!state.rows.length) {
    replace(nodes.list, state.query || state.filter || state.metadata
      ? empty("Nothing found", "No edit of this namespace fits. Try other words, or another state.")
      : empty("No edits yet", "An edit is a prompt and the answer it should have from now on. It is in force as soon as it is added.",
        h("button", { type: "button", class: "primary", onclick: () => add() }, "Add the first edit")));
    return;
  }
  replace(nodes.list, state.rows.map(({ edit, score }, at) => h("div", {
    class: "row", role: "option", id: `row-${at}`, "data-at": at, "data-id": edit.id, "aria-selected": String(at === state.selected), "aria-checked": String(state.marks.has(edit.id)),
  },
    h("span", { class: "tick", "aria-hidden": "true", title: "Mark" }),
    h("div", { class: "what" }, h("span", { class: "prompt" }, edit.prompt), h("span", { class: "target" }, edit.target)),
    h("div", { class: "marks" },
      score !== null && state.mode === "semantic" ? h("span", { class: "num", title: "Cosine similarity" }, figure(score)) : null,
      edit.subject ? h("span", { class: "chip" }, edit.subject) : null,
      badge(edit.state),
      h("span", { class: "when" }, ago(edit.created_at))))));
}

const NAMES = { active: "Active", pending: "Pending", consolidated: "In weights", retired: "Withdrawn" };
export const badge = (name) => h("span", { class: `badge ${name}` }, NAMES[name] || name);

// A list box holds options and nothing else.
function asList(filled) {
  nodes.list.setAttribute("role", filled ? "listbox" : "group");
  filled ? nodes.list.setAttribute("aria-multiselectable", "true") : nodes.list.removeAttribute("aria-multiselectable");
  if (!filled) nodes.list.removeAttribute("aria-activedescendant");
}

function select(at) {
  state.selected = at;
  nodes.list.querySelectorAll(".row").forEach((row, i) => row.setAttribute("aria-selected", String(i === at)));
  nodes.list.setAttribute("aria-activedescendant", `row-${at}`);
  nodes.list.querySelector(`#row-${at}`)?.scrollIntoView({ block: "nearest" });
}

function move(step) {
  if (!state.rows.length) return;
  select(Math.min(Math.max(state.selected + step, 0), state.rows.length - 1));
  nodes.list.focus({ preventScroll: true });
  if (state.shown) open();
}

function shut() {
  state.shown = null;
  remember();
  nodes.detail.hidden = true;
  nodes.list.focus();
}

async function open() {
  const edit = state.rows[state.selected]?.edit;
  if (!edit) return;
  state.shown = edit.id;
  remember();
  drawDetail(edit, null);
  try {
    const { data } = await edits.history(edit.id);
    if (nodes && state.shown === edit.id) drawDetail(edit, data);
  } catch (error) {
    toast(error.message, { kind: "error" });
  }
}

function drawDetail(edit, changes) {
  const gone = edit.state === "retired";
  const field = (name, value) => (value ? [h("dt", {}, name), h("dd", {}, value)] : null);
  const time = (iso) => (iso ? new Date(iso).toLocaleString() : null);
  nodes.detail.hidden = false;
  replace(nodes.detail,
    h("header", {}, badge(edit.state), h("code", { class: "id" }, edit.id),
      h("button", { type: "button", class: "icon", "aria-label": "Close", onclick: shut }, "×")),
    h("p", { class: "ways" }, h("a", { href: link("requests"), onclick: (event) => { event.preventDefault(); location.hash = link("requests", "", { edit: edit.id }); } }, "Requests it fired on")),
    h("p", { class: "big prompt" }, edit.prompt),
    h("p", { class: "big target" }, edit.target),
    h("div", { class: "actions" },
      gone ? null : h("button", { type: "button", id: "change", onclick: () => change(edit) }, "Change", h("kbd", {}, "e")),
      h("button", { type: "button", id: "try-edit", onclick: () => tryIt(edit) }, "Try it", h("kbd", {}, "t")),
      gone
        ? h("button", { type: "button", class: "primary", id: "restore", onclick: () => restore(edit) }, "Restore", h("kbd", {}, "r"))
        : h("button", { type: "button", class: "danger", id: "withdraw", onclick: () => withdraw(edit) }, "Withdraw", h("kbd", {}, "x"))),
    h("dl", {},
      field("Subject", edit.subject),
      edit.paraphrases.length ? [h("dt", {}, "Paraphrases"), h("dd", {}, h("ul", {}, edit.paraphrases.map((text) => h("li", {}, text))))] : null,
      edit.blocks.length ? [h("dt", {}, "Silent on"), h("dd", {}, h("ul", {}, edit.blocks.map((text) => h("li", {}, text))))] : null,
      field("Answer before", edit.ground_truth), field("Kind", edit.kind), field("Source", edit.source),
      field("Valid from", time(edit.valid_at)), field("Valid until", time(edit.invalid_at)),
      Object.keys(edit.metadata).length ? [h("dt", {}, "Metadata"), h("dd", {}, h("code", { class: "block" }, JSON.stringify(edit.metadata, null, 1)))] : null,
      field("Version", String(edit.version))),
    h("h3", {}, "History"),
    changes ? h("ol", { class: "history", id: "history" }, [...changes].reverse().map(entry)) : h("p", { class: "faint" }, "Reading…"));
}

const SAID = { add: "Added", update: "Changed", supersede: "Added in place of another", superseded: "Replaced by another", delete: "Withdrawn", restore: "Restored", state: "Moved to another state", "told-apart": "Told apart from another", encode: "Encoded anew" };

function entry(change) {
  return h("li", { class: change.action },
    h("span", { class: "did" }, SAID[change.action] || change.action), ago(change.at),
    h("span", { class: "then" }, change.edit.target, h("span", { class: "faint" }, ` · version ${change.edit.version} · revision ${change.revision}`)));
}

async function add() {
  const made = await openEditor(null);
  if (!made) return;
  state.query = nodes ? (nodes.search.value = "") : "";
  state.shown = made.id;
  toast("Added. It is in force now.", { kind: "good", action: { label: "Try it", run: () => tryIt(made) } });
  if (nodes) { await load(); reveal(made.id); }
}

function reveal(id) {
  const at = state.rows.findIndex((row) => row.edit.id === id);
  if (at >= 0) { select(at); open(); } else if (state.shown === id) show(id);
}

async function show(id) {
  try {
    const edit = await edits.one(id);
    if (nodes) drawDetail(edit, (await edits.history(id)).data);
  } catch (error) { toast(error.message, { kind: "error" }); }
}

async function change(edit) {
  const made = await openEditor(edit);
  if (!made) return;
  toast("Changed.", { kind: "good" });
  await refresh(made);
}

async function withdraw(edit) {
  try {
    const gone = await edits.withdraw(edit.id);
    toast("Withdrawn. It no longer answers.", { action: { label: "Undo", run: () => restore(gone) } });
    await refresh(gone);
  } catch (error) { toast(error.message, { kind: "error" }); }
}

async function restore(edit) {
  const made = await settled((policy) => edits.restore(edit.id, policy));
  if (!made) return;
  toast("Restored. It is in force again.", { kind: "good" });
  await refresh(made);
}

async function refresh(edit) {
  if (!nodes) return;
  const at = state.rows.findIndex((row) => row.edit.id === edit.id);
  const fits = !state.filter || state.filter === "all" || state.filter === edit.state;
  if (at < 0 || !fits || (edit.state === "retired" && !state.filter)) { state.shown = state.shown === edit.id && fits ? edit.id : null; await load(); if (!state.shown) nodes.detail.hidden = true; else reveal(edit.id); return; }
  state.rows[at].edit = edit;
  draw();
  select(at);
  if (state.shown) open();
}

function tryIt(edit) {
  sessionStorage.setItem("memedit.try", edit.prompt);
  location.hash = link("try");
}
