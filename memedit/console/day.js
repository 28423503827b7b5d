// Figures of the last day, minute by minute, as the store keeps them; and how much of each quota is used.

import { get } from "./api.js";
import { spark } from "./chart.js";
import { empty, figure, h, replace, scrolled } from "./dom.js";

const STEPS = 144, DAY = 86_400_000;

export async function drawDay(place) {
  try {
    const { data, seconds } = await get("v1/figures");
    if (!place.isConnected) return;
    if (!data.length) { replace(place, h("h3", {}, "Last 24 hours"), empty("No whole minute yet", "A row is kept of each minute, for a day. The first comes with the next full minute.")); return; }
    const steps = gathered(data, DAY / STEPS);
    const mean = (time, count) => steps.map((step) => (step[count] ? step[time] / step[count] * 1000 : 0));
    const rate = (name) => steps.map((step) => (step.minutes ? step[name] / (step.minutes * seconds) : 0));
    const total = (name) => data.reduce((sum, row) => sum + row[name], 0);
    const whole = (time, count) => (total(count) ? figure(total(time) / total(count) * 1000, 1) : "–");
    const card = (label, value, unit, values, id) => h("div", { class: "stat", id }, h("h4", {}, label), h("p", { class: "figure" }, value, h("small", {}, unit)), spark(values, `${label} over the last 24 hours`));
    replace(place, h("h3", {}, "Last 24 hours", h("span", { class: "faint" }, ` ${data.length.toLocaleString("en")} minutes kept, all servers of the memory together`)),
      h("div", { class: "stats day" },
        card("Answers", total("requests").toLocaleString("en"), `${figure(Math.max(...rate("requests")), 2)} a second at most`, rate("requests"), "d-requests"),
        card("Tokens written", total("written").toLocaleString("en"), `${total("read").toLocaleString("en")} read`, rate("written"), "d-written"),
        card("Answered with an edit", figure(total("prompts") ? total("edited") / total("prompts") * 100 : 0, 1), "% of prompts", steps.map((step) => (step.prompts ? step.edited / step.prompts : 0)), "d-share"),
        card("First token", whole("first_seconds", "firsts"), "ms, mean", mean("first_seconds", "firsts"), "d-first"),
        card("Look-up", whole("lookup_seconds", "lookups"), "ms, mean", mean("lookup_seconds", "lookups"), "d-lookup"),
        card("Refused or failed", (total("refused") + total("errors")).toLocaleString("en"), `${total("refused").toLocaleString("en")} with 429`, steps.map((step) => step.refused + step.errors), "d-refused")),
      h("p", { class: "faint axis-times" }, h("span", {}, "24 hours ago"), h("span", {}, "now")));
  } catch (error) {
    if (place.isConnected) replace(place, h("h3", {}, "Last 24 hours"), h("p", { class: "faint" }, error.message));
  }
}

// Minutes put together in steps that cover the whole day, those without a server too.
function gathered(data, width) {
  const start = Date.now() - DAY;
  const steps = Array.from({ length: STEPS }, () => ({ minutes: 0 }));
  for (const row of data) {
    const step = steps[Math.min(STEPS - 1, Math.max(0, Math.floor((new Date(row.at).getTime() - start) / width)))];
    step.minutes += 1;
    for (const [name, value] of Object.entries(row)) if (name !== "at") step[name] = (step[name] || 0) + value;
  }
  const names = Object.keys(data[0]).filter((name) => name !== "at");
  for (const step of steps) for (const name of names) step[name] ??= 0;
  return steps;
}

export function drawQuotas(samples) {
  const rows = new Map();
  for (const one of samples) {
    const name = { memedit_quota_limit: "limit", memedit_quota_used: "used" }[one.name];
    if (!name) continue;
    const key = JSON.stringify([one.labels.of, one.labels.name, one.labels.kind]);
    rows.set(key, { ...rows.get(key), ...one.labels, [name]: one.value });
  }
  if (!rows.size) return null;
  return h("section", { class: "card", id: "quotas" }, h("h3", {}, "Quotas"), scrolled("Quotas", h("table", { class: "figures" },
    h("thead", {}, h("tr", {}, ["Whose", "What", "Used", "Limit"].map((name, i) => h("th", { scope: "col", class: i === 1 ? "text" : null }, name)))),
    h("tbody", {}, [...rows.values()].map((row) => h("tr", { class: row.used >= row.limit ? "now" : null }, h("th", { scope: "row" }, `${row.of} ${row.name}`), h("td", { class: "text" }, row.kind.replaceAll("_", " ")), h("td", {}, row.used.toLocaleString("en")), h("td", {}, row.limit.toLocaleString("en"))))))));
}
