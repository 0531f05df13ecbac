// ear.js: the model and its front end as wasm; for the page's worker, and for Node in the tests.

const ONE = 2 ** 24; // a share of 1, as in hear.h
const WORDS = { rules: 0, room: 15, taken: 16, averaged: 17, events: 18, sums: 26 };

/** Returns whether this browser runs 128-bit vectors in wasm. */
export function hasVectors() {
  return WebAssembly.validate(
    Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11),
  );
}

export class Ear {
  /**
   * @param {WebAssembly.Instance} instance of model.wasm, which imports nothing
   * @param {object} about model.json
   */
  constructor(instance, about) {
    this.code = instance.exports;
    this.about = about;
    const memory = this.code.memory.buffer; // it never grows
    const end = (symbol) => {
      const [data, bytes] = new Uint32Array(memory, symbol.value, 2);
      return new Int8Array(memory, data, bytes);
    };
    this.input = (this.code.ear_model_init(), end(this.code.ear_inputs));
    this.output = end(this.code.ear_outputs);
    const told = this.code.ear_page.value;
    this.words = new Uint32Array(memory, told, WORDS.sums + this.output.length);
    this.decibels = new Int32Array(memory, told + 4 * this.words.length, about.bands);
    this.bytes = memory.byteLength;
  }

  /** Forgets what was heard; results come once the input is full, and then each `frames` frames. */
  start(frames = this.about.hop_frames) {
    this.words.set(this.about.rules, WORDS.rules);
    this.words[WORDS.rules] = frames;
    this.code.ear_page_start();
  }

  get taken() {
    return this.words[WORDS.taken];
  }

  /** Sound that was lost on the way: time goes on. */
  skip(samples) {
    this.words[WORDS.taken] += samples;
  }

  /**
   * Takes samples; calls frame() behind each frame, of whose decibels it may draw, and due() when the model is to
   * run.
   * @param {Int16Array} samples
   */
  hear(samples, frame, due) {
    for (let at = 0; at < samples.length; ) {
      const place = this.code.ear_page_place();
      const part = samples.subarray(at, at + this.words[WORDS.room]);
      new Int16Array(this.code.memory.buffer, place, part.length).set(part);
      at += part.length;
      const ready = this.code.ear_page_took(part.length);
      if (ready) frame();
      if (ready & 2) due();
    }
  }

  /** Runs the model on the features that were heard last. */
  run() {
    this.code.ear_page_run();
  }

  /** Runs the model on one int8 input. */
  infer(features) {
    this.input.set(features);
    this.code.ear_model_invoke(0);
  }

  /** Judges the result by the rules; null before a whole window was heard, else the events it ends and begins. */
  judge() {
    const changes = this.code.ear_page_judge();
    if (changes & 4) return null;
    const events = [];
    if (changes & 1) events.push(this.event(0, "ended"));
    if (changes & 2) events.push(this.event(changes & 1, "began"));
    return events;
  }

  /** Ends the event that lasts; null when none does. */
  end() {
    return this.code.ear_page_end() ? this.event(0, "ended") : null;
  }

  event(index, kind) {
    const [label, first, last, share] = this.words.subarray(WORDS.events + 4 * index);
    return { kind, label, first, last, probability: share / ONE };
  }

  /** Returns the means of the probabilities that decide. */
  believed() {
    const count = this.words[WORDS.averaged] * ONE;
    return Array.from(this.words.subarray(WORDS.sums), (sum) => sum / count);
  }

  /** Returns the values that the int8 output of a regression stands for. */
  values() {
    const { scale, zero_point } = this.about.output;
    return Array.from(this.output, (value) => (value - zero_point) * scale);
  }
}
