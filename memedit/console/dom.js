// Elements without markup: text only ever becomes text nodes, so an edit's text can do nothing but be read.

// Characters that turn or hide text are shown as marks: what is read is what is there.
const HIDDEN = /[\u200b\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;
export const visible = (text) => String(text).replace(HIDDEN, (mark) => `⟦U+${mark.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟧`);

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.setAttribute("class", value);
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(visible(child)));
  }
  return node;
}

export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

export function replace(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}

export function toast(message, { kind = "info", action = null, seconds = 6 } = {}) {
  const place = document.getElementById("toasts");
  const box = h("div", { class: `toast ${kind}`, role: kind === "error" ? "alert" : null }, h("span", {}, message));
  const close = () => box.remove();
  if (action) {
    box.append(h("button", { type: "button", class: "link", onclick: () => { close(); action.run(); } }, action.label));
  }
  box.append(h("button", { type: "button", class: "icon", "aria-label": "Dismiss", onclick: close }, "×"));
  place.append(box);
  if (kind !== "error") setTimeout(close, seconds * 1000);
  return box;
}

// A modal dialog; the browser keeps the focus inside and gives it back afterwards.
export function dialog(title, content, { onclose = null, wide = false } = {}) {
  const before = document.activeElement;
  const heading = h("h2", { id: "dialog-title" }, title);
  const node = h("dialog", { class: wide ? "wide" : null, "aria-labelledby": "dialog-title" },
    h("header", {}, heading, h("button", { type: "button", class: "icon", "aria-label": "Close", onclick: () => node.close() }, "×")),
    content);
  node.addEventListener("close", () => {
    node.remove();
    if (before && before.isConnected) before.focus();
    if (onclose) onclose();
  });
  node.addEventListener("pointerdown", (event) => { if (event.target === node) node.close(); });
  document.body.append(node);
  node.showModal();
  return node;
}

export function confirmed(title, text, label, { danger = true } = {}) {
  return new Promise((resolve) => {
    let answer = false;
    const yes = h("button", { type: "button", class: danger ? "danger" : "primary", onclick: () => { answer = true; node.close(); } }, label);
    const no = h("button", { type: "button", onclick: () => node.close() }, "Cancel");
    const node = dialog(title, [h("p", {}, text), h("footer", {}, no, yes)], { onclose: () => resolve(answer) });
    yes.focus();
  });
}

export function ago(iso) {
  const then = new Date(iso), seconds = (Date.now() - then.getTime()) / 1000;
  const steps = [["second", 60], ["minute", 60], ["hour", 24], ["day", 30], ["month", 12], ["year", Infinity]];
  let amount = Math.max(0, seconds), unit = "second";
  for (const [name, size] of steps) { unit = name; if (amount < size) break; amount /= size; }
  const text = unit === "second" && amount < 5 ? "just now" : new Intl.RelativeTimeFormat("en").format(-Math.round(amount), unit);
  return h("time", { datetime: iso, title: then.toLocaleString() }, text);
}

export function figure(value, digits = 2) {
  return Number.isFinite(value) ? value.toFixed(digits) : "–";
}

export function empty(title, text, action) {
  return h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), h("p", {}, text), action);
}

// A button that shows, on a small screen, what of a bar (its children of the class "extra") is left out at first.
export function moreOf(label) {
  const button = h("button", { type: "button", class: "only-small", "aria-expanded": "false", onclick: () => button.setAttribute("aria-expanded", String(button.parentElement.classList.toggle("all"))) }, label);
  return button;
}

// A table that scrolls sideways where it is wider than its place; the keyboard can reach it.
export const scrolled = (label, table) => h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, table);
