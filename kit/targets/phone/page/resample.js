// resample.js: the microphone's rate to the model's: a windowed sinc in as many phases as the rates need.

const ZEROS = 16; // zero crossings of the sinc on each side
const BETA = 8.6; // of the Kaiser window: 90 dB
const EDGE = 0.92; // of the lower Nyquist frequency: the middle of the slope

function greatestDivisor(a, b) {
  return b ? greatestDivisor(b, a % b) : a;
}

function bessel(x) {
  let term = 1;
  let sum = 1;
  for (let k = 1; term > 1e-12 * sum; k += 1) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

export class Resampler {
  /** Rates in Hz, whole numbers. */
  constructor(from, to) {
    const divisor = greatestDivisor(from, to);
    this.up = to / divisor;
    this.down = from / divisor;
    this.half = Math.ceil((ZEROS * Math.max(from, to)) / to); // input samples on each side
    this.taps = 2 * this.half;
    const cutoff = (EDGE * Math.min(1, to / from)) / 2; // cycles an input sample
    this.phases = [];
    for (let phase = 0; phase < this.up; phase += 1) {
      const taps = new Float64Array(this.taps);
      for (let k = 0; k < this.taps; k += 1) {
        const t = k - this.half + 1 - phase / this.up;
        const w = 2 * Math.PI * cutoff * t;
        const kaiser = bessel(BETA * Math.sqrt(Math.max(0, 1 - (t / this.half) ** 2))) / bessel(BETA);
        taps[k] = 2 * cutoff * (w ? Math.sin(w) / w : 1) * kaiser;
      }
      const gain = taps.reduce((a, b) => a + b, 0);
      this.phases.push(taps.map((tap) => tap / gain));
    }
    this.reset();
  }

  reset() {
    this.held = new Float32Array(this.half - 1); // silence before the first sample
    this.phase = 0;
  }

  /**
   * Takes samples -1…1 and returns all that they complete, as int16, rounded and clipped.
   * @param {Float32Array} block
   */
  push(block) {
    const x = new Float32Array(this.held.length + block.length);
    x.set(this.held);
    x.set(block, this.held.length);
    const out = [];
    let at = 0;
    while (at + this.taps <= x.length) {
      const taps = this.phases[this.phase];
      let sum = 0;
      for (let k = 0; k < this.taps; k += 1) sum += taps[k] * x[at + k];
      out.push(Math.max(-32768, Math.min(32767, Math.round(32768 * sum))));
      this.phase += this.down;
      at += Math.floor(this.phase / this.up);
      this.phase %= this.up;
    }
    this.held = x.slice(at);
    return Int16Array.from(out);
  }
}
