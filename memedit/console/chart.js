// Line charts in SVG: a plot with a crosshair, and small ones without axes.

import { figure, h, s } from "./dom.js";

// series: [{ name, kind, points: [[x, y], ...] }], both axes from 0 to 1; marks: [{ x, name }].
export function plot({ series, marks, xLabel, yLabel, label, describe }) {
  const width = 760, height = 380, left = 56, right = 20, top = 26, bottom = 48;
  const x = (value) => left + value * (width - left - right), y = (value) => height - bottom - value * (height - top - bottom);
  const ticks = [0, 0.2, 0.4, 0.6, 0.8, 1];
  const cursor = s("line", { class: "cursor-line", y1: top, y2: height - bottom, visibility: "hidden" });
  const dots = series.map((one) => s("circle", { class: `dot ${one.kind}`, r: 4.5, visibility: "hidden" }));
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: "plot" },
    ticks.map((tick) => [
      s("line", { class: "grid-line", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }),
      s("text", { class: "tick", x: left - 10, y: y(tick) + 4, "text-anchor": "end" }, `${Math.round(tick * 100)}%`),
      s("text", { class: "tick", x: x(tick), y: height - bottom + 20, "text-anchor": "middle" }, tick.toFixed(1))]),
    s("text", { class: "axis", x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, xLabel),
    s("text", { class: "axis", x: left, y: 14 }, yLabel),
    marks.map((mark) => [
      s("line", { class: "mark-line", x1: x(mark.x), x2: x(mark.x), y1: top, y2: height - bottom }),
      s("text", { class: "mark-text", x: x(mark.x) + (mark.x > 0.75 ? -8 : 8), y: top + 12, "text-anchor": mark.x > 0.75 ? "end" : "start" }, `${mark.name} ${figure(mark.x, 3)}`)]),
    series.map((one) => s("path", { class: `line ${one.kind}`, d: one.points.map(([a, b], i) => `${i ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("") })),
    cursor, dots);
  const read = h("p", { class: "reading", "aria-live": "polite" }, describe(marks[0]?.x ?? 0));
  const at = (value) => {
    cursor.setAttribute("visibility", "visible");
    cursor.setAttribute("x1", x(value)); cursor.setAttribute("x2", x(value));
    series.forEach((one, i) => { dots[i].setAttribute("visibility", "visible"); dots[i].setAttribute("cx", x(value)); dots[i].setAttribute("cy", y(valueAt(one.points, value))); });
    read.textContent = describe(value);
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    at(Math.max(0, Math.min(1, ((event.clientX - box.left) / box.width * width - left) / (width - left - right))));
  });
  svg.addEventListener("pointerleave", () => {
    cursor.setAttribute("visibility", "hidden");
    dots.forEach((dot) => dot.setAttribute("visibility", "hidden"));
    read.textContent = describe(marks[0]?.x ?? 0);
  });
  const slider = h("input", { type: "range", min: 0, max: 1, step: 0.005, value: marks[0]?.x ?? 0.5, "aria-label": "Threshold to read the plot at", class: "reader", oninput: () => at(Number(slider.value)) });
  const legend = h("ul", { class: "legend" }, series.map((one) => h("li", { class: one.kind }, one.name)));
  return h("figure", { class: "chart" }, legend, svg, slider, read);
}

export function valueAt(points, x) {
  let found = points[0]?.[1] ?? 0;
  for (const [a, b] of points) { if (a > x) break; found = b; }
  return found;
}

export function spark(values, label) {
  const width = 220, height = 44, most = Math.max(...values, 1e-9), step = width / Math.max(values.length - 1, 1);
  const points = values.map((value, i) => `${(i * step).toFixed(1)} ${(height - 3 - (value / most) * (height - 8)).toFixed(1)}`);
  return s("svg", { viewBox: `0 0 ${width} ${height}`, class: "spark", role: "img", "aria-label": label, preserveAspectRatio: "none" },
    values.length > 1 ? [s("path", { class: "spark-area", d: `M0 ${height}L${points.join("L")}L${width} ${height}Z` }), s("path", { class: "spark-line", d: `M${points.join("L")}` })] : null);
}
