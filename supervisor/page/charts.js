// Draws the page's charts as SVG. All text goes in by textContent. Series differ by dashes and labels, marks by shape.

import { number } from "./words.js";

const NAMESPACE = "http://www.w3.org/2000/svg";
const LEFT = 54, RIGHT = 14, TOP = 10, BOTTOM = 34;

export function svg(name, attributes = {}, text = null) {
  const made = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
}

// Shapes by how a trial ended: they tell it without colour.
const SHAPES = {
  finished: ["M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z", "mark"],
  early_stopped: ["M0 -4.5L4.5 0L0 4.5L-4.5 0z", "mark"],
  pruned: ["M0 -4L4 3.5L-4 3.5z", "mark hollow"],
  after: ["M-3.5 -3.5H3.5V3.5H-3.5z", "mark hollow"],
  failed: ["M-3.5 -3.5L3.5 3.5M3.5 -3.5L-3.5 3.5", "mark bad"],
  beyond: ["M-4 2L0 -3L4 2", "mark beyond"],
};
export const WORDS = {
  finished: "finished", early_stopped: "stopped early", pruned: "pruned", failed: "failed", after: "after the search",
  beyond: "off the scale",
};

export function shape(kind, x = 0, y = 0, title = null, flip = false) {
  const [path, style] = SHAPES[kind] ?? SHAPES.failed;
  const turned = flip ? " scale(1 -1)" : "";
  const made = svg("path", { d: path, class: style, transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})${turned}` });
  if (title !== null) made.append(svg("title", {}, title));
  return made;
}

function kindOf(point) { return point.final ? "after" : point.end; }

function ticks(low, high, wanted) {
  const rough = (high - low) / Math.max(1, wanted) || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let place = Math.ceil(low / step); place * step <= high + step * 1e-9; place += 1) {
    found.push(Number((place * step).toPrecision(12)));
  }
  return found;
}

function scale(low, high, from, to) {
  const width = high - low || 1;
  return (value) => from + ((value - low) / width) * (to - from);
}

// The far bad values are cut off: one diverging trial would flatten all others to a line.
function robust(values, minimised) {
  const sorted = [...values].sort((one, other) => (minimised ? one - other : other - one));
  if (!sorted.length) return [0, 1];
  const best = sorted[0], worst = sorted[Math.ceil(0.93 * (sorted.length - 1))], spread = Math.abs(worst - best);
  // Values that differ in their last digits only are equal here: no number lies between them for a tick.
  const margin = spread > 1e-9 * Math.abs(best) ? 0.07 * spread : 0.02 * Math.abs(best) || 1;
  return [Math.min(best, worst) - margin, Math.max(best, worst) + margin];
}

// Axes: `x` and `y` have low, high, ticks and text(value); returns where values lie and the group to draw in.
function frame(target, x, y, label) {
  const box = target.getBoundingClientRect();
  const width = Math.max(220, box.width), height = Math.max(120, box.height);
  target.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const px = scale(x.low, x.high, LEFT, width - RIGHT), py = scale(y.low, y.high, height - BOTTOM, TOP);
  const axes = svg("g");
  for (const tick of y.ticks) {
    axes.append(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: py(tick), y2: py(tick) }));
    axes.append(svg("text", { x: LEFT - 6, y: py(tick) + 4, "text-anchor": "end" }, y.text(tick)));
  }
  const base = height - BOTTOM;
  axes.append(svg("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: base, y2: base }));
  let free = -Infinity;
  for (const tick of x.ticks) {
    const text = x.text(tick), half = text.length * 3.2;
    const at = Math.min(Math.max(px(tick), LEFT - 20 + half), width - half - 1);
    axes.append(svg("line", { class: "axis", x1: px(tick), x2: px(tick), y1: base, y2: base + 4 }));
    if (at - half < free + 6) continue;
    axes.append(svg("text", { x: at, y: base + 16, "text-anchor": "middle" }, text));
    free = at + half;
  }
  axes.append(svg("text", { x: (LEFT + width - RIGHT) / 2, y: height - 3, "text-anchor": "middle" }, x.label));
  target.replaceChildren(axes);
  target.setAttribute("aria-label", label);
  return { px, py, width, height, base };
}

export function empty(target, text) {
  target.removeAttribute("viewBox");
  target.replaceChildren(svg("text", { class: "empty", x: 10, y: 40 }, text));
  target.setAttribute("aria-label", text);
}

function valueAxis(values, minimised) {
  const [low, high] = robust(values, minimised);
  return { low, high, ticks: ticks(low, high, 4), text: number };
}

function countAxis(last, label) {
  const whole = ticks(1, Math.max(2, last), 6).filter((tick) => Number.isInteger(tick) && tick > 0);
  return { low: 1, high: Math.max(2, last), ticks: whole, text: String, label };
}

function path(points, at) {
  return points.map(([x, y], place) => `${place ? "L" : "M"}${at.px(x).toFixed(1)} ${at.py(y).toFixed(1)}`).join("");
}

// Puts a mark, at the edge where its value is beyond the scale.
function put(target, at, y, x, point, title) {
  const beyond = point.value > y.high ? at.py(y.high) + 2 : point.value < y.low ? at.base - 2 : null;
  const place = beyond ?? at.py(point.value);
  target.append(shape(beyond === null ? kindOf(point) : "beyond", x, place, title, point.value < y.low));
}

function titleOf(point) {
  return `trial ${point.trial}: ${number(point.value)}, ${WORDS[kindOf(point)] ?? point.end}`;
}

export function drawBest(target, data) {
  const points = data.points.filter((point) => point.value !== null);
  if (!points.length) return empty(target, "no trial has ended with a value yet");
  const y = valueAxis(points.map((point) => point.value), data.mode === "min");
  const last = Math.max(...data.points.map((point) => point.place));
  const [, best, trial] = data.best.at(-1) ?? [0, null, null];
  const label = best === null ? "No trial of the search has a value yet."
    : `Best ${data.metric} so far ${number(best)}, by trial ${trial}, after ${last} ended trials.`;
  const at = frame(target, countAxis(last, "trials ended"), y, label);
  for (const point of points) put(target, at, y, at.px(point.place), point, titleOf(point));
  for (const point of data.points.filter((one) => one.value === null)) {
    target.append(shape("failed", at.px(point.place), TOP + 4, titleOf(point)));
  }
  const steps = data.best.flatMap(([place, value], index) => {
    const before = index ? [[place, data.best[index - 1][1]]] : [];
    return [...before, [place, value]];
  });
  if (steps.length) {
    const held = steps.map(([place, value]) => [place, Math.min(Math.max(value, y.low), y.high)]);
    target.append(svg("path", { class: "line best", d: path([...held, [last, held.at(-1)[1]]], at) }));
  }
  return label;
}

export function drawCurves(target, data) {
  const curves = data.curves.filter((curve) => curve.points.length);
  const alive = curves.filter((curve) => curve.state === "RUNNING" || curve.state === "PAUSED");
  if (!curves.length) return empty(target, "no epoch has ended yet");
  const values = curves.flatMap((curve) => curve.points.map(([, value]) => value));
  const y = valueAxis(values, data.mode === "min");
  const last = Math.max(data.epochs ?? 0, ...curves.map((curve) => curve.points.at(-1)[0]));
  const label = alive.length
    ? alive.map((curve) => `trial ${curve.trial}: ${number(curve.points.at(-1)[1])} at epoch ${curve.points.at(-1)[0]}`)
      .join("; ")
    : "No trial runs now; the grey lines are trials that have ended.";
  const at = frame(target, countAxis(last, "epoch"), y, label);
  const inside = (points) => points.map(([x, value]) => [x, Math.min(Math.max(value, y.low), y.high)]);
  for (const curve of curves) {
    if (!alive.includes(curve)) target.append(svg("path", { class: "past", d: path(inside(curve.points), at) }));
  }
  const names = [];
  alive.forEach((curve, index) => {
    const points = inside(curve.points), [x, value] = points.at(-1);
    target.append(svg("path", { class: `line s${index % 6}`, d: path(points, at) }));
    target.append(svg("circle", { class: `line dot s${index % 6}`, cx: at.px(x), cy: at.py(value), r: 3 }));
    const held = curve.state === "PAUSED" ? " paused" : "";
    names.push({ x: at.px(x), y: at.py(value), text: `trial ${curve.trial}${held}` });
  });
  placeNames(target, names, at);
  return label;
}

// Names stand beside their line's end, moved apart where they would lie on one another.
function placeNames(target, names, at) {
  names.sort((one, other) => one.y - other.y);
  let free = TOP + 4;
  for (const name of names) {
    const y = Math.min(Math.max(name.y + 4, free), at.base - 2);
    free = y + 13;
    const left = name.x + 8 + name.text.length * 6 > at.width;
    const x = left ? name.x - 8 : name.x + 8;
    target.append(svg("text", { class: "name", x, y, "text-anchor": left ? "end" : "start" }, name.text));
  }
}

export function drawScatter(target, data, param) {
  const known = (point) => Object.hasOwn(point.params, param) && point.params[param] !== null;
  const points = data.points.filter((point) => point.value !== null && known(point));
  if (!param) return empty(target, "no parameter has differed between trials yet");
  if (!points.length) return empty(target, "no trial with this parameter has ended yet");
  const y = valueAxis(points.map((point) => point.value), data.mode === "min");
  const found = points.map((point) => point.params[param]);
  const x = found.every((value) => typeof value === "number") ? numberAxis(found, param) : wordAxis(found, param);
  const label = `${data.metric} of ${points.length} trials against ${param}${x.log ? " (logarithmic)" : ""}.`;
  const at = frame(target, x, y, label);
  points.forEach((point) => {
    const value = point.params[param];
    put(target, at, y, at.px(x.place(value)), point, `${titleOf(point)}, ${param} ${x.show(value)}`);
  });
  return label;
}

function numberAxis(values, param) {
  const low = Math.min(...values), high = Math.max(...values);
  const log = low > 0 && high / low >= 30, place = log ? Math.log10 : Number;
  const margin = 0.04 * (place(high) - place(low)) || 0.5, from = place(low) - margin, to = place(high) + margin;
  const few = [...new Set(values)].sort((one, other) => one - other);
  let marks = few.length <= 6 ? few.map(place) : ticks(from, to, 5);
  if (log && few.length > 6) {
    marks = [];
    for (let power = Math.ceil(from); power <= to; power += 1) marks.push(power);
  }
  const text = (tick) => number(log ? Number((10 ** tick).toPrecision(5)) : tick);
  return { low: from, high: to, ticks: marks, text, place, log, show: number, label: log ? `${param} (log)` : param };
}

function wordAxis(values, param) {
  const words = [...new Set(values.map(String))].sort();
  return {
    low: -0.5, high: words.length - 0.5, ticks: words.map((_, index) => index), text: (index) => words[index],
    place: (value) => words.indexOf(String(value)), show: String, label: param, log: false,
  };
}

export function drawHeat(target, data, clock) {
  const limitOf = (one) => data.limits.find((limit) => limit.node === one.node && limit.sensor === one.sensor);
  const nearest = (one) => {
    const limit = limitOf(one), top = Math.max(...one.points.map(([, celsius]) => celsius));
    return limit?.pause ? limit.pause - top : 1000 - top;
  };
  const shown = data.series.filter((one) => one.points.length).sort((one, other) => nearest(one) - nearest(other));
  if (!shown.length) return empty(target, "no temperature was read in this time");
  const lines = shown.slice(0, 4), limit = limitOf(lines[0]);
  const all = lines.flatMap((one) => one.points.map(([, celsius]) => celsius));
  const bounds = limit?.pause ? [...all, limit.pause + 2] : all;
  const low = Math.min(...bounds) - 3, high = Math.max(...bounds) + 3;
  const y = { low, high, ticks: ticks(low, high, 4), text: (tick) => `${tick} °C` };
  const at = frame(target, timeAxis(data.begin, data.end, clock), y, heatLabel(lines[0], limit, data.pauses));
  target.prepend(hatch());
  for (const pause of data.pauses) {
    const from = Math.max(at.px(pause.from), LEFT), to = at.px(pause.to ?? data.end);
    const band = svg("rect", { class: "band", x: from, y: TOP, width: Math.max(2, to - from), height: at.base - TOP });
    band.append(svg("title", {}, `paused by the ${pause.origin}: ${pause.reason}`));
    target.append(band);
    const name = { class: "name", x: (from + to) / 2, y: at.base - 6, "text-anchor": "middle" };
    if (to - from > 44) target.append(svg("text", name, "paused"));
  }
  for (const [style, celsius, word] of [["limit", limit?.pause, "pause"], ["limit soft-limit", limit?.soft, "ease"]]) {
    if (!celsius || celsius < low) continue;
    target.append(svg("line", { class: style, x1: LEFT, x2: at.width - RIGHT, y1: at.py(celsius), y2: at.py(celsius) }));
    const name = { class: "name", x: at.width - RIGHT, y: at.py(celsius) - 4, "text-anchor": "end" };
    target.append(svg("text", name, `${word} ${number(celsius)} °C`));
  }
  const names = lines.map((one, index) => {
    target.append(svg("path", { class: `line s${index}`, d: broken(one.points, one.step_s, at) }));
    const [x, celsius] = one.points.at(-1);
    return { x: at.px(x), y: at.py(celsius), text: shortSensor(one.sensor) };
  });
  placeNames(target, names, at);
  return target.getAttribute("aria-label");
}

// "hwmon:k10temp/pci-00c3/Tctl" as "k10temp Tctl": the device's kind and the sensor's name.
function shortSensor(id) {
  const parts = id.split(/[:/]/).filter(Boolean);
  return parts.length < 3 ? id.slice(0, 28) : `${parts[1].slice(0, 12)} ${parts.at(-1).slice(0, 16)}`;
}

// A line with gaps where nothing was read.
function broken(points, step, at) {
  let drawn = "", before = -Infinity;
  for (const [x, y] of points) {
    drawn += `${x - before > 2.5 * step ? "M" : "L"}${at.px(x).toFixed(1)} ${at.py(y).toFixed(1)}`;
    before = x;
  }
  return drawn;
}

function hatch() {
  const pattern = svg("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse" });
  pattern.append(svg("path", { class: "hatch", d: "M0 6L6 0" }));
  return pattern;
}

function heatLabel(line, limit, pauses) {
  const now = `${line.sensor}: ${line.points.at(-1)[1].toFixed(0)} °C`;
  return `${now}${limit?.pause ? `, pauses at ${number(limit.pause)} °C` : ""}; ${pauses.length} pauses in this time.`;
}

function timeAxis(begin, end, clock) {
  const width = end - begin, steps = [1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400];
  const step = steps.find((one) => width / one <= 7) ?? 86400;
  const shift = new Date(end * 1000).getTimezoneOffset() * 60;
  const marks = [];
  for (let tick = Math.ceil((begin - shift) / step) * step + shift; tick <= end; tick += step) marks.push(tick);
  return { low: begin, high: end, ticks: marks, text: (tick) => clock(tick, step >= 86400), label: "local time" };
}
