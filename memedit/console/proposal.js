// What the feedback on requests comes to: shown first, done when it is said so.

import { post } from "./api.js";
import { dialog, empty, figure, h, replace, toast } from "./dom.js";

const DOES = { none: "is so already", threshold: "mended by the threshold", block: "block this text", also: "add as paraphrase", left: "left open" };
const KIND = { none: "retired", threshold: "consolidated", block: "pending", also: "active", left: "bad" };
const percent = (share) => (share === null ? "–" : `${figure(share * 100, 1)}%`);

// Opens the proposal; resolves to whether something was changed.
export function openProposal() {
  return new Promise((resolve) => {
    let changed = false, shown = null;
    const place = h("div", { class: "proposal", "aria-live": "polite" }, h("p", { class: "faint" }, "Looking every complaint up…"));
    const go = h("button", { type: "button", class: "primary", id: "apply-proposal", disabled: true, onclick: () => apply() }, "Do it");
    const node = dialog("What mends the complaints", [place, h("footer", {}, h("button", { type: "button", onclick: () => node.close() }, "Close"), go)], { onclose: () => resolve(changed), wide: true });
    const read = async () => {
      try {
        shown = await post("v1/scope/calibrate", {});
        drawProposal(place, shown);
        go.disabled = !shown.remedies.some((one) => one.action !== "left");
      } catch (error) { replace(place, h("p", { class: "problem", role: "alert" }, error.message)); }
    };
    const apply = async () => {
      go.disabled = true;
      try {
        const done = await post("v1/scope/calibrate", { proposal: shown.proposal });
        changed = true;
        const left = done.remedies.filter((one) => one.action === "left").length;
        toast(left ? `Done, ${left} left open.` : "Done. It is in force now.", { kind: left ? "info" : "good" });
        if (!left) { node.close(); return; }
        drawProposal(place, done);
      } catch (error) {
        toast(error.message, { kind: "error" });
        await read();
      }
    };
    read();
  });
}

function drawProposal(place, found) {
  if (!found.remedies.length) { replace(place, empty("No open complaint", "Say of a request which edit should have fired, or should not have.")); return; }
  const moves = found.proposed !== found.threshold;
  replace(place,
    h("section", { class: "move" }, h("h3", {}, moves ? `Threshold ${figure(found.threshold, 3)} → ${figure(found.proposed, 3)}` : `The threshold stays at ${figure(found.threshold, 3)}`),
      h("p", { class: "faint" }, moves
        ? `On this memory's own texts: paraphrases that fire ${percent(found.caught[0])} → ${percent(found.caught[1])}, prompts of other edits that fire ${percent(found.false_fires[0])} → ${percent(found.false_fires[1])}.`
        : "It moves when that mends at least five complaints more than it costs on the memory's own texts. Until then each text is taught to its edit.")),
    h("ul", { class: "replacements" }, found.remedies.map((one) => h("li", {},
      h("div", { class: "bar" }, h("span", { class: `badge ${KIND[one.action]}` }, DOES[one.action]), h("span", { class: "faint" }, one.feedback.should_fire ? "should have fired" : "should not have fired"), h("span", { class: "num" }, one.score === null ? "not found" : figure(one.score, 3))),
      h("p", { class: "prompt" }, one.feedback.query), h("p", { class: "faint" }, one.feedback.prompt ?? one.feedback.edit, one.feedback.target ? ` → ${one.feedback.target}` : ""),
      one.reason ? h("p", { class: "faint" }, one.reason) : null))));
}
