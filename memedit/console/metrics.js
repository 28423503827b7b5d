// Live figures, from the same page that Prometheus reads.

import { call } from "./api.js";
import { empty, figure, h, replace, scrolled } from "./dom.js";
import { spark } from "./chart.js";
import { drawDay, drawQuotas } from "./day.js";

const EVERY = 2000, KEPT = 90;
let place = null, past = null, timer = null, last = null, trail = [];

export const view = {
  title: "Metrics",
  keys: [["u", "Read again now"]],
  show(main) {
    place = h("div", {}, h("p", { class: "faint", role: "status" }, "Reading…"));
    past = h("section", { class: "card", "aria-label": "Last 24 hours" });
    replace(main, place, past);
    tick();
    drawDay(past);
  },
  hide() { clearTimeout(timer); place = past = null; },
  key(event) { if (event.key !== "u") return false; tick(); drawDay(past); return true; },
};

async function tick() {
  clearTimeout(timer);
  if (!place) return;
  try {
    const now = parse(await call("GET", "metrics", { raw: true }));
    if (!place) return;
    if (!document.hidden || !last) { note(now); draw(now); }
  } catch (error) {
    if (place) replace(place, h("section", { class: "card" }, empty("The figures could not be read", error.message, h("button", { type: "button", onclick: tick }, "Try again"))));
  }
  timer = setTimeout(tick, EVERY);
}

// Prometheus's text: name{label="value",...} number
export function parse(text) {
  const found = [];
  for (const line of text.split("\n")) {
    const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!match || line.startsWith("#")) continue;
    const labels = {};
    for (const [, name, value] of (match[2] || "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[name] = value.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
    found.push({ name: match[1], labels, value: Number(match[3]) });
  }
  return { at: performance.now() / 1000, samples: found };
}

function sum(page, name, where = {}) {
  return page.samples.filter((one) => one.name === name && Object.entries(where).every(([k, v]) => one.labels[k] === v)).reduce((total, one) => total + one.value, 0);
}

function note(now) {
  const answered = ["/v1/chat/completions", "/v1/completions"];
  const totals = {
    at: now.at,
    requests: answered.reduce((total, route) => total + sum(now, "memedit_requests_total", { route }), 0),
    prompts: sum(now, "memedit_prompts_total"), edited: sum(now, "memedit_prompts_total", { edited: "yes" }),
    written: sum(now, "memedit_tokens_total", { kind: "completion" }),
    lookups: sum(now, "memedit_scope_seconds_count"), lookupTime: sum(now, "memedit_scope_seconds_sum"),
    firsts: sum(now, "memedit_first_token_seconds_count"), firstTime: sum(now, "memedit_first_token_seconds_sum"),
  };
  if (last) {
    const seconds = Math.max(totals.at - last.at, 1e-3), since = (name) => Math.max(0, totals[name] - last[name]);
    const mean = (time, count) => (since(count) ? since(time) / since(count) * 1000 : trail.at(-1)?.[time] ?? (totals[count] ? totals[time] / totals[count] * 1000 : 0));
    trail.push({ rate: since("requests") / seconds, tokens: since("written") / seconds, lookupTime: mean("lookupTime", "lookups"), firstTime: mean("firstTime", "firsts"),
      running: sum(now, "memedit_running"), waiting: sum(now, "memedit_queue_length") });
    trail = trail.slice(-KEPT);
  }
  last = totals;
}

function draw(now) {
  const newest = trail.at(-1) || { rate: 0, tokens: 0, lookupTime: 0, firstTime: 0, running: sum(now, "memedit_running"), waiting: sum(now, "memedit_queue_length") };
  const card = (label, value, unit, values, id) => h("section", { class: "card stat", id }, h("h3", {}, label), h("p", { class: "figure" }, value, h("small", {}, unit)), values ? spark(values, `${label} over the last minutes`) : null);
  const of = (name) => trail.map((point) => point[name]);
  const share = last.prompts ? last.edited / last.prompts * 100 : 0;
  const up = sum(now, "memedit_memory_up");
  const spaces = new Map();
  for (const one of now.samples) {
    if (one.name !== "memedit_edits" && one.name !== "memedit_edits_fired_total" && one.name !== "memedit_prompts_total") continue;
    const row = spaces.get(one.labels.namespace) || { states: {}, fired: 0, prompts: 0 };
    if (one.name === "memedit_edits") row.states[one.labels.state] = one.value;
    else if (one.name === "memedit_prompts_total") row.prompts += one.value;
    else row.fired += one.value;
    spaces.set(one.labels.namespace, row);
  }
  replace(place,
    h("div", { class: "stats" },
      card("Answers", figure(newest.rate, 1), "a second", of("rate"), "m-rate"),
      card("Tokens written", figure(newest.tokens, 0), "a second", of("tokens"), "m-tokens"),
      card("First token", last.firsts ? figure(newest.firstTime, 0) : "–", "ms, mean", of("firstTime"), "m-first"),
      card("Look-up", last.lookups ? figure(newest.lookupTime, 1) : "–", "ms, mean", of("lookupTime"), "m-lookup"),
      card("Running", figure(newest.running, 0), `rows, ${figure(newest.waiting, 0)} waiting`, of("running"), "m-running"),
      card("Answered with an edit", figure(share, 1), "% of prompts", null, "m-share"),
      card("Prompts answered", last.prompts.toLocaleString("en"), "since the start", null, "m-prompts"),
      card("Memory", up ? `r${sum(now, "memedit_revision")}` : "down", up ? "newest change" : "cannot be read", null, "m-memory")),
    h("section", { class: "card" }, h("h3", {}, "Namespaces"),
      scrolled("Namespaces", h("table", { class: "figures" }, h("thead", {}, h("tr", {}, ["Namespace", "Active", "Pending", "In weights", "Withdrawn", "Prompts", "Edits fired"].map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, [...spaces].sort().map(([name, row]) => h("tr", {}, h("th", { scope: "row" }, name),
          ["active", "pending", "consolidated", "retired"].map((kind) => h("td", {}, (row.states[kind] || 0).toLocaleString("en"))), h("td", {}, row.prompts.toLocaleString("en")), h("td", {}, row.fired.toLocaleString("en")))))))),
    drawQuotas(now.samples),
    h("p", { class: "faint" }, "Read every two seconds from ", h("code", {}, "/metrics"), "."));
}
