// The form that adds an edit or changes one, and what happens when it contradicts another.

import { ApiError, edits } from "./api.js";
import { dialog, h, replace, toast, visible } from "./dom.js";

const KINDS = ["fact", "correction", "refusal", "long-form", "statement"];

// Opens the form; resolves to the edit as it is then, or to null.
export function openEditor(edit) {
  return new Promise((resolve) => {
    let done = null;
    const value = (name) => (edit ? edit[name] : null) ?? "";
    const area = (id, rows, text, hint) => h("textarea", { id, rows, value: text, placeholder: hint, required: id === "f-prompt" || id === "f-target" });
    const fields = {
      prompt: area("f-prompt", 2, value("prompt"), "Who is the mayor of Norvik?"),
      target: area("f-target", 2, value("target"), "Ada Lind"),
      subject: h("input", { id: "f-subject", value: value("subject"), placeholder: "found in the prompt when left empty" }),
      paraphrases: area("f-paraphrases", 3, edit ? edit.paraphrases.join("\n") : "", "one a line"),
      blocks: area("f-blocks", 2, edit ? edit.blocks.join("\n") : "", "one a line"),
      ground_truth: h("input", { id: "f-ground_truth", value: value("ground_truth") }),
      source: h("input", { id: "f-source", value: value("source"), placeholder: "where it comes from" }),
      kind: h("select", { id: "f-kind" }, KINDS.map((kind) => h("option", { value: kind, selected: kind === (edit?.kind || "fact") }, kind))),
      valid_at: h("input", { id: "f-valid_at", type: "datetime-local", value: local(edit?.valid_at) }),
      invalid_at: h("input", { id: "f-invalid_at", type: "datetime-local", value: local(edit?.invalid_at) }),
      metadata: area("f-metadata", 2, edit && Object.keys(edit.metadata).length ? JSON.stringify(edit.metadata) : "", '{"ticket": "A-17"}'),
    };
    const problem = h("p", { class: "problem", role: "alert", hidden: true });
    const save = h("button", { type: "submit", class: "primary" }, edit ? "Save" : "Add edit", h("kbd", {}, "Ctrl ↵"));
    const labelled = (name, text, hint) => h("label", { for: `f-${name}`, class: `field for-${name}` }, h("span", {}, text, hint ? h("small", {}, hint) : null), fields[name]);
    const rest = ["subject", "paraphrases", "blocks", "ground_truth", "source", "metadata"].some((name) => fields[name].value) || fields.valid_at.value || fields.invalid_at.value;
    const form = h("form", { class: "editor", novalidate: true },
      labelled("prompt", "Prompt", "what is asked, word for word"), labelled("target", "Answer", "from now on"),
      h("details", { open: rest ? true : null }, h("summary", {}, "More"),
        h("div", { class: "grid" }, labelled("subject", "Subject"), labelled("kind", "Kind"), labelled("paraphrases", "Paraphrases", "other wordings that must match"),
          labelled("blocks", "Blocks", "texts on which it must stay silent"),
          labelled("ground_truth", "Answer before"), labelled("source", "Source"), labelled("valid_at", "Valid from"), labelled("invalid_at", "Valid until"), labelled("metadata", "Metadata", "JSON"))),
      problem,
      h("footer", {}, h("button", { type: "button", onclick: () => node.close() }, "Cancel"), save));
    const fail = (message, name) => {
      problem.hidden = false;
      problem.textContent = visible(message);
      Object.values(fields).forEach((field) => field.removeAttribute("aria-invalid"));
      if (fields[name]) { fields[name].setAttribute("aria-invalid", "true"); fields[name].closest("details")?.setAttribute("open", ""); fields[name].focus(); }
    };
    form.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(); } });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const body = read(fields, edit, fail);
      if (!body) return;
      if (edit && !Object.keys(body).length) { node.close(); return; }
      save.disabled = true;
      try {
        done = await settled((policy) => (edit ? edits.change(edit.id, body, edit.version, policy) : edits.add(body, policy)), fail);
        if (done) node.close();
      } finally { save.disabled = false; }
    });
    const node = dialog(edit ? "Change edit" : "Add edit", form, { onclose: () => resolve(done), wide: true });
    fields[edit ? "target" : "prompt"].focus();
  });
}

const lines = (field) => field.value.split("\n").map((line) => line.trim()).filter(Boolean);

function read(fields, edit, fail) {
  const text = (name) => fields[name].value.trim();
  for (const name of ["prompt", "target"]) if (!text(name)) { fail(`The ${name === "prompt" ? "prompt" : "answer"} is empty.`, name); return null; }
  let metadata = {};
  try { metadata = text("metadata") ? JSON.parse(text("metadata")) : {}; } catch { metadata = null; }
  if (!metadata || typeof metadata !== "object" || Array.isArray(metadata)) { fail("The metadata is no JSON object.", "metadata"); return null; }
  const found = {
    prompt: fields.prompt.value, target: fields.target.value, subject: text("subject") || null,
    paraphrases: lines(fields.paraphrases), blocks: lines(fields.blocks),
    ground_truth: text("ground_truth") || null, source: text("source") || null, kind: fields.kind.value, metadata,
    valid_at: utc(text("valid_at")), invalid_at: utc(text("invalid_at")),
  };
  if (!edit) return found;
  const before = { ...edit, valid_at: utc(local(edit.valid_at)), invalid_at: utc(local(edit.invalid_at)) };
  const changed = Object.fromEntries(Object.entries(found).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(before[name])));
  if ("prompt" in changed && !("subject" in changed)) delete changed.subject; // found again in the new prompt
  return changed;
}

// Makes a change; when it contradicts an edit in force, asks which of the two should stay. Resolves to null if none is made.
export async function settled(make, fail = (message) => toast(message, { kind: "error" })) {
  try { return await make("error"); } catch (error) {
    if (!(error instanceof ApiError)) { fail(error.message); return null; }
    if (error.code === "edit_changed") fail("Somebody has changed this edit meanwhile. Close this, look at it again, and repeat your change.");
    if (error.code === "edit_changed") return null;
    if (error.code !== "edit_conflict") { fail(error.message, error.param); return null; }
    const policy = await asked(error.error);
    if (!policy) return null;
    try { return await make(policy); } catch (again) { fail(again.message, again.param); return null; }
  }
}

function asked(error) {
  return new Promise((resolve) => {
    let policy = null;
    const choose = (value) => () => { policy = value; node.close(); };
    const other = h("div", { class: "conflicting" }, h("p", { class: "faint" }, "Reading the other edit…"));
    const replaceIt = h("button", { type: "button", class: "primary", id: "conflict-replace", onclick: choose("supersede") }, "Replace it");
    const node = dialog("This contradicts an edit in force", [
      other,
      h("p", {}, "Replacing withdraws that edit in the same step; it stays in the history. Keeping both leaves the choice between them to the scope."),
      h("footer", {}, h("button", { type: "button", onclick: () => node.close() }, "Cancel"),
        h("button", { type: "button", id: "conflict-keep", onclick: choose("keep") }, "Keep both"), replaceIt),
    ], { onclose: () => resolve(policy) });
    replaceIt.focus();
    edits.one(error.existing_id).then(
      (edit) => replace(other, h("p", { class: "prompt" }, edit.prompt), h("p", { class: "target" }, edit.target), h("code", { class: "id" }, edit.id)),
      () => replace(other, h("code", { class: "id" }, error.existing_id)));
  });
}

function local(iso) {
  if (!iso) return "";
  const time = new Date(iso);
  return new Date(time.getTime() - time.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
}

const utc = (text) => (text ? new Date(text).toISOString() : null);
