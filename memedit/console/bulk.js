// What is done to many edits at once: marks on rows, and withdrawing all that are marked.

import { call, edits } from "./api.js";
import { confirmed, h, replace, toast } from "./dom.js";

const MOST = 1000;

export class Marks {
  constructor(changed) { this.ids = new Set(); this.changed = changed; this.bar = h("div", { class: "bar marked", role: "group", "aria-label": "Marked edits", hidden: true }); }

  has(id) { return this.ids.has(id); }

  toggle(id) { this.ids.has(id) ? this.ids.delete(id) : this.ids.add(id); this.show(); }

  all(ids) { const every = ids.every((id) => this.ids.has(id)); ids.forEach((id) => (every ? this.ids.delete(id) : this.ids.add(id))); this.show(); }

  clear() { this.ids.clear(); this.show(); }

  show() {
    this.bar.hidden = !this.ids.size;
    replace(this.bar, h("strong", { role: "status" }, `${this.ids.size.toLocaleString("en")} marked`),
      h("button", { type: "button", class: "danger", id: "withdraw-marked", onclick: () => this.withdraw() }, "Withdraw them"),
      h("button", { type: "button", id: "clear-marks", onclick: () => this.clear() }, "Clear"));
    this.changed();
  }

  async withdraw() {
    const ids = [...this.ids];
    if (!await confirmed(`Withdraw ${ids.length} edits?`, "They no longer answer. They are kept and can be restored.", "Withdraw")) return;
    const gone = [];
    try {
      for (let start = 0; start < ids.length; start += MOST) {
        const part = ids.slice(start, start + MOST);
        const { already } = await call("POST", "v1/edits/withdraw", { body: { ids: part } });
        gone.push(...part.filter((id) => !already.includes(id)));
      }
      toast(`${gone.length} edits withdrawn.`, { seconds: 12, action: { label: "Undo", run: () => this.restore(gone) } });
    } catch (error) { toast(error.message, { kind: "error" }); }
    this.ids.clear();
    this.show();
    this.changed(true);
  }

  async restore(ids) {
    const failed = [];
    for (const id of ids) { try { await edits.restore(id, "error"); } catch (error) { failed.push(error); } }
    toast(failed.length ? `${ids.length - failed.length} of ${ids.length} restored: ${failed[0].message}` : `${ids.length} edits restored.`, { kind: failed.length ? "error" : "good" });
    this.changed(true);
  }
}
