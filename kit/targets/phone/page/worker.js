// worker.js: the ear off the page's own thread: live sound from the worklet, or the host's test.

import { Ear, hasVectors } from "./ear.js";
import { Resampler } from "./resample.js";

const WARM_UP = 30; // runs before any is timed: browsers compile twice
const MOST_TIMES = 20000; // of a test that are told
const RANGE = [-90, 10]; // decibels from the darkest to the brightest colour

let ear;
let about;
let microphone; // the worklet's port
let testing = 0; // number of the test that runs

/** Returns the step of performance.now() in milliseconds. */
function resolution() {
  let least = Infinity;
  for (let i = 0; i < 20; i += 1) {
    const start = performance.now();
    let now = start;
    while (now === start) now = performance.now();
    least = Math.min(least, now - start);
  }
  return least;
}

async function load() {
  if (!hasVectors()) throw new Error("this browser has no 128-bit vectors in WebAssembly: update it (iOS 16.4 or later)");
  const [told, module] = await Promise.all([fetch("model.json"), fetch("model.wasm")]);
  if (!told.ok || !module.ok) throw new Error(`the model did not come (${told.status}, ${module.status}): scan the code again`);
  about = await told.json();
  ear = new Ear((await WebAssembly.instantiate(await module.arrayBuffer(), {})).instance, about);
  for (let i = 0; i < WARM_UP; i += 1) ear.run();
  postMessage({ kind: "ready", about });
}

/** Hears live sound from a port at `rate` Hz, from now on. */
function listen(port, rate) {
  microphone?.close();
  const resampler = new Resampler(rate, about.rate);
  microphone = port;
  let heard = 0; // of the microphone's samples
  let last = null; // result
  let recent = []; // results of a regression, which are averaged as kit/detect.py does
  ear.start();
  port.onmessage = ({ data: { block, lost } }) => {
    const rows = [];
    const times = [];
    const events = [];
    let level = 0;
    ear.skip(Math.round((lost * about.rate) / rate));
    for (const sample of block) level = Math.max(level, Math.abs(sample));
    ear.hear(
      resampler.push(block),
      () => rows.push(...shades()),
      () => {
        const start = performance.now();
        ear.run();
        times.push(performance.now() - start);
        const found = ear.judge();
        if (!found) return;
        if (!about.values) events.push(...found.map(inSeconds));
        recent = [...recent, ear.values()].slice(-about.averaged);
        last = about.values ? recent[0].map((_, i) => recent.reduce((sum, row) => sum + row[i], 0) / recent.length) : ear.believed();
      },
    );
    heard += block.length + lost;
    port.postMessage(heard);
    const seconds = ear.taken / about.rate;
    postMessage({ kind: "heard", seconds, rows: Uint8Array.from(rows), times, events, level, lost, last });
  };
}

/** Returns the bands of the last frame as shades 0…255, the lowest band first. */
function shades() {
  const scale = 255 / (RANGE[1] - RANGE[0]) / 2 ** about.fraction;
  return Array.from(ear.decibels, (value) => Math.max(0, Math.min(255, value * scale - (255 * RANGE[0]) / (RANGE[1] - RANGE[0]))));
}

/** As Meaning.span of kit/detect.py. */
function inSeconds(event) {
  const hop = about.hop_frames * about.hop;
  const half = (about.samples - hop) / 2;
  const start = event.first < about.samples + hop ? 0 : event.first - half - hop;
  return { ...event, label: about.labels[event.label], start: Math.max(0, start / about.rate), end: (event.last - half) / about.rate };
}

function stop() {
  microphone?.close();
  microphone = undefined;
  const event = ear.end();
  if (event && !about.values) postMessage({ kind: "last", event: inSeconds(event) });
}

/** Runs the host's inputs, and returns what the model says and how long it takes. */
async function test(mine) {
  const { count, batch, sound, bytes } = about.test;
  const outputs = [];
  const runs = [];
  const fronts = [];
  const silence = new Int16Array(about.test.silence);
  const begun = performance.now();
  for (let first = 0; first < count; first += batch) {
    const answer = await fetch(`test/${first / batch}`);
    if (!answer.ok) throw new Error(`the computer refused the test (${answer.status}): scan the code again`);
    const given = await answer.arrayBuffer();
    for (let at = 0; at < given.byteLength; at += bytes) {
      if (testing !== mine) return;
      const one = new (sound ? Int16Array : Int8Array)(given, at, sound ? bytes / 2 : bytes);
      for (let i = outputs.length ? WARM_UP : 0; i < WARM_UP; i += 1) sound ? hearOne(one, silence) : inferOne(one);
      const { run, front } = sound ? hearOne(one, silence) : inferOne(one);
      outputs.push(...ear.output);
      runs.push(...run);
      if (sound) fronts.push(front);
    }
    postMessage({ kind: "tested", done: Math.min(count, first + batch), count });
    await new Promise((resolve) => setTimeout(resolve)); // lets "cancel" in
    if (testing !== mine) return;
  }
  const report = { outputs, run_ms: thinned(runs), frontend_ms: thinned(fronts), warm_up: WARM_UP };
  const clock = { resolution_ms: resolution(), isolated: self.crossOriginIsolated, seconds: (performance.now() - begun) / 1000 };
  const sent = await fetch("results", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...report, ...clock, build: about.build, cores: navigator.hardwareConcurrency ?? 0, memory: ear.bytes }),
  });
  if (!sent.ok) throw new Error(`the computer refused the results (${sent.status}): ${(await sent.text()).slice(0, 200)}`);
  const result = await sent.json();
  if (testing === mine) postMessage({ kind: "result", result });
}

/** Lets a fresh ear hear a window; returns the milliseconds of each run, and of the front end's frames. */
function hearOne(samples, silence) {
  const run = [];
  ear.start(about.rows);
  const start = performance.now();
  const due = () => {
    const before = performance.now();
    ear.run();
    run.push(performance.now() - before);
  };
  ear.hear(silence, () => {}, due);
  ear.hear(samples, () => {}, due);
  const all = performance.now() - start;
  return { run, front: all - run.reduce((a, b) => a + b, 0) };
}

/** Gives a fresh model one input, hop by hop; returns the milliseconds of each run. */
function inferOne(features) {
  const run = [];
  ear.start();
  for (let at = 0; at < features.length; at += ear.input.length) {
    const before = performance.now();
    ear.infer(features.subarray(at, at + ear.input.length));
    run.push(performance.now() - before);
  }
  return { run };
}

/** Returns at most MOST_TIMES of the times, evenly spread, to a tenth of a microsecond. */
function thinned(times) {
  const step = Math.max(1, times.length / MOST_TIMES);
  return Array.from({ length: Math.floor(times.length / step) }, (_, i) => Math.round(times[Math.floor(i * step)] * 1e4) / 1e4);
}

self.onmessage = async ({ data }) => {
  if (data.kind === "test" || data.kind === "cancel") testing += 1;
  const mine = testing;
  try {
    if (data.kind === "load") await load();
    if (data.kind === "listen") listen(data.port, data.rate);
    if (data.kind === "stop") stop();
    if (data.kind === "test") await test(mine);
  } catch (error) {
    if (data.kind === "test" && testing !== mine) return; // nobody waits for it any more
    const lost = error instanceof TypeError && data.kind !== "listen";
    postMessage({ kind: "failed", during: data.kind, text: lost ? "the computer does not answer: is earkit still running there?" : error.message });
  }
};
