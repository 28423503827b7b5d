// Consolidation: versions of the weights with edits written into them, their gates, jobs, and the way back.

import { ApiError, events, get, post, call } from "./api.js";
import { ago, dialog, empty, figure, h, replace, scrolled, toast } from "./dom.js";

const BASE = "v1/consolidations";
let place = null, found = null, watching = null, opened = new Set(), asked = 0, drawn = null;

export const view = {
  title: "Consolidation",
  keys: [["n", "Consolidate"], ["b", "Roll back"], ["u", "Read again"]],
  show(main) { place = main; found = drawn = null; replace(main, h("p", { class: "faint", role: "status" }, "Reading…")); load(); },
  hide() { place = null; watching?.abort(); watching = null; },
  key(event) {
    const acts = { u: load, n: () => found && start(), b: () => found && canRollBack() && rollBack() };
    if (!acts[event.key]) return false;
    acts[event.key]();
    return true;
  },
};

async function load() {
  const mine = ++asked;
  try {
    const answer = await get(BASE);
    if (!place || mine !== asked) return; // the page has gone, or has asked again since: that answer is newer
    found = answer;
    const running = found.jobs.find((job) => job.state === "running");
    found.busy ||= Boolean(running); // a job that is still starting holds nothing yet
    const text = JSON.stringify(found);
    if (text !== drawn) draw(); // nodes drawn again under a pointer that is down lose the click
    drawn = text;
    if (running) follow(running.id);
  } catch (error) {
    if (!place || mine !== asked) return;
    drawn = null;
    const absent = error instanceof ApiError && error.status === 404;
    replace(place, h("section", { class: "card" }, absent
      ? empty("This server does not consolidate", "Edits are answered from the memory. To write them into the weights, run memedit consolidate beside the model.")
      : empty("The runs could not be read", error.message, h("button", { type: "button", onclick: load }, "Try again"))));
  }
}

const canRollBack = () => found.aliases.champion !== null || found.aliases.previous !== null;
const called = (name) => name ?? "plain base";

function draw() {
  const { champion, previous, candidate } = found.aliases, here = found.serving;
  const role = (label, name, hint) => h("div", { class: "role" }, h("span", { class: "faint" }, label), h("strong", {}, called(name)), h("small", { class: "faint" }, hint));
  replace(place,
    h("section", { class: "card roles", "aria-label": "Versions in use" },
      role("Champion", champion, here.follows ? "what is to answer" : "what answers, once served"), role("Previous", previous, "where a rollback goes"),
      h("div", { class: "role" }, h("span", { class: "faint" }, "Candidate"), h("strong", {}, candidate ?? "none"), h("small", { class: "faint" }, "made last")),
      h("div", { class: "role", id: "serving" }, h("span", { class: "faint" }, "This server"), h("strong", {}, called(here.version)), h("small", { class: "faint" }, here.follows ? "follows the champion" : "does not follow")),
      h("span", { class: "grow" }),
      h("button", { type: "button", id: "roll-back", disabled: !canRollBack(), onclick: rollBack }, `Roll back to ${called(previous)}`, h("kbd", {}, "b")),
      h("button", { type: "button", class: "primary", id: "consolidate", disabled: found.busy, onclick: start }, found.busy ? "A job is running" : "Consolidate", h("kbd", {}, "n"))),
    here.problem ? h("section", { class: "card" }, h("p", { class: "problem", role: "alert" }, `The champion cannot be loaded, so ${called(here.version)} goes on answering: ${here.problem}`)) : null,
    h("div", { id: "jobs" }, found.jobs.slice(0, 3).map(drawJob)),
    found.versions.length
      ? found.versions.map(drawVersion)
      : h("section", { class: "card" }, empty("No version yet", "Consolidating writes the edits in force into a copy of the weights and measures gates on it: do the edits hold, is anything else harmed? The base itself is never changed.")),
    found.ledger.length ? h("section", { class: "card" }, h("h3", {}, "Ledger"), h("ol", { class: "history ledger" }, [...found.ledger].reverse().slice(0, 20).map((entry) =>
      h("li", {}, h("span", { class: "did" }, entry.action), ago(entry.at), h("span", { class: "then" }, called(entry.version)))))) : null);
}

function drawJob(job) {
  const fill = h("span", { class: "meter-fill" });
  fill.style.width = `${Math.round(job.share * 100)}%`;
  const said = { running: "Running", done: job.published ? `Done: ${job.version} is champion` : job.version ? `Done: ${job.version}, not published` : "Done", failed: "Failed", cancelled: "Cancelled" }[job.state];
  return h("section", { class: `card job ${job.state}`, id: `job-${job.id}`, "aria-label": "Job" },
    h("div", { class: "bar" }, h("strong", {}, job.kind === "withdrawal" ? "Withdrawal" : "Consolidation"), h("span", { class: `badge ${job.state === "failed" ? "bad" : job.state === "running" ? "pending" : job.state === "done" ? "active" : "retired"}` }, said),
      h("span", { class: "faint" }, "by ", job.actor, ", ", ago(job.started_at)), h("span", { class: "grow" }),
      job.state === "running" ? h("button", { type: "button", class: "danger", onclick: () => cancel(job) }, "Cancel") : null),
    job.state === "running" ? [
      h("div", { class: "meter fires", role: "progressbar", "aria-valuenow": Math.round(job.share * 100), "aria-valuemin": 0, "aria-valuemax": 100, "aria-label": "Progress" }, fill),
      h("p", { class: "faint" }, job.stage, job.eta_seconds !== null ? ` · about ${Math.max(1, Math.round(job.eta_seconds))} s left` : "")] : null,
    job.message ? h("p", { class: job.state === "failed" ? "problem" : "faint" }, job.message) : null);
}

const KIND = { PASS: "active", WARN: "pending", INCONCLUSIVE: "pending", FAIL: "bad", SKIPPED: "retired" };
const verdict = (name) => h("span", { class: `badge ${KIND[name] || "retired"}` }, name.toLowerCase());
const number = (value, unit) => (value === null ? "–" : `${figure(value, 2)}${unit === "%" ? " %" : unit ? ` ${unit}` : ""}`);

function drawVersion(version) {
  const champion = version.aliases.includes("champion");
  const seconds = Object.values(version.seconds).reduce((total, one) => total + one, 0);
  return h("section", { class: "card version", id: `version-${version.name}`, "aria-label": `Version ${version.name}` },
    h("div", { class: "bar" }, h("h3", { class: "version-name" }, version.name), verdict(version.verdict), version.aliases.map((alias) => h("span", { class: `badge ${alias === "champion" ? "consolidated" : "retired"}` }, alias)),
      h("span", { class: "faint" }, `${version.method} on ${version.base} · `, ago(version.created_at)), h("span", { class: "grow" }),
      champion ? null : h("button", { type: "button", onclick: () => publish(version) }, "Publish")),
    h("p", {}, `${version.served.length} of ${version.edits} edits answered by the weights`, version.left_over.length ? `, ${version.left_over.length} left to the memory` : "", seconds ? h("span", { class: "faint" }, ` · took ${figure(seconds, 0)} s`) : null),
    version.reasons.length ? h("ul", { class: "reasons-list" }, version.reasons.map((reason) => h("li", {}, reason))) : null,
    h("details", { open: opened.has(version.name) || champion || version === found.versions[0] ? true : null, ontoggle: (event) => { event.target.open ? opened.add(version.name) : opened.delete(version.name); } },
      h("summary", {}, `${version.gates.length} gates`),
      scrolled(`Gates of ${version.name}`, h("table", { class: "figures gates" },
        h("thead", {}, h("tr", {}, ["Gate", "Verdict", "Candidate", "Base", "Probes", "p"].map((name) => h("th", { scope: "col" }, name)), h("th", { scope: "col", class: "text" }, "Reason"))),
        h("tbody", {}, version.gates.map((gate) => h("tr", {}, h("th", { scope: "row" }, gate.name), h("td", {}, verdict(gate.verdict)), h("td", {}, number(gate.candidate, gate.unit)), h("td", {}, number(gate.base, gate.unit)),
          h("td", {}, gate.n.toLocaleString("en")), h("td", {}, gate.p_value === null ? "–" : gate.p_value < 0.001 ? "<0.001" : figure(gate.p_value, 3)), h("td", { class: "text" }, gate.reason))))))));
}

function start() {
  if (found.busy) return;
  const method = h("select", { id: "job-method" }, h("option", { value: "" }, "as configured"), ["alphaedit", "memit", "rome", "rect", "prune", "ultraedit"].map((name) => h("option", { value: name }, name)));
  const publishIt = h("input", { type: "checkbox", id: "job-publish", checked: true }), again = h("input", { type: "checkbox", id: "job-again" });
  const check = (input, text) => h("label", { class: "check", for: input.id }, input, h("span", {}, text));
  const form = h("form", { class: "editor" },
    h("p", {}, "All edits in force are solved for together, from the frozen base. Nothing that anyone is answered from changes until a version is published."),
    h("label", { class: "field", for: "job-method" }, h("span", {}, "Method"), method),
    check(publishIt, "Publish it when its gates allow"), check(again, "Solve even when there is nothing new"),
    h("footer", {}, h("button", { type: "submit", class: "primary", id: "job-start" }, "Start")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    node.close();
    const body = { publish: publishIt.checked, again: again.checked };
    if (method.value) body.method = method.value;
    try { await post(BASE, body); toast("The job has started."); } catch (error) { toast(error.message, { kind: "error" }); }
    load();
  });
  const node = dialog("Consolidate", form);
  document.getElementById("job-start").focus();
}

async function follow(id) {
  watching?.abort();
  const control = (watching = new AbortController());
  try {
    for await (const job of events(`${BASE}/jobs/${encodeURIComponent(id)}/events`, control.signal)) {
      const node = document.getElementById(`job-${id}`);
      if (!place || !node) return;
      node.replaceWith(drawJob(job));
      if (job.state !== "running") { toast(job.state === "done" ? "The job is done." : `The job ${job.state === "failed" ? "failed" : "was cancelled"}.`, { kind: job.state === "done" ? "good" : "info" }); return load(); }
    }
  } catch (error) { if (error.name !== "AbortError" && place) toast(error.message, { kind: "error" }); }
}

async function change(work, said, undo = null) {
  try {
    await work();
    toast(said, { kind: "good", action: undo && { label: "Undo", run: undo }, seconds: 12 });
  } catch (error) { toast(error.message, { kind: "error" }); }
  if (place) load();
}

const promote = (name) => post(`${BASE}/versions/${encodeURIComponent(name)}/publish`);
const cancel = (job) => change(() => call("DELETE", `${BASE}/jobs/${encodeURIComponent(job.id)}`), "The job was cancelled; nothing has changed.");
const publish = (version) => change(() => promote(version.name), `${version.name} is champion.`, () => change(() => post(`${BASE}/rollback`), "Taken back."));

function rollBack() {
  const { champion, previous } = found.aliases;
  const undo = champion === null ? null : () => change(() => promote(champion), `${champion} is champion again.`);
  return change(() => post(`${BASE}/rollback`), `Rolled back: ${called(previous)} is champion.`, undo);
}
