// Pairs of edits that perhaps contradict each other, side by side, and what they are settled with.

import { edits } from "./api.js";
import { dialog, empty, figure, h, replace, toast } from "./dom.js";

// Opens the list; resolves to whether a pair was settled.
export function openConflicts() {
  return new Promise((resolve) => {
    let changed = false;
    const list = h("div", { class: "pairs", id: "conflict-pairs", "aria-live": "polite" }, h("p", { class: "faint" }, "Reading…"));
    const node = dialog("Possible conflicts", [
      h("p", {}, "Both edits of a pair are in force. They are about one subject and may ask the same. Nothing is withdrawn until you say so."),
      list,
      h("footer", {}, h("button", { type: "button", onclick: () => node.close() }, "Close")),
    ], { onclose: () => resolve(changed), wide: true });
    const settle = async (pair, same) => {
      try {
        await edits.settle(pair.older.id, pair.newer.id, same);
        changed = true;
        toast(same ? "The older edit is withdrawn." : "Told apart. They never count as a conflict again.", { kind: "good" });
      } catch (error) { toast(error.message, { kind: "error" }); }
      await read();
    };
    const read = async () => {
      try {
        const { data } = await edits.conflicts();
        replace(list, data.length ? data.map((pair) => drawn(pair, settle)) : empty("No possible conflicts", "Every pair is settled."));
      } catch (error) { replace(list, empty("The pairs could not be read", error.message)); }
    };
    read();
  });
}

function drawn(pair, settle) {
  const side = (name, edit) => h("div", { class: "side-by" }, h("span", { class: "faint" }, name),
    h("p", { class: "prompt" }, edit.prompt), h("p", { class: "target" }, edit.target), h("code", { class: "id" }, edit.id));
  return h("section", { class: "pair" },
    h("span", { class: "num", title: "How surely both ask the same" }, figure(pair.score)),
    side("Older", pair.older), side("Newer", pair.newer),
    h("div", { class: "actions" },
      h("button", { type: "button", class: "danger", onclick: () => settle(pair, true) }, "Same: withdraw the older"),
      h("button", { type: "button", onclick: () => settle(pair, false) }, "Two facts")));
}
