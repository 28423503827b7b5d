// Edits in and out as files. What an import would do is shown before it is done.

import { call } from "./api.js";
import { dialog, h, replace, toast, visible } from "./dom.js";

const TYPES = { csv: "text/csv", tsv: "text/tab-separated-values", md: "text/markdown", json: "application/json" };
const SHOWN = 50;

const option = (value, text) => h("option", { value }, text);
const field = (id, text, hint, input) => h("label", { for: id, class: "field" }, h("span", {}, text, hint ? h("small", {}, hint) : null), input);

// Opens the dialog; resolves to whether edits were added.
export function openImport() {
  return new Promise((resolve) => {
    let done = false, body = null, kind = "application/x-ndjson", turn = 0;
    const file = h("input", { type: "file", id: "import-file", accept: ".jsonl,.ndjson,.json,.csv,.tsv,.md,.txt" });
    const policy = h("select", { id: "import-policy" }, option("error", "stop"), option("supersede", "replace the older edit"), option("keep", "keep both"));
    const skip = h("input", { type: "checkbox", id: "import-skip" });
    const found = h("div", { id: "import-preview", "aria-live": "polite" });
    const go = h("button", { type: "submit", class: "primary", disabled: true }, "Import");
    const send = (params) => call("POST", "v1/edits/import", { text: body, type: kind, params: { on_conflict: policy.value, skip_invalid: skip.checked, ...params } });
    const look = async () => {
      if (body === null) return;
      const mine = ++turn;
      go.disabled = true;
      replace(found, h("p", { class: "faint" }, "Looking at every row…"));
      try {
        const report = await send({ dry_run: true });
        if (mine !== turn) return;
        const stopped = (policy.value === "error" && report.conflicts.length) || (report.refused.length && !skip.checked);
        drawPreview(found, report, stopped);
        go.disabled = Boolean(stopped) || !report.added.length;
        replace(go, report.added.length ? `Import ${report.added.length.toLocaleString("en")}` : "Import");
      } catch (error) { if (mine === turn) replace(found, h("p", { class: "problem", role: "alert" }, error.message)); }
    };
    file.addEventListener("change", async () => {
      const chosen = file.files[0];
      body = chosen ? await chosen.text() : null;
      kind = TYPES[chosen?.name.toLowerCase().split(".").pop()] || "application/x-ndjson";
      look();
    });
    policy.addEventListener("change", look);
    skip.addEventListener("change", look);
    const form = h("form", { class: "editor" },
      field("import-file", "File", "JSONL, JSON, CSV, TSV or Markdown", file),
      h("div", { class: "grid" }, field("import-policy", "Where it contradicts", "an edit in force", policy), h("label", { class: "check" }, skip, "Leave out rows that cannot be used")),
      found, h("footer", {}, h("button", { type: "button", onclick: () => node.close() }, "Cancel"), go));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      go.disabled = true;
      try {
        const report = await send({});
        done = true;
        toast(`${report.added.length.toLocaleString("en")} edits imported. They are in force now.`, { kind: "good" });
        node.close();
      } catch (error) { replace(found, h("p", { class: "problem", role: "alert" }, error.message)); }
    });
    const node = dialog("Import edits", form, { onclose: () => resolve(done), wide: true });
    file.focus();
  });
}

function drawPreview(place, report, stopped) {
  const counts = [[report.added.length, "would be added"], [report.duplicates.length, "there already"], [report.superseded.length, "would be replaced"],
    [report.replacements.length, "contradictions"], [report.doubtful.length, "perhaps contradict"], [report.refused.length, "cannot be used"]];
  const some = (items, draw) => [items.slice(0, SHOWN).map(draw), items.length > SHOWN ? h("li", { class: "faint" }, `and ${items.length - SHOWN} more`) : null];
  replace(place,
    h("p", { class: "counts" }, counts.filter(([count], i) => count || !i).map(([count, what]) => h("span", { class: "chip" }, `${what}: ${count.toLocaleString("en")}`))),
    report.notes.map((note) => h("p", { class: "faint" }, note)),
    report.replacements.length ? h("section", {}, h("h3", {}, "Contradictions"), h("ul", { class: "replacements" }, some(report.replacements, (one) => h("li", {},
      h("p", { class: "prompt" }, one.old_prompt), h("p", {}, h("del", {}, one.old_target), " → ", h("ins", {}, one.new_target)),
      h("p", { class: "faint" }, one.retired ? "the older edit would be withdrawn" : stopped ? "stops the import" : "both would be kept", one.new_prompt === one.old_prompt ? null : ` · ${visible(one.new_prompt)}`))))) : null,
    report.refused.length ? h("section", {}, h("h3", {}, "Rows that cannot be used"), h("ul", { class: "replacements" }, some(report.refused, (row) => h("li", {},
      h("p", {}, `Line ${row.line}${row.field ? `, ${row.field}` : ""}: ${row.reason}`), h("code", { class: "block faint" }, row.text.slice(0, 200)))))) : null,
    stopped ? h("p", { class: "problem", role: "alert" }, "As it is nothing would be imported. Choose what to do with contradictions, or leave rows out.") : null);
}

export function openExport() {
  const format = h("select", { id: "export-format" }, option("jsonl", "memedit, JSONL"), ["counterfact", "zsre", "knowedit", "mem0"].map((name) => option(name, name)));
  const state = h("select", { id: "export-state" }, option("", "all that are not withdrawn"), ["active", "pending", "consolidated"].map((name) => option(name, name)));
  const form = h("form", { class: "editor" },
    h("p", {}, "The edits of this namespace as a file. The memedit form loses nothing but past versions; the others hold what their readers know."),
    h("div", { class: "grid" }, field("export-format", "Form", "", format), field("export-state", "Edits", "", state)),
    h("footer", {}, h("button", { type: "button", onclick: () => node.close() }, "Cancel"), h("button", { type: "submit", class: "primary" }, "Download")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const text = await call("GET", "v1/edits/export", { params: { format: format.value, state: state.value }, raw: true });
      const at = URL.createObjectURL(new Blob([text], { type: "application/x-ndjson" }));
      const anchor = h("a", { href: at, download: "edits.jsonl" });
      document.body.append(anchor);
      anchor.click();
      anchor.remove();
      setTimeout(() => URL.revokeObjectURL(at), 10_000);
      node.close();
    } catch (error) { toast(error.message, { kind: "error" }); }
  });
  const node = dialog("Export edits", form);
  format.focus();
}
