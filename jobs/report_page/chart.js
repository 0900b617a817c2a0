"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const page = document.getElementById("page");

// Elements are made one by one and texts set as texts: names come from files, and may hold anything.
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {}))
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  for (const child of children) if (child !== null && child !== undefined) node.append(child);
  return node;
}
const element = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
const drawn = (name, attributes, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

function section(title, explanation) {
  const node = element("section", {}, element("h2", {}, title));
  if (explanation) node.append(element("p", { class: "note" }, explanation));
  page.append(node);
  return node;
}

// ---- numbers as text; null is what is not known

const known = value => typeof value === "number" && isFinite(value);
function significant(value, digits) {
  if (!known(value)) return "–";
  if (value !== 0 && (Math.abs(value) >= 1e6 || Math.abs(value) < 1e-4)) return value.toExponential(digits - 1);
  return String(Number(value.toPrecision(digits)));
}
function grouped(value) { return known(value) ? value.toLocaleString("en-US", { maximumFractionDigits: 2 }) : "–"; }
const percents = value => (Math.round(1000 * value) / 10).toFixed(1);
function score(value) {
  if (!known(value)) return "–";
  return data.percent ? percents(value) + " %" : significant(value, 4);
}
const scoreTick = value => data.percent ? significant(100 * value, 3) + " %" : significant(value, 3);
function interval(low, high) {
  if (!known(low) || !known(high)) return "";
  return data.percent ? percents(low) + " to " + percents(high) + " %"
    : significant(low, 4) + " to " + significant(high, 4);
}
function probability(p) {
  if (!known(p)) return "";
  return p < 1e-99 ? "< 1e-99" : p < 0.001 ? p.toExponential(0) : p.toFixed(3);
}
function duration(seconds) {
  if (!known(seconds)) return "–";
  if (seconds === 0) return "0 s";
  if (seconds < 1e-3) return (seconds * 1e6).toFixed(0) + " µs";
  if (seconds < 1) return significant(seconds * 1e3, 3) + " ms";
  if (seconds < 120) return significant(seconds, 3) + " s";
  if (seconds < 7200) return significant(seconds / 60, 3) + " min";
  return significant(seconds / 3600, 3) + " h";
}
const shortened = (text, limit) => text.length > limit ? text.slice(0, limit - 1) + "…" : text;
const many = (count, noun) => grouped(count) + " " + noun + (count === 1 ? "" : "s");

// ---- hover

const tip = document.getElementById("tip");
document.addEventListener("pointermove", event => {
  const target = event.target.closest ? event.target.closest("[data-tip]") : null;
  tip.hidden = !target;
  if (!target) return;
  tip.textContent = target.dataset.tip;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8)) + "px";
  tip.style.top = (event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 10
    : event.clientY + 18) + "px";
});
document.addEventListener("pointerleave", () => { tip.hidden = true; });

// ---- plots

function extent(...lists) {
  let low = Infinity, high = -Infinity;
  for (const list of lists)
    for (const value of list) if (known(value)) { low = Math.min(low, value); high = Math.max(high, value); }
  return low <= high ? [low, high] : [0, 1];
}
function widened([low, high], share) {
  const more = (high - low) * share || Math.abs(high) * 0.1 || 1;
  return [low - more, high + more];
}
function ticks(low, high, count) {
  const raw = (high - low) / Math.max(1, count);
  if (!(raw > 0) || !isFinite(raw)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find(times => times * power >= raw * 0.999);
  const found = [];
  for (let tick = Math.ceil(low / step - 1e-9); tick * step <= high + step * 1e-9 && found.length < 100; ++tick)
    found.push(Number((tick * step).toPrecision(12)));
  return found;
}
function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high * 1.001; ++power)
    if (10 ** power >= low * 0.999) found.push(10 ** power);
  while (found.length > 7) for (let i = found.length - 2; i > 0; i -= 2) found.splice(i, 1);
  return found.length > 1 ? found : ticks(low, high, 3);
}

// An SVG with axes; x and y map values to places. Options: width, height, left, right, top, bottom (margins), x, y (ranges),
// xLabel, yLabel, xText, yText (of ticks), log (of y), label (for those who do not see it).
class Plot {
  constructor(parent, options) {
    const o = { width: 1000, height: 320, left: 64, right: 24, top: 22, bottom: 44, xText: grouped,
      yText: v => significant(v, 3), ...options };
    this.o = o;
    this.svg = drawn("svg", { viewBox: `0 0 ${o.width} ${o.height}`, role: "img", "aria-label": o.label || o.yLabel });
    parent.append(this.svg);
    const bent = o.log ? Math.log10 : v => v;
    const [x0, x1] = o.x, [y0, y1] = [bent(o.y[0]), bent(o.y[1])];
    this.x = v => o.left + (v - x0) / (x1 - x0 || 1) * (o.width - o.left - o.right);
    this.y = v => o.height - o.bottom - (bent(v) - y0) / (y1 - y0 || 1) * (o.height - o.top - o.bottom);
    const bottom = o.height - o.bottom, small = o.width < 500;
    for (const tick of o.log ? logTicks(...o.y) : ticks(...o.y, small ? 3 : 5)) {
      const y = this.y(tick);
      this.svg.append(drawn("line", { class: "grid", x1: o.left, x2: o.width - o.right, y1: y, y2: y }),
        drawn("text", { x: o.left - 8, y: y + 4, "text-anchor": "end" }, o.yText(tick)));
    }
    for (const tick of ticks(...o.x, small ? 4 : 8))
      if (!o.wholeX || Number.isInteger(tick))
        this.svg.append(drawn("text", { x: this.x(tick), y: bottom + 18, "text-anchor": "middle" }, o.xText(tick)));
    this.svg.append(drawn("line", { class: "axis", x1: o.left, x2: o.width - o.right, y1: bottom, y2: bottom }));
    if (o.xLabel)
      this.svg.append(drawn("text", { x: (o.left + o.width - o.right) / 2, y: o.height - 6, "text-anchor": "middle" },
        o.xLabel));
    if (o.yLabel) this.svg.append(drawn("text", { x: small ? 0 : 8, y: 12 }, o.yLabel));
  }
  add(...nodes) { this.svg.append(...nodes); }
  // Points without a value interrupt the line; `steps`: a value holds until the next.
  line(xs, ys, attributes, steps) {
    let path = "", pen = false, last = 0;
    for (let i = 0; i < xs.length; ++i) {
      if (!known(ys[i]) || !known(xs[i])) { pen = false; continue; }
      const x = this.x(xs[i]).toFixed(1), y = this.y(ys[i]).toFixed(1);
      path += !pen ? `M${x} ${y}` : steps ? `L${x} ${last}L${x} ${y}` : `L${x} ${y}`;
      pen = true;
      last = y;
    }
    const node = drawn("path", { class: "line", d: path || "M0 0", ...attributes });
    this.add(node);
    return node;
  }
  dot(x, y, radius, attributes) {
    this.add(drawn("circle", { cx: this.x(x).toFixed(1), cy: this.y(y).toFixed(1), r: radius, ...attributes }));
  }
  across(y, text, attributes) {
    const at = this.y(y);
    this.add(drawn("line", { x1: this.o.left, x2: this.o.width - this.o.right, y1: at, y2: at,
      stroke: "var(--muted)", "stroke-dasharray": "2 4", ...attributes }));
    return text;
  }
}

function legend(parent, entries) {
  const node = element("div", { class: "legend" });
  for (const [text, colour, kind] of entries)
    node.append(element("span", { class: kind || "", style: `--key: ${colour}` }, text));
  parent.append(node);
}

// Head: texts, those beginning with "#" for numbers. Cells: texts or elements.
function table(parent, head, rows, bestRow) {
  const isNumber = head.map(text => text.startsWith("#"));
  const cell = (kind, i, content) => content instanceof Element && content.tagName === "TD" ? content
    : element(kind, { class: isNumber[i] ? "number" : "text" }, content);
  const node = element("table", {},
    element("thead", {}, element("tr", {}, ...head.map((text, i) => cell("th", i, text.replace(/^#/, ""))))),
    element("tbody", {}, ...rows.map((row, number) =>
      element("tr", { class: number === bestRow ? "best" : null }, ...row.map((content, i) => cell("td", i, content))))));
  parent.append(element("div", { class: "wide" }, node));
  return node;
}
