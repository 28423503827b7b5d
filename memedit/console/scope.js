// What a threshold costs and brings, measured on this memory's own edits.

import { get } from "./api.js";
import { empty, figure, h, replace, scrolled } from "./dom.js";
import { plot, valueAt } from "./chart.js";

let place = null, turn = 0;

export const view = {
  title: "Scope",
  keys: [["u", "Measure again"]],
  show(main) { place = main; load(); },
  hide() { place = null; turn += 1; },
  key(event) { if (event.key !== "u") return false; load(); return true; },
};

async function load() {
  const mine = ++turn;
  replace(place, h("section", { class: "card" }, h("p", { class: "faint", role: "status" }, "Measuring: every text of a sample of edits is looked up…")));
  try {
    const found = await get("v1/scope/tradeoff");
    if (place && mine === turn) draw(found);
  } catch (error) {
    if (place && mine === turn) replace(place, h("section", { class: "card" }, empty("The scope could not be measured", error.message, h("button", { type: "button", onclick: load }, "Try again"))));
  }
}

const percent = (share) => (share === null || Number.isNaN(share) ? "–" : `${figure(share * 100, 1)}%`);

function draw(found) {
  if (!found.edits) {
    replace(place, h("section", { class: "card" }, empty("Nothing to measure yet", "This namespace has no edit in force. Add some, best with paraphrases, and measure again.")));
    return;
  }
  const fired = found.points.map((point) => [point.threshold, point.paraphrases ?? 0]);
  const wrong = found.points.map((point) => [point.threshold, point.others]);
  const series = [{ name: "Prompts of other edits on which an edit fires wrongly", kind: "bad", points: wrong }];
  if (found.paraphrases) series.unshift({ name: "Paraphrases on which their edit fires", kind: "good", points: fired });
  const describe = (x) => `At ${figure(x, 3)}: ${found.paraphrases ? `${percent(valueAt(fired, x))} of paraphrases fire, ` : ""}${percent(valueAt(wrong, x))} of prompts are answered by another edit than their own.`;
  replace(place,
    h("section", { class: "card" },
      h("h3", {}, `Scope ${found.scope}`, h("span", { class: "faint" }, ` threshold ${figure(found.threshold, 3)}${found.calibrated ? ", calibrated in this namespace" : ""}`)),
      plot({ series, marks: [{ x: found.threshold, name: "threshold" }], xLabel: "threshold", yLabel: "share of queries", label: "Shares of queries on which an edit fires, by threshold", describe })),
    h("section", { class: "card" }, h("h3", {}, "How it was measured"),
      h("p", {}, `On ${found.edits} edits of this namespace. A paraphrase is asked as if it were not stored: the edit has to be found by its other texts. ` +
        "A prompt is asked as if its own edit were not stored: whatever fires then is wrong. Prompts about the same subject are the hardest such questions there are; ordinary traffic fires less."),
      found.paraphrases ? null : h("p", { class: "faint" }, "None of the sampled edits has a paraphrase, so how many rewordings are caught cannot be told."),
      scrolled("Thresholds", h("table", { class: "figures" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Threshold"), h("th", { scope: "col" }, "Paraphrases that fire"), h("th", { scope: "col" }, "Wrongly fired"))),
        h("tbody", {}, [0.3, 0.5, 0.7, 0.9, found.threshold].sort((a, b) => a - b).map((x) => h("tr", { class: x === found.threshold ? "now" : null },
          h("th", { scope: "row" }, figure(x, 3)), h("td", {}, found.paraphrases ? percent(valueAt(fired, x)) : "–"), h("td", {}, percent(valueAt(wrong, x))))))))));
}
