"use strict";
// The operator's page. One WebSocket: a snapshot first, then every message of the loop.

const $ = (id) => document.getElementById(id);
const course = { index: [], score: [], low: [], high: [], feedback: [], fd: [], x: [], y: [], z: [] };
let lost = 0;
let socket = null;

const axis = { stroke: "#8fa0ad", grid: { stroke: "#2b3945", width: 1 }, ticks: { stroke: "#2b3945" } };

function plot(id, height, scales, series, bands) {
  const options = {
    width: $(id).clientWidth, height, scales: { x: { time: false }, ...scales }, axes: [axis, axis],
    series: [{ label: "volume" }, ...series], bands, cursor: { drag: { x: true, y: false } },
  };
  return new uPlot(options, [[], ...series.map(() => [])], $(id));
}

const line = (label, stroke, extra) => ({ label, stroke, width: 1.5, spanGaps: false, ...extra });
const number = (digits) => (plot, value) => (value == null ? "–" : value.toFixed(digits));

const plots = {
  score: plot("plot-score", 220, {}, [
    line("raw score", "#56b4e9", { value: number(3) }),
    line("+1 SE", "#56b4e955", { width: 0, value: number(3) }),
    line("−1 SE", "#56b4e955", { width: 0, value: number(3) }),
  ], [{ series: [2, 3], fill: "#56b4e933" }]),
  feedback: plot("plot-feedback", 140, { y: { range: [0, 100] } },
    [line("feedback", "#e69f00", { value: number(0) })]),
  motion: plot("plot-motion", 160, {}, [
    line("FD", "#e6ebef", { value: number(2) }), line("x", "#56b4e9", { value: number(2) }),
    line("y", "#e69f00", { value: number(2) }), line("z", "#009e73", { value: number(2) }),
  ]),
};

function draw() {
  plots.score.setData([course.index, course.score, course.high, course.low]);
  plots.feedback.setData([course.index, course.feedback]);
  plots.motion.setData([course.index, course.fd, course.x, course.y, course.z]);
}

function add(step) {
  const score = step.raw_score ?? null, error = step.standard_error ?? null;
  const known = score != null && error != null;
  const [x, y, z] = step.parameters;
  const row = { index: step.index, score, low: known ? score - error : null,
    high: known ? score + error : null, feedback: step.feedback, fd: step.fd_mm, x, y, z };
  for (const name in row) course[name].push(row[name] ?? null);
  lost += step.missing.length + (["censored", "refused"].includes(step.status) ? 1 : 0);
}

function tell(step) {
  const show = (id, value, digits) => { $(id).textContent = value == null ? "–" : value.toFixed(digits); };
  show("feedback", step.feedback, 0);
  show("fd", step.fd_mm, 2);
  show("latency", step.latency_ms, 1);
  const error = step.standard_error == null ? "" : ` ± ${step.standard_error.toFixed(2)}`;
  $("score").textContent = step.raw_score == null ? "–" : step.raw_score.toFixed(3) + error;
  $("lost").textContent = lost;
  $("scene").textContent = step.scene + (step.trial == null ? "" : ` · trial ${step.trial + 1}`);
  $("volume").textContent = `volume ${step.index}: ${step.status} ${step.reasons.join("; ")}`;
  $("warming").hidden = !step.warming_up;
  $("warming").textContent = `No score yet: ${step.warming_up}`;
  $("alarm").hidden = !step.alarms.length;
  $("alarm").textContent = `The score follows: ${step.alarms.join(", ")}`;
}

function log(entry) {
  const item = document.createElement("li");
  const { kind, time_s, ...rest } = entry;
  if (kind === "fault") item.className = "fault";
  const clock = new Date(1e3 * time_s).toLocaleTimeString();
  const words = Object.entries(rest).filter(([, value]) => value != null && value !== "");
  item.textContent = `${clock}  ${kind}  ` + words.map(([name, value]) => `${name}: ${value}`).join("  ");
  $("log").prepend(item);
}

function reset() {
  for (const name in course) course[name].length = 0;
  lost = 0;
}

function take(message) {
  if (message.kind === "snapshot") {
    $("run").textContent = message.run;
    document.title = `${message.run} · fcnef`;
    reset();
    $("log").replaceChildren();
    message.course.forEach(add);
    message.log.forEach(log);
    if (message.course.length) tell(message.course.at(-1));
    draw();
  } else if (message.kind === "step") {
    add(message);
    tell(message);
    draw();
  } else if (message.kind !== "shown" && message.kind !== "ready") {
    if (message.kind === "attempt") reset();
    log(message);
  }
}

function mark(text, good) {
  $("link").textContent = text;
  $("link").className = `chip ${good ? "good" : "bad"}`;
}

function connect() {
  socket = new WebSocket(`ws://${location.host}/live`);
  socket.onopen = () => mark("live", true);
  socket.onmessage = (event) => take(JSON.parse(event.data));
  socket.onclose = () => { mark("no link", false); setTimeout(connect, 1000); };
}

function command(action, text = "") {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ action, text }));
}

$("pause").onclick = () => command("pause");
$("resume").onclick = () => command("resume");
$("stop").onclick = () => { if (confirm("Stop the run? The participant sees a neutral screen.")) command("stop"); };
$("note").onclick = () => { const text = prompt("Note for the record"); if (text) command("note", text); };
addEventListener("resize", () => {
  for (const name in plots) {
    plots[name].setSize({ width: $(`plot-${name}`).clientWidth, height: plots[name].height });
  }
});
connect();
