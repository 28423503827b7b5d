// Consolidation: versions of the weights with edits written into them, their gates, and the way back.

import { ApiError, get } from "./api.js";
import { empty, h, replace } from "./dom.js";

let place = null;

export const view = {
  title: "Consolidation",
  keys: [["u", "Read again"]],
  show(main) { place = main; load(); },
  hide() { place = null; },
  key(event) { if (event.key !== "u") return false; load(); return true; },
};

async function load() {
  replace(place, h("p", { class: "faint", role: "status" }, "Reading…"));
  try {
    await get("v1/consolidations");
  } catch (error) {
    const absent = error instanceof ApiError && error.status === 404;
    replace(place, h("section", { class: "card" }, absent
      ? empty("This server does not consolidate", "Edits are answered from the memory. To write them into the weights, run memedit consolidate beside the model.")
      : empty("The runs could not be read", error.message, h("button", { type: "button", onclick: load }, "Try again"))));
  }
}
