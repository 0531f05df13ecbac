// page.js: the buttons, the one line that says how things are, and what the worker tells.

import { Bars, Spectrogram } from "./draw.js";
import { Microphone } from "./microphone.js";

const SECONDS = 5; // of the spectrogram
const KEPT = 30; // events
const TIMES = 600; // live runs that the percentiles are of
const SLEPT = 5; // seconds without a tick of the clock
const DEAF = 4; // seconds without sound

const at = (id) => document.getElementById(id);
const worker = new Worker("worker.js", { type: "module" });
const microphone = new Microphone(lost);
let about;
let state = "loading"; // then ready, starting, listening, hidden, testing
let since = 0; // when the page was hidden, or heard last
let spectrogram;
let bars;
let times = [];
let rows = []; // of the spectrogram, not drawn yet
let latest = null; // probabilities, not drawn yet
let lock; // that keeps the screen on

function say(text, bad = false) {
  at("line").textContent = text;
  at("line").className = bad ? "bad" : "";
}

/** Remembers what goes on, so that a page that is loaded again can tell what it cut off. */
function become(next) {
  state = next;
  const going = next === "listening" || next === "testing";
  going ? sessionStorage.setItem("doing", next) : next === "ready" && sessionStorage.removeItem("doing");
  at("listen").textContent = next === "listening" ? "Stop" : "Listen";
  at("test").textContent = next === "testing" ? "Cancel" : "Test";
  at("listen").disabled = next === "loading" || next === "starting";
  at("test").disabled = next === "loading" || next === "starting";
  at("progress").hidden = next !== "testing";
  at("bars").className = next === "listening" ? "live" : "";
  if (next === "listening") keepAwake();
  else lock = lock?.release() && undefined;
}

async function keepAwake() {
  try {
    lock = await navigator.wakeLock.request("screen");
  } catch {
    lock = undefined; // an old browser, or little battery: the phone may sleep
  }
}

async function listen(because = "") {
  become("starting");
  say("Starting the microphone. Allow it where the phone asks.");
  try {
    const { port, rate, changed } = await microphone.start();
    worker.postMessage({ kind: "listen", port, rate }, [port]);
    since = performance.now();
    become("listening");
    say(because || "Listening. No sound leaves this phone.");
    const how = rate === about.rate ? "as the model wants it" : `resampled here to ${about.rate.toLocaleString("en")} Hz by a windowed sinc`;
    const filters = changed.length ? ` The phone changes it all the same: ${changed.join(", ")}.` : "";
    at("resampled").textContent = `The microphone gives ${rate.toLocaleString("en")} Hz, ${how}. The browser may have resampled it once before.${filters}`;
    if (document.hidden) hidden(); // while the phone asked
  } catch (error) {
    microphone.stop();
    become("ready");
    say(error.message, true);
  }
}

function stop(text, bad = false, next = "ready") {
  microphone.stop();
  worker.postMessage({ kind: "stop" });
  become(next);
  at("now").className = "";
  say(text, bad);
}

/** The microphone went away, or came back. */
function lost(text) {
  if (state !== "listening") return;
  if (text.includes("Tap")) stop(text, true);
  else say(text || "Listening again.", Boolean(text));
}

function hidden() {
  since = Date.now();
  if (state === "listening") stop("The page is hidden: it hears nothing.", false, "hidden");
  if (state === "testing") {
    worker.postMessage({ kind: "cancel" });
    become("ready");
    sessionStorage.setItem("doing", "testing"); // pages are hidden too before they are loaded again
    say("The test was stopped: the page was hidden, so its times would be wrong. Tap Test to start again.", true);
  }
}

function seen() {
  if (state === "ready") sessionStorage.removeItem("doing");
  const seconds = Math.round((Date.now() - since) / 1000);
  if (state === "hidden") listen(`Listening again. The page was hidden for ${seconds} s and heard nothing then.`);
}

/** Once a second: draws the figures, and sees whether the phone slept or the sound stopped. */
let ticked = Date.now();
function tick() {
  const slept = (Date.now() - ticked) / 1000;
  ticked = Date.now();
  if (state !== "listening") return;
  if (slept > SLEPT) {
    stop("The phone slept.", false, "hidden");
    listen(`Listening again. The phone slept for ${Math.round(slept)} s and heard nothing then.`);
  } else if (performance.now() - since > DEAF * 1000) {
    stop("No sound comes from the microphone. Tap Listen to start again.", true);
  } else if (times.length) showSpeed();
}

function milliseconds(value) {
  return `${value < 10 ? value.toFixed(value < 1 ? 3 : 2) : value.toFixed(0)} ms`;
}

function showSpeed() {
  const sorted = [...times].sort((a, b) => a - b);
  const percentile = (share) => milliseconds(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]);
  const each = milliseconds((1000 * about.hop_frames * about.hop) / about.rate);
  at("speed").textContent = `A run of the model: median ${percentile(0.5)}, 95 % ${percentile(0.95)}, 99 % ${percentile(0.99)} of the last ${times.length}. One each ${each}.`;
}

function span(event) {
  const end = event.kind === "ended" ? `–${event.end.toFixed(1)}` : "";
  return `${event.start.toFixed(1)}${end} s, ${Math.round(100 * event.probability)} %`;
}

function show(event) {
  const list = at("events");
  const label = event.label.replaceAll("_", " ");
  at("now").textContent = label;
  at("now").className = event.kind === "began" ? "heard" : "";
  if (event.kind === "ended" && list.firstChild) {
    list.firstChild.lastChild.textContent = span(event);
    return;
  }
  const item = document.createElement("li");
  item.append(Object.assign(document.createElement("b"), { textContent: label }));
  item.append(Object.assign(document.createElement("small"), { textContent: span(event) }));
  list.prepend(item);
  at("none").hidden = true;
  while (list.children.length > KEPT) list.lastChild.remove();
}

function draw() {
  requestAnimationFrame(draw);
  for (const shades of rows) spectrogram.add(shades);
  if (rows.length) spectrogram.draw();
  if (latest) bars.show(latest);
  rows = [];
  latest = null;
}

function begin(told) {
  about = told;
  document.title = `earkit: ${about.name}`;
  at("name").textContent = about.name;
  spectrogram = new Spectrogram(at("sound"), Math.round((SECONDS * about.rate) / about.hop), about.bands);
  const { scale, zero_point } = about.output;
  const range = [-128, 127].map((end) => (end - zero_point) * scale); // all that the model can say
  bars = new Bars(at("bars"), about.labels, about.values ? range : null);
  at("classes").textContent = about.values ? "Values" : "How sure it is";
  at("heard").hidden = about.values;
  at("now").hidden = about.values;
  at("range").textContent = `${about.range_hz.map((hertz) => hertz.toLocaleString("en")).join(" to ")} Hz, as the model hears it`;
  at("span").textContent = `last ${SECONDS} s`;
  const doing = sessionStorage.getItem("doing");
  become("ready");
  if (doing === "testing") say("The page was loaded again in the middle of a test: nothing of it was kept. Tap Test to start again.", true);
  else if (doing === "listening") say("The page was loaded again while it listened. Tap Listen to go on.");
  else say("Ready. Tap Listen.");
  draw();
  setInterval(tick, 1000);
  microphone.prepare().catch(() => {}); // a tap tries again
  keep();
}

/** Keeps page and model for the time without network, where the browser does that. */
async function keep() {
  try {
    await navigator.serviceWorker.register(`sw.js?build=${about.build}`);
    await navigator.serviceWorker.ready;
    at("offline").textContent = "Kept on this phone: the page opens without the network too, from the home screen or this address.";
  } catch {
    at("offline").textContent = "Browsers keep no page whose certificate they do not know: without the network this one works as long as it stays open.";
  }
}

function result({ samples, mismatches, latency, accuracy, ccc, run }) {
  const scores = accuracy ?? ccc;
  const right = scores.device === null ? null : accuracy ? `${(100 * scores.device).toFixed(1)} %` : scores.device.toFixed(3);
  const pairs = [
    ...(right === null ? [] : [[accuracy ? "Rightly named" : "Concordance", right]]),
    ["Differ from the computer", `${mismatches} of ${samples}`],
    ...[["median", "Median"], ["p95", "95 %"], ["p99", "99 %"]].map(([key, name]) => [`${name}, ${latency.of}`, milliseconds(latency[key])]),
    ["Longest", milliseconds(latency.max)],
  ];
  const list = at("tested");
  list.replaceChildren();
  for (const [name, text] of pairs) {
    list.append(Object.assign(document.createElement("dt"), { textContent: name }));
    list.append(Object.assign(document.createElement("dd"), { textContent: text }));
  }
  list.hidden = false;
  become("ready");
  say(`Tested with ${samples} inputs. The computer keeps it in ${run}.`);
  list.scrollIntoView({ block: "center" });
}

function heard({ rows: shades, times: took, events, level, lost: gone, last }) {
  if (state !== "listening") return;
  since = performance.now();
  rows.push(shades);
  times = [...times, ...took].slice(-TIMES);
  for (const event of events) show(event);
  if (last) latest = last;
  if (gone) say("This phone does not keep up with the sound: some of it was lost.", true);
  at("sound").dataset.level = level.toFixed(3);
}

worker.onmessage = ({ data }) => {
  if (data.kind === "ready") begin(data.about);
  if (data.kind === "heard") heard(data);
  if (data.kind === "last") show(data.event);
  if (data.kind === "tested") Object.assign(at("progress"), { max: data.count, value: data.done });
  if (data.kind === "result" && state === "testing") result(data.result);
  if (data.kind === "failed" && (data.during !== "test" || state === "testing")) {
    if (state === "listening") microphone.stop();
    if (about) become("ready");
    say(data.text[0].toUpperCase() + data.text.slice(1), true);
  }
};
worker.onerror = () => say("This browser does not run the page: update it.", true);

at("listen").onclick = () => (state === "listening" ? stop("Stopped.") : toListen());
at("test").onclick = () => {
  if (state === "testing") {
    worker.postMessage({ kind: "cancel" });
    become("ready");
    say("The test was cancelled.");
    return;
  }
  if (state === "listening") stop("");
  become("testing");
  at("progress").removeAttribute("value");
  say("Testing. Leave the page open.");
  worker.postMessage({ kind: "test" });
};

function toListen() {
  if (state === "testing") worker.postMessage({ kind: "cancel" });
  listen();
}

document.addEventListener("visibilitychange", () => (document.hidden ? hidden() : seen()));
worker.postMessage({ kind: "load" });
