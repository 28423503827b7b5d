// How the list of edits can be narrowed and ordered.

export const STATES = [["", "Not withdrawn"], ["active", "Active"], ["pending", "Pending"], ["consolidated", "Consolidated"], ["retired", "Withdrawn"], ["all", "All"]];
export const ORDERS = [["", "Oldest first"], ["-added", "Newest first"], ["-changed", "Last changed first"], ["prompt", "By prompt"], ["target", "By answer"], ["subject", "By subject"]];

// team=sales, ticket=17 as the API reads it; what is no JSON is text.
export function metadataOf(text) {
  const pairs = text.split(",").map((part) => part.trim()).filter(Boolean).map((part) => {
    const [name, ...rest] = part.split("="), value = rest.join("=").trim();
    let read = value;
    try { read = JSON.parse(value); } catch { /* text */ }
    return [name.trim(), typeof read === "object" && read !== null ? value : read];
  });
  return pairs.length ? JSON.stringify(Object.fromEntries(pairs)) : "";
}
