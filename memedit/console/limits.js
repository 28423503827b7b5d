// Limits as they are shown and set, of keys and of namespaces.

import { dialog, h, visible } from "./dom.js";

export const KINDS = [["edits", "edits"], ["requests_per_minute", "requests a minute"], ["tokens_per_minute", "tokens a minute"]];

export function drawLimits(quota, used) {
  const set = KINDS.filter(([name]) => quota && quota[name] !== null);
  if (!set.length) return h("span", { class: "faint" }, "none");
  return h("ul", { class: "limits" }, set.map(([name, said]) => {
    const limit = quota[name], now = used?.[name] ?? 0, share = limit ? Math.min(1, now / limit) : 1, fill = h("span", { class: "meter-fill" });
    fill.style.width = `${share * 100}%`;
    return h("li", {}, h("span", {}, `${now.toLocaleString("en")} of ${limit.toLocaleString("en")} ${said}`),
      h("span", { class: `meter ${share >= 1 ? "full" : "fires"}`, role: "meter", "aria-valuemin": 0, "aria-valuemax": limit, "aria-valuenow": Math.min(now, limit), "aria-label": `${said} used` }, fill));
  }));
}

export function limitFields(quota, hint = "empty: no limit") {
  const inputs = Object.fromEntries(KINDS.map(([name]) => [name, h("input", { id: `l-${name}`, type: "number", min: name === "edits" ? 0 : 1, step: 1, max: 2 ** 31 - 1, value: quota?.[name] ?? "", placeholder: hint })]));
  const nodes = KINDS.map(([name, said]) => h("label", { for: `l-${name}`, class: "field" }, h("span", {}, said[0].toUpperCase() + said.slice(1)), inputs[name]));
  const read = () => Object.fromEntries(KINDS.map(([name]) => [name, inputs[name].value === "" ? null : Number(inputs[name].value)]));
  return { nodes, read, first: inputs.edits };
}

// Opens a form of limits; `save` is given them and may throw. Resolves to whether they were saved.
export function openLimits(title, quota, save, { text = null, extra = null } = {}) {
  return new Promise((resolve) => {
    let done = false;
    const fields = limitFields(quota), problem = h("p", { class: "problem", role: "alert", hidden: true });
    const form = h("form", { class: "editor" }, text ? h("p", {}, text) : null, h("div", { class: "grid" }, fields.nodes), extra, problem,
      h("footer", {}, h("button", { type: "button", onclick: () => node.close() }, "Cancel"), h("button", { type: "submit", class: "primary" }, "Save")));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      try { await save(fields.read()); done = true; node.close(); } catch (error) { problem.hidden = false; problem.textContent = visible(error.message); }
    });
    const node = dialog(title, form, { onclose: () => resolve(done) });
    fields.first.focus();
  });
}
