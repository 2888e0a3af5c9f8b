// Shows one run: listens to the stream, fetches what the charts draw, pauses and resumes. Whatever comes from the
// store goes in by textContent, never as HTML.

import { WORDS, drawBest, drawCurves, drawHeat, drawScatter, empty, shape, svg } from "./charts.js";
import { clock, duration, eta, number } from "./words.js";

const at = (id) => document.getElementById(id);
const STATES = {
  RUNNING: "▶", PAUSED: "❚❚", EXITED: "✓", FATAL: "✗", SKIPPED: "–", STOPPED: "○", STARTING: "…", BACKOFF: "↻",
  STOPPING: "■",
};
const WORK = ["RUNNING", "PAUSED", "STARTING", "BACKOFF", "STOPPING"];
const LEVELS = ["info", "warning", "error"];
const MAX_EVENTS = 300, SILENT_AFTER_MS = 20000, HEAT_PERIOD_MS = 60000, ANSWER_WITHIN_MS = 30000;
const REFUSED_AGAIN_MS = 10000, SILENT_AGAIN_MS = 60000; // after which a new stream is tried

let status = null, trials = null, heat = null, chosen = null, events = [], heard = 0, lost = "", skew = 0;
let drawnFor = "", asking = false, stream = null, tried = 0;

// The token has done its work: it must stay neither in the address bar nor in the history.
if (location.search) history.replaceState(null, "", location.pathname);

function element(name, style = "", text = null) {
  const made = document.createElement(name);
  if (style) made.className = style;
  if (text !== null) made.textContent = text;
  return made;
}

function now() { return Date.now() / 1000 + skew; }

function showHead() {
  const { run, experiments } = status;
  at("plan").textContent = run.plan;
  at("run").textContent = run.id;
  const word = run.state === "RUNNING" && status.action.action === "PAUSE" ? "PAUSED" : run.state;
  at("state").textContent = `${STATES[word] ?? "?"} ${word}`;
  at("state").className = `chip ${word}`;
  const ended = experiments.reduce((sum, one) => sum + over(one), 0);
  const total = experiments.reduce((sum, one) => sum + one.total, 0);
  document.title = `${STATES[word] ?? ""} ${ended}/${total} ${run.plan}`;
  showAction();
  showNeeds();
  const past = experiments.filter((one) => ["EXITED", "FATAL", "SKIPPED"].includes(one.state)).length;
  const hot = status.temperatures[0], lost = status.lost.reduce((sum, [, seconds]) => sum + seconds, 0);
  const facts = [
    ["Experiments", `${past} of ${experiments.length}`, "ended"],
    ["Trials", `${ended} of ${total}`, "ended"],
    [status.action.origin === "operator" && status.action.action !== "RUN" ? "Ends in, if resumed now" : "Ends in",
      status.eta ? duration(status.eta.median_s) : past < experiments.length ? "not known yet" : "all ended",
      status.eta ? `${duration(status.eta.low_s)} to ${duration(status.eta.high_s)}` : ""],
    ["Hottest", hot?.celsius != null ? `${hot.celsius.toFixed(0)} °C` : status.protected === false ? "UNPROTECTED" : "–",
      hot?.pause ? `pauses at ${number(hot.pause)} °C` : status.protected === false ? "no sensor" : ""],
    ["Lost time, all trials", duration(lost), status.lost[0] ? `most by: ${status.lost[0][0].slice(0, 40)}` : ""],
    ["Free disk", status.free_bytes === null ? "?" : `${(status.free_bytes / 2 ** 30).toFixed(1)} GiB`, ""],
  ];
  at("facts").replaceChildren(...facts.map(([name, value, more]) => {
    const pair = element("div"), shown = element("dd", "", `${value} `);
    shown.append(element("small", "", more));
    pair.append(element("dt", "", name), shown);
    return pair;
  }));
}

function showAction() {
  const { action, origin, who, reason, since_wall: since, drill } = status.action;
  const by = who ?? `the ${origin}`;
  const text = action === "RUN" ? "Work goes on: nothing holds it back."
    : `${action} by ${by}: ${reason}${since ? `, for ${duration(now() - since)}` : ""}${drill ? " [drill]" : ""}`;
  at("action").replaceChildren(element("strong", "", action === "RUN" ? "▶ " : "❚❚ "), text);
}

function showNeeds() {
  const texts = status.needs.join("\n");
  at("needs").hidden = !status.needs.length;
  if (at("needs-list").dataset.texts === texts) return; // an alert that is written anew is read out anew
  at("needs-list").dataset.texts = texts;
  at("needs-list").replaceChildren(...status.needs.map((text) => element("li", "", text)));
}

// The ladder
function shownExperiment() {
  const all = status.experiments, begun = all.filter((one) => one.started !== null);
  const named = all.find((one) => one.name === chosen);
  return named ?? all.find((one) => WORK.includes(one.state)) ?? begun.at(-1) ?? all[0];
}

function showLadder() {
  const shown = shownExperiment(), focused = document.activeElement?.dataset?.name;
  status.experiments.forEach((one, place) => {
    const item = element("li"), row = element("button");
    row.type = "button";
    row.dataset.name = one.name;
    row.setAttribute("aria-pressed", String(one === shown));
    row.addEventListener("click", () => { chosen = one.name; showLadder(); showExperiment(); });
    const waits = one.state === "STOPPED" && one.started === null;
    row.append(element("span", `chip ${one.state}`, `${STATES[one.state] ?? "?"} ${waits ? "waiting" : one.state}`),
      element("span", "name", one.name), bar(one), element("span", "counts", counts(one)), best(one), left(one));
    if (one.reason && !["EXITED", "RUNNING"].includes(one.state)) row.append(element("small", "why", one.reason));
    item.append(row);
    const before = at("ladder").children[place];
    if (!before) at("ladder").append(item);
    else if (!before.isEqualNode(item)) before.replaceWith(item); // one that stays can be clicked meanwhile
  });
  if (focused) at("ladder").querySelector(`[data-name="${CSS.escape(focused)}"]`)?.focus();
}

function bar(one) {
  const made = element("span", "bar"), known = over(one) + one.running.length;
  const parts = { done: one.done, pruned: one.pruned, failed: one.failed, running: one.running.length,
    waiting: Math.max(0, one.total - known) };
  for (const [kind, count] of Object.entries(parts)) {
    const part = element("i", kind);
    part.style.flexGrow = count;
    made.append(part);
  }
  return made;
}

function over(one) { return one.done + one.pruned + one.failed + one.set_aside; }

function counts(one) {
  const kinds = { running: one.running.length, pruned: one.pruned, failed: one.failed, "set aside": one.set_aside };
  const some = Object.entries(kinds).filter(([, count]) => count).map(([kind, count]) => `${count} ${kind}`);
  return [`${over(one)} of ${one.total}`, ...some].join(", ");
}

function best(one) {
  const made = element("span", "number", one.best ? `best ${number(one.best.value)} ` : "");
  if (one.final !== null) made.append(element("small", "", `final ${number(one.final)}`));
  else if (one.best) made.append(element("small", "", `trial ${one.best.trial}`));
  return made;
}

function left(one) {
  const made = element("small");
  if (one.ended !== null && one.started !== null) made.textContent = `took ${duration(one.ended - one.started)}`;
  else if (one.eta) made.textContent = `ends in ${duration(one.eta.median_s)}`;
  else if (one.started !== null) made.textContent = `for ${duration(now() - one.started)}`;
  return made;
}

// The charts
async function fetched(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
  if (!answer.ok) throw new Error(`${answer.status}: ${(await answer.text()).slice(0, 200)}`);
  return answer.json();
}

async function showExperiment() {
  const one = shownExperiment();
  if (!one || asking) return;
  const key = JSON.stringify([one.name, one.done, one.pruned, one.failed, one.set_aside, one.running, one.best]);
  at("shown").textContent = one.name;
  at("shown-note").textContent = [one.doing, eta(one.eta) && `ends in ${eta(one.eta)}`].filter(Boolean).join(", ");
  if (key === drawnFor) return;
  asking = true;
  try {
    trials = await fetched(`/trials?experiment=${encodeURIComponent(one.name)}`);
    drawnFor = key;
    drawTrials();
  } catch (error) {
    at("best-note").textContent = `cannot be read: ${error.message}`;
  } finally {
    asking = false;
  }
  if (shownExperiment().name !== one.name) showExperiment(); // another one was chosen meanwhile
}

function drawTrials() {
  if (!trials) return;
  const newest = trials.best.at(-1), alive = trials.curves.filter((curve) => WORK.includes(curve.state)).length;
  at("best-note").textContent = newest ? `${trials.metric} ${number(newest[1])}, trial ${newest[2]}` : "";
  at("curves-note").textContent = alive ? `${trials.metric}; grey: the newest that have ended` : "grey: ended trials";
  const select = at("param"), before = select.value;
  if (JSON.stringify(trials.params) !== select.dataset.names) {
    select.dataset.names = JSON.stringify(trials.params);
    select.replaceChildren(...trials.params.map((name) => new Option(name, name)));
    if (trials.params.includes(before)) select.value = before;
  }
  select.disabled = !trials.params.length;
  drawBest(at("best"), trials);
  drawCurves(at("curves"), trials);
  document.querySelector("label[for=param]").textContent = `${trials.metric} against`;
  drawScatter(at("scatter"), trials, select.value);
  document.querySelector(".marks").replaceChildren(...Object.entries(WORDS).map(([kind, word]) => {
    const pair = element("span"), drawing = svg("svg", { viewBox: "-7 -6 14 12" });
    drawing.append(shape(kind));
    pair.append(drawing, word);
    return pair;
  }));
}

async function showHeat() {
  try {
    heat = await fetched(`/temperatures?hours=${at("hours").value}`);
    drawTemperatures();
  } catch (error) {
    at("heat-note").textContent = `cannot be read: ${error.message}`;
  }
}

function drawTemperatures() {
  if (!heat) return;
  drawHeat(at("heat"), heat, clock);
  const more = heat.series.length - 4;
  at("heat-note").textContent = more > 0 ? `${more} cooler sensors left out` : "";
}

// The events
function addEvents(found) {
  const last = events[0]?.seq ?? -1;
  events = [...found.filter((one) => one.seq > last).reverse(), ...events].slice(0, MAX_EVENTS);
  showEvents();
}

function showEvents() {
  const least = LEVELS.indexOf(at("level").value);
  const shown = events.filter((one) => LEVELS.indexOf(one.level) >= least);
  at("events").replaceChildren(...shown.map((one) => {
    const item = element("li"), time = element("time", "", `${clock(one.wall, true)} ${clock(one.wall)}`);
    time.dateTime = new Date(one.wall * 1000).toISOString();
    const where = one.experiment && !one.text.includes(one.experiment) ? `${one.experiment}: ` : "";
    item.append(time, element("span", one.level, one.level), element("span", "text", `${where}${one.text}`));
    item.title = one.event;
    return item;
  }));
  if (!shown.length) at("events").replaceChildren(element("li", "soft", "none"));
}

// The buttons
async function send(button, path, body, said) {
  button.disabled = true;
  try {
    const within = AbortSignal.timeout(ANSWER_WITHIN_MS); // a browser keeps six connections: other pages may have them
    const answer = await fetch(path, { method: "POST", body: JSON.stringify(body), signal: within });
    const found = await answer.json().catch(() => ({ error: `status ${answer.status}` }));
    at("said").textContent = answer.ok ? said(found) : [found.error, found.remedy].filter(Boolean).join("; ");
  } catch (error) {
    at("said").textContent = `no answer: ${error.message}`;
  } finally {
    button.disabled = false;
  }
}

function pause(id, now, said) {
  at(id).addEventListener("click", () => send(at(id), "/pause", { now }, () => said));
}
pause("pause", false, "paused: running trials finish");
pause("pause-now", true, "paused: trials stop at their next batch");
at("resume").addEventListener("click", () => send(at("resume"), "/resume", {}, (found) => {
  const force = found.in_force;
  const still = force.action === "RUN" ? "" : `; still ${force.action} by the ${force.origin}`;
  return (found.lifted ? "resumed" : "no operator's pause was in force") + still;
}));

// The stream
function listen() {
  stream?.close();
  stream = new EventSource("/events");
  tried = Date.now();
  let bye = "";
  stream.addEventListener("status", (event) => {
    const before = status?.run.id;
    status = JSON.parse(event.data);
    if (before && before !== status.run.id) location.reload(); // nothing that is drawn is of the new run
    heard = Date.now();
    lost = "";
    skew = status.now - heard / 1000;
    showHead();
    showLadder();
    showExperiment();
    if (!heat) showHeat();
  });
  stream.addEventListener("events", (event) => addEvents(JSON.parse(event.data)));
  stream.addEventListener("bye", (event) => { bye = JSON.parse(event.data); });
  stream.addEventListener("error", () => {
    at("connection").textContent = lost = `${bye || "no connection"}; this page tries again`;
  });
}

setInterval(() => {
  // A browser gives up a stream that is refused, and does not see that one died while the machine slept.
  const refused = stream.readyState === EventSource.CLOSED, since = Date.now() - Math.max(heard, tried);
  if (since > (refused ? REFUSED_AGAIN_MS : SILENT_AGAIN_MS)) listen();
  if (!heard) return;
  const silent = Date.now() - heard, stale = lost || (silent > SILENT_AFTER_MS && "out of date");
  at("connection").classList.toggle("stale", Boolean(stale));
  at("connection").textContent = stale ? `${stale}: nothing heard for ${duration(silent / 1000)}`
    : `live, ${clock(heard / 1000)}`;
}, 1000);
setInterval(() => { if (Date.now() - heard < SILENT_AFTER_MS) showHeat(); }, HEAT_PERIOD_MS);
new ResizeObserver(() => { drawTrials(); drawTemperatures(); }).observe(document.querySelector(".charts"));
at("param").addEventListener("change", drawTrials);
at("hours").addEventListener("change", showHeat);
at("level").addEventListener("change", showEvents);
for (const id of ["best", "curves", "scatter", "heat"]) empty(at(id), "not read yet");
listen();
