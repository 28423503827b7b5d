// One prompt, twice: to the bare model and with the edits in force, side by side as the tokens come.

import { post, stream } from "./api.js";
import { figure, h, replace, toast, visible } from "./dom.js";

const state = { prompt: "", tokens: 80, temperature: 0, running: null };
let nodes = null;

export const view = {
  title: "Try it",
  keys: [["Ctrl Enter", "Ask"], ["Ctrl Shift Enter", "Only look up, without an answer"], ["Esc", "Stop"]],

  show(main) {
    state.prompt = sessionStorage.getItem("memedit.try") || state.prompt;
    sessionStorage.removeItem("memedit.try");
    const prompt = h("textarea", { id: "try-prompt", rows: 3, value: state.prompt, placeholder: "Ask something", "aria-label": "Prompt", oninput: () => { state.prompt = prompt.value; } });
    const number = (name, id, label, attributes) => {
      const input = h("input", { type: "number", id, value: state[name], ...attributes, onchange: () => { state[name] = Number(input.value); } });
      return h("label", { class: "small" }, label, input);
    };
    const ask = h("button", { type: "button", class: "primary", id: "ask", onclick: () => (state.running ? stop() : run()) }, "Ask", h("kbd", {}, "Ctrl ↵"));
    nodes = {
      prompt, ask,
      base: pane("base-answer", "Bare model", "What the model says by itself"),
      edited: pane("edited-answer", "With edits", "What it says with the memory"),
      found: h("section", { class: "card found", id: "found", "aria-label": "Look-up", "aria-live": "polite" }, h("p", { class: "faint" }, "Which edits fire on the prompt, with score and threshold, shows here.")),
    };
    replace(main, h("div", { class: "try" },
      h("section", { class: "card asking" }, prompt,
        h("div", { class: "bar" }, number("tokens", "try-tokens", "Tokens", { min: 1, max: 2048 }), number("temperature", "try-temperature", "Temperature", { min: 0, max: 2, step: 0.1 }),
          h("span", { class: "grow" }), h("button", { type: "button", id: "look-up", onclick: lookUp }, "Look up only"), ask)),
      h("div", { class: "panes" }, nodes.base.node, nodes.edited.node), nodes.found));
    prompt.focus();
    prompt.setSelectionRange(prompt.value.length, prompt.value.length);
  },

  hide() { stop(); nodes = null; },

  key(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.shiftKey ? lookUp() : run(); return true; }
    if (event.key === "Escape" && state.running) { stop(); return true; }
    return false;
  },
  typing: true,
};

function pane(id, title, hint) {
  const text = h("div", { class: "answer", id, "aria-live": "off" }), foot = h("p", { class: "faint pace" }, hint);
  const mark = h("span", { class: "mark" });
  return { text, foot, mark, hint, node: h("section", { class: "card pane", "aria-label": title }, h("h3", {}, title, mark), text, foot) };
}

function stop() {
  state.running?.abort();
  state.running = null;
  if (nodes) replace(nodes.ask, "Ask", h("kbd", {}, "Ctrl ↵"));
}

async function run() {
  if (!state.prompt.trim()) { nodes.prompt.focus(); return; }
  stop();
  const control = (state.running = new AbortController());
  replace(nodes.ask, "Stop", h("kbd", {}, "Esc"));
  const here = nodes;
  await Promise.allSettled([answer(here.base, false, control), answer(here.edited, true, control, here.found)]);
  if (state.running === control) stop();
}

async function answer(pane, withEdits, control, found) {
  const body = {
    messages: [{ role: "user", content: state.prompt }], max_tokens: state.tokens || 80, temperature: state.temperature || 0,
    memedit: { edits: withEdits, detail: true },
  };
  const began = performance.now();
  let first = null, pieces = 0, text = "";
  replace(pane.text, h("span", { class: "cursor", "aria-hidden": "true" }));
  pane.text.setAttribute("aria-busy", "true");
  pane.mark.textContent = "";
  pane.foot.textContent = "Waiting…";
  const said = document.createTextNode("");
  pane.text.prepend(said);
  try {
    for await (const chunk of stream("v1/chat/completions", body, control.signal)) {
      if (chunk.memedit && found) drawFound(found, chunk.memedit, chunk.memedit.edits);
      if (chunk.memedit && withEdits) pane.mark.textContent = by(chunk.memedit);
      if (chunk.usage) pieces = chunk.usage.completion_tokens || pieces;
      const more = chunk.choices?.[0]?.delta?.content;
      if (!more) continue;
      first ??= performance.now() - began;
      pieces += chunk.usage ? 0 : 1;
      text += more;
      said.data = visible(text);
      pane.foot.textContent = pace(first, pieces, began);
    }
    pane.foot.textContent = first === null ? "No text" : pace(first, pieces, began);
  } catch (error) {
    if (error.name === "AbortError") pane.foot.textContent = "Stopped";
    else { pane.foot.textContent = ""; pane.text.append(h("p", { class: "problem", role: "alert" }, error.message)); }
  } finally {
    pane.text.removeAttribute("aria-busy");
    pane.text.querySelector(".cursor")?.remove();
  }
}

// What an answer comes from: edits that fired and their adapter, edits in the weights, the version of these.
function by(memedit) {
  const count = (edits, said) => `${edits.length === 1 ? "1 edit" : `${edits.length} edits`} ${said}`;
  const { edits, in_weights: known, adapter, version } = memedit;
  const memory = edits.length ? count(edits, `· ${adapter}`) : known?.length ? count(known, "in the weights") : "no edit fired";
  return version ? `${memory} · ${version}` : memory;
}

function pace(first, pieces, began) {
  const seconds = (performance.now() - began) / 1000;
  return `First token after ${Math.round(first)} ms · ${pieces} tokens · ${figure(pieces / seconds, 1)} tokens/s`;
}

async function lookUp() {
  if (!state.prompt.trim()) { nodes.prompt.focus(); return; }
  try {
    const found = await post("v1/edits/explain", { prompt: state.prompt });
    drawFound(nodes.found, found, found.fired);
  } catch (error) { toast(error.message, { kind: "error" }); }
}

function drawFound(place, found, fired) {
  const ids = new Set(fired.map((hit) => hit.id)), known = new Set((found.in_weights || []).map((hit) => hit.id));
  const considered = found.considered?.length ? found.considered : fired;
  const verdict = fired.length ? `${fired.length === 1 ? "1 edit fires" : `${fired.length} edits fire`}`
    : known.size ? `No edit fires; the weights of ${found.version} answer`
    : found.abstained ? "No edit fires; one came close" : "No edit fires";
  replace(place,
    h("h3", {}, verdict, h("span", { class: "faint" }, ` scope ${found.scope} · threshold ${figure(found.threshold, 3)} · revision ${found.revision}`)),
    drawChain(found.chain || []),
    considered.length
      ? h("ol", { class: "hits" }, considered.slice(0, 12).map((hit) => drawHit(hit, ids.has(hit.id), known.has(hit.id), found.threshold)))
      : h("p", { class: "faint" }, "No stored edit is near this prompt."));
}

// The hops of a chain, first to last; one without an edit is the model's own.
function drawChain(chain) {
  if (!chain.length) return null;
  return h("ol", { class: "chain", id: "chain", "aria-label": "Chain of edits" }, chain.map((hop) =>
    h("li", { class: hop.id ? "chip" : "chip by-model", title: hop.question ?? hop.id, "data-id": hop.id || null }, hop.id ? hop.value ?? hop.id.slice(0, 8) : hop.value ? `the model: ${hop.value}` : "the model answers")));
}

function drawHit(hit, fires, known, threshold) {
  const reasons = Object.entries(hit.reasons || {});
  return h("li", { class: fires ? "hit fires" : "hit", "data-id": hit.id },
    h("div", { class: "hit-head" }, h("span", { class: "prompt" }, hit.prompt ?? hit.id), h("span", { class: "target" }, hit.target), h("span", { class: "num" }, figure(hit.score, 3))),
    meter(hit.score, threshold, fires),
    !fires && hit.score >= threshold ? h("p", { class: "faint" }, known ? "Above the threshold, and the weights answer it." : "Above the threshold, but a better edit speaks for the same words of the prompt.") : null,
    reasons.length ? h("details", {}, h("summary", {}, `Cosine ${figure(hit.similarity)} · target ${figure(hit.target_probability)} · why`), h("dl", { class: "reasons" }, reasons.map(([name, value]) => [h("dt", {}, name.replaceAll("_", " ")), h("dd", {}, figure(value, 3))]))) : null);
}

function meter(score, threshold, fires) {
  const bar = h("span", { class: "meter-fill" }), line = h("span", { class: "meter-line", title: `threshold ${figure(threshold, 3)}` });
  bar.style.width = `${Math.max(0, Math.min(1, score)) * 100}%`;
  line.style.left = `${Math.max(0, Math.min(1, threshold)) * 100}%`;
  return h("div", { class: fires ? "meter fires" : "meter", role: "meter", "aria-valuemin": 0, "aria-valuemax": 1, "aria-valuenow": figure(score, 3), "aria-label": `Score ${figure(score, 3)}, threshold ${figure(threshold, 3)}` }, bar, line);
}
