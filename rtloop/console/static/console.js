"use strict";
// The operator's page. One WebSocket: a snapshot first, then every message of the loop as
// {kind, time_s, body}. What is not heard of for too long is greyed, with its age.

const SILENT_S = 4;            // the engine says "ready" every second
const OVERDUE_TR = 2.5;        // a volume is overdue after so many TR, and a second
const MOST_FAULTS = 200;
const IN_TIME = ["dummy", "used", "censored", "refused", "missing"];
const GROUND = { rest: "#22303b", hold: "#5a431088", neutral: "#52271f" };

const $ = (id) => document.getElementById(id);
const seconds = () => performance.now() / 1e3;
const text = (value, digits) => (value == null ? "–" : value.toFixed(digits).replace("-", "−"));
const clock = (time_s) => new Date(1e3 * time_s).toLocaleTimeString([], { hour12: false });

const course = { index: [], score: [], low: [], high: [], feedback: [], fd: [], x: [], y: [], z: [], scene: [] };
const run = { n_volumes: null, tr_s: null, edges: [], blinded: null };
const heard = { any: null, volume: null, shown: null };  // when, on this page's clock
let lost = 0, socket = null, linked = false, outcome = null, last = null;

// --- plots -------------------------------------------------------------------------------------

const axis = { stroke: "#93a4b1", grid: { stroke: "#2b394580", width: 1 }, ticks: { stroke: "#2b3945" } };

function ground(plot) {
  const { ctx, bbox } = plot;
  course.index.forEach((index, i) => {
    const colour = GROUND[course.scene[i]];
    if (!colour) return;
    const left = plot.valToPos(index - 0.5, "x", true), right = plot.valToPos(index + 0.5, "x", true);
    ctx.fillStyle = colour;
    ctx.fillRect(left, bbox.top, Math.ceil(right - left), bbox.height);
  });
}

function plot(id, height, scale, series, bands) {
  const range = (_, low, high) => [0, Math.max(run.n_volumes ?? 0, high ?? 0, 10)];
  const options = {
    width: $(id).clientWidth, height, scales: { x: { time: false, range }, y: scale },
    axes: [{ ...axis, size: 30, gap: 2 }, { ...axis, size: 44 }], series: [{ label: "volume" }, ...series], bands,
    cursor: { drag: { setScale: false } }, hooks: { drawClear: [ground] },
  };
  return new uPlot(options, [[], ...series.map(() => [])], $(id));
}

const line = (label, stroke, digits, extra) => ({
  label, stroke, width: 1.6, spanGaps: false, points: { show: false },
  value: (_, value) => text(value, digits), ...extra,
});
const edge = (label) => line(label, "#56b4e970", 3, { width: 1, class: "quiet" });

const plots = {
  score: plot("plot-score", 250, {}, [line("raw score", "#56b4e9", 3), edge("+1 SE"), edge("−1 SE")],
    [{ series: [2, 3], fill: "#56b4e93a" }]),
  feedback: plot("plot-feedback", 125, { range: [-2, 102] }, [line("feedback", "#e69f00", 0)]),
  motion: plot("plot-motion", 175, {}, [
    line("FD", "#e6ebef", 2), line("x", "#56b4e9", 2), line("y", "#e69f00", 2), line("z", "#35c49a", 2),
  ]),
};

function draw() {
  plots.score.setData([course.index, course.score, course.high, course.low]);
  plots.feedback.setData([course.index, course.feedback]);
  plots.motion.setData([course.index, course.fd, course.x, course.y, course.z]);
  for (const name in plots) {
    // The legend tells the newest values, or those under the mouse.
    if (!(plots[name].cursor.left >= 0)) plots[name].setLegend({ idx: course.index.length - 1 });
  }
}

// --- what came ---------------------------------------------------------------------------------

function addStep(step, time_s) {
  step.faults.forEach((fault) => addFault(time_s, fault));
  lost += step.n_missing + (["censored", "refused"].includes(step.status) ? 1 : 0);
  last = step;
  const newest = course.index.at(-1) ?? -1;
  if (!IN_TIME.includes(step.status) || step.index <= newest) return;
  const missing = new Set(step.faults.filter((fault) => fault.kind === "missing").map((fault) => fault.index));
  for (let gap = newest + 1; gap < step.index; gap++) {
    const row = { index: gap, scene: missing.has(gap) ? "hold" : null };
    for (const name in course) course[name].push(row[name] ?? null);
  }
  const score = step.raw_score ?? null, error = step.standard_error ?? null;
  const known = score != null && error != null, [x, y, z] = step.parameters;
  const row = { ...step, score, low: known ? score - error : null, high: known ? score + error : null,
    fd: step.fd_mm, x, y, z };
  for (const name in course) course[name].push(row[name] ?? null);
}

function addFault(time_s, { index, kind, reason, action }) {
  $("faults").querySelector(".none")?.remove();
  const row = document.createElement("tr");
  for (const [name, words] of [["time", clock(time_s)], ["volume", index ?? ""], ["kind", kind.replaceAll("_", " ")]]) {
    const cell = row.insertCell();
    [cell.className, cell.textContent] = [name, words];
  }
  const done = document.createElement("small");
  done.textContent = action ? ` → ${action}` : "";
  row.insertCell().append(reason, done);
  $("faults").prepend(row);
  while ($("faults").rows.length > MOST_FAULTS) $("faults").lastChild.remove();
}

function addEvent(time_s, words) {
  const item = document.createElement("li"), time = document.createElement("time");
  time.textContent = clock(time_s);
  item.append(time, ` ${words}`);
  $("events").prepend(item);
}

function forget() {
  for (const name in course) course[name].length = 0;
  [lost, last, outcome, heard.volume] = [0, null, null, null];
}

function take({ kind, time_s, body }, age_s = 0) {
  heard.any = Math.max(heard.any ?? -Infinity, seconds() - age_s);
  if (kind === "step") {
    addStep(body, time_s);
    if (body.status !== "none") heard.volume = seconds() - age_s;
  } else if (kind === "ready") {
    Object.assign(run, body);
  } else if (kind === "shown") {
    heard.shown = seconds() - age_s;
    $("screen").textContent = `screen: ${body.scene}` + (body.value == null ? "" : ` ${body.value.toFixed(0)}`);
  } else if (kind === "fault" && body.kind.startsWith("series_")) {
    addEvent(time_s, `${body.kind.replace("_", " ")}: ${body.reason}`);
  } else if (kind === "fault") {
    addFault(time_s, body);
  } else if (kind === "attempt") {
    forget();
    addEvent(time_s, "a series begins");
  } else if (kind === "attempt closed") {
    outcome = body.outcome;
    addEvent(time_s, `the series is ${body.outcome}`);
  } else {
    addEvent(time_s, [kind, body.action, body.text, body.by && `(${body.by})`].filter(Boolean).join(" "));
  }
}

function takeSnapshot({ time_s, body }) {
  $("run").textContent = body.run;
  document.title = `${body.run} · fcnef`;
  forget();
  $("faults").innerHTML = '<tr class="none"><td>none</td></tr>';
  $("events").replaceChildren();
  const all = [...body.events, ...body.newest, ...body.course].sort((a, b) => a.time_s - b.time_s);
  for (const message of all) take(message, time_s - message.time_s);
}

// --- what is shown ------------------------------------------------------------------------------

function tell() {
  const step = last;
  const blinded = run.blinded ?? (step != null && !("raw_score" in step));
  document.querySelectorAll(".scores").forEach((part) => { part.hidden = blinded; });
  document.querySelector(".blinded").hidden = !blinded;
  if (!step) return;
  const held = step.scene === "hold";
  $("feedback").textContent = text(step.feedback, 0);
  $("feedback").parentElement.classList.toggle("held", held);
  $("feedback-label").textContent = held ? "feedback, held" : "feedback";
  $("level").style.width = `${step.feedback ?? 0}%`;
  $("score").textContent = text(step.raw_score, 2);
  if (step.standard_error != null) {
    $("score").append(" ", Object.assign(document.createElement("small"), {
      textContent: `± ${text(step.standard_error, 2)}`,
    }));
  }
  $("fd").textContent = text(step.fd_mm, 2);
  $("latency").textContent = text(step.latency_ms, 1);
  $("good").textContent = text(step.n_samples, 0);
  $("lost").textContent = lost;
  $("scene").textContent = step.scene + (step.trial == null ? "" : ` · trial ${step.trial + 1}`);
  $("scene").className = `chip ${held ? "warm" : ""}`;
  const of = run.n_volumes == null ? "" : ` of ${run.n_volumes}`;
  const count = (course.index.at(-1) ?? -1) + 1;
  $("volume").textContent = `volume ${count}${of}: ${step.status}`;
  const share = run.n_volumes == null ? 0 : count / run.n_volumes;
  $("progress").firstElementChild.style.width = `${100 * share}%`;
  tellEdges(step.correlations ?? []);
}

function tellEdges(correlations) {
  const box = $("edges"), n = Math.min(correlations.length, run.edges.length);
  while (box.children.length > n) box.lastChild.remove();
  while (box.children.length < n) {
    const row = document.createElement("div");
    row.className = "edge";
    row.innerHTML = '<span></span><div class="bar"><i></i></div><b></b>';
    box.append(row);
  }
  [...box.children].forEach((row, k) => {
    const r = correlations[k], [name, bar, number] = row.children;
    name.textContent = name.title = run.edges[k];
    number.textContent = text(r, 2);
    const mark = bar.firstElementChild, size = 50 * Math.abs(r ?? 0);
    mark.className = r < 0 ? "minus" : "";
    mark.style.left = `${r < 0 ? 50 - size : 50}%`;
    mark.style.width = `${size}%`;
  });
}

/** What the operator has to know now, worst first: [words, class]. Stale data are the bad ones. */
function warnings() {
  const now = seconds(), found = [];
  const ago = (since) => `${Math.max(0, now - since).toFixed(0)} s`;
  const age = heard.volume == null ? "" : ` The last volume came ${ago(heard.volume)} ago.`;
  if (outcome) return [[`The series is ${outcome}.`, outcome === "complete" ? "calm" : ""]];
  if (!linked) return [[`No link to the console.${age}`, "bad"]];
  if (heard.any != null && now - heard.any > SILENT_S) {
    return [[`The engine has been silent for ${ago(heard.any)}.${age}`, "bad"]];
  }
  const patience = OVERDUE_TR * (run.tr_s ?? 2) + 1;
  if (heard.volume != null && now - heard.volume > patience) found.push([`No volume for ${ago(heard.volume)}.`, "bad"]);
  if (!last) return found;
  if (last.scene === "hold") {
    const why = last.faults.map((fault) => fault.reason).join("; ");
    found.push([`Feedback is held${why ? `: ${why}` : ""}.`, ""]);
  }
  if (last.scene === "neutral") found.push(["Neutral screen: paused or stopped.", ""]);
  if (last.warming_up) found.push([`No score yet: ${last.warming_up}.`, ""]);
  if (last.alarms.length) found.push([`The score follows ${last.alarms.join(" and ")}.`, ""]);
  return found;
}

function watch() {
  const found = warnings(), bad = found.some(([, kind]) => kind === "bad");
  const lines = found.map(([words, kind]) => {
    const banner = document.createElement("div");
    [banner.className, banner.textContent] = [`banner ${kind}`, words];
    return banner;
  });
  $("banners").replaceChildren(...lines);
  document.querySelector("main").classList.toggle("stale", bad);
  const state = outcome ?? (!linked ? "no link" : bad ? "stale" : heard.volume == null ? "waiting" : "live");
  $("link").textContent = state;
  $("link").className = `chip ${bad ? "bad" : state === "live" ? "good" : ""}`;
  const silent = heard.volume != null && heard.shown < heard.volume - 3 * (run.tr_s ?? 2);
  $("screen").className = `chip ${heard.shown == null ? "" : silent ? "bad" : "good"}`;
  for (const name of ["note", "pause", "resume", "stop"]) $(name).disabled = !linked || outcome === "complete";
}

// --- the link -----------------------------------------------------------------------------------

function connect() {
  socket = new WebSocket(`ws://${location.host}/live`);
  socket.onopen = () => { linked = true; watch(); };
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.kind === "snapshot") takeSnapshot(message); else take(message);
    if (message.kind === "snapshot" || message.kind === "step") draw();
    tell();
    watch();
  };
  socket.onclose = () => { linked = false; watch(); setTimeout(connect, 1000); };
}

function command(action, text = "") {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ action, text }));
}

$("pause").onclick = () => command("pause");
$("resume").onclick = () => command("resume");
$("stop").onclick = () => { if (confirm("Stop the run? The participant sees a neutral screen.")) command("stop"); };
$("note").onclick = () => { const text = prompt("Note for the record"); if (text) command("note", text); };
addEventListener("resize", () => {
  for (const name in plots) plots[name].setSize({ width: $(`plot-${name}`).clientWidth, height: plots[name].height });
});
setInterval(watch, 500);
connect();
