// phone_ear.mjs: the page's own ear.js and resample.js in Node; says in JSON what they make of a file of int16.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [page, work, what] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(`${page}/${name}`));

async function hear() {
  const { Ear } = await load("ear.js");
  const about = JSON.parse(readFileSync(`${work}/model.json`));
  const { instance } = await WebAssembly.instantiate(readFileSync(`${work}/model.wasm`), {});
  const ear = new Ear(instance, about);
  const samples = new Int16Array(new Uint8Array(readFileSync(`${work}/sound`)).buffer);
  const [results, events, decibels] = [[], [], []];
  ear.start();
  for (let at = 0, size = 1; at < samples.length; at += size, size = (size * 7 + 3) % 1000 + 1) {
    ear.hear(
      samples.subarray(at, at + size),
      () => decibels.push([...ear.decibels]),
      () => {
        ear.run();
        const output = [...ear.output];
        const found = ear.judge();
        if (!found) return;
        events.push(...found.map((event) => [event.kind, event.label, event.first, event.last, event.probability]));
        results.push({ sample: ear.taken, output, believed: ear.believed(), values: ear.values() });
      },
    );
  }
  const last = ear.end();
  if (last) events.push(["ended", last.label, last.first, last.last, last.probability]);
  return { results, events, decibels: decibels.slice(-3), intact: instance.exports.ear_arena_intact() };
}

async function resample() {
  const { Resampler } = await load("resample.js");
  const { from, to, blocks } = JSON.parse(readFileSync(`${work}/rates.json`));
  const samples = new Float32Array(new Uint8Array(readFileSync(`${work}/sound`)).buffer);
  const resampler = new Resampler(from, to);
  const out = [];
  for (let at = 0, i = 0; at < samples.length; at += blocks[i % blocks.length], i += 1)
    out.push(...resampler.push(samples.subarray(at, at + blocks[i % blocks.length])));
  return out;
}

console.log(JSON.stringify(await { hear, resample }[what]()));
