// draw.js: the spectrogram that moves along, and the bars of the probabilities.

const MOST_BARS = 12;

/** Three colours of the style sheet, blended to 256. */
function palette() {
  const style = getComputedStyle(document.documentElement);
  const [quiet, middle, loud] = ["--quiet", "--middle", "--loud"].map((name) => {
    const hex = style.getPropertyValue(name).trim();
    return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  });
  return Array.from({ length: 256 }, (_, shade) => {
    const [from, to] = shade < 128 ? [quiet, middle] : [middle, loud];
    return from.map((value, i) => value + ((to[i] - value) * (shade % 128)) / 127);
  });
}

export class Spectrogram {
  /** Shows `columns` frames of `bands` bands. */
  constructor(canvas, columns, bands) {
    canvas.width = columns;
    canvas.height = bands;
    this.ink = canvas.getContext("2d");
    this.image = this.ink.createImageData(columns, bands);
    this.shades = new Uint8Array(columns * bands); // column by column, the lowest band first
    this.recolour();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.recolour());
  }

  recolour() {
    this.colours = Uint32Array.from(palette(), ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0);
    this.draw();
  }

  /** Adds frames: shades 0…255, lowest band first, one frame after the other. */
  add(shades) {
    const part = shades.subarray(-this.shades.length);
    this.shades.copyWithin(0, part.length);
    this.shades.set(part, this.shades.length - part.length);
  }

  draw() {
    const { width, height, data } = this.image;
    const pixels = new Uint32Array(data.buffer);
    for (let column = 0; column < width; column += 1)
      for (let band = 0; band < height; band += 1)
        pixels[(height - 1 - band) * width + column] = this.colours[this.shades[column * height + band]];
    this.ink.putImageData(this.image, 0, 0);
  }
}

export class Bars {
  /** Shows all classes in their order, of many the likeliest; with a `range` these are values, not probabilities. */
  constructor(list, labels, range) {
    this.labels = labels;
    this.values = Boolean(range);
    [this.low, this.high] = range ?? [0, 1];
    const unit = range ? 1 : 100;
    this.rows = Array.from({ length: Math.min(MOST_BARS, labels.length) }, () => {
      const item = document.createElement("li");
      const [name, meter, number] = ["span", "span", "span"].map((tag) => item.appendChild(document.createElement(tag)));
      meter.className = "meter";
      meter.setAttribute("role", "meter");
      meter.setAttribute("aria-valuemin", unit * this.low);
      meter.setAttribute("aria-valuemax", unit * this.high);
      number.className = "number";
      number.setAttribute("aria-hidden", "true"); // the meter says it
      list.append(item);
      return { item, name, meter, number, bar: meter.appendChild(document.createElement("i")) };
    });
    this.show(labels.map(() => 0));
  }

  show(numbers) {
    const order = numbers.map((_, i) => i);
    if (this.labels.length > MOST_BARS) order.sort((a, b) => numbers[b] - numbers[a]);
    const best = this.values ? -1 : numbers.indexOf(Math.max(...numbers));
    this.rows.forEach(({ item, name, meter, number, bar }, row) => {
      const label = order[row];
      const value = numbers[label];
      const told = this.values ? value.toFixed(2).replace(/^-0.00$/, "0.00") : String(Math.round(100 * value));
      name.textContent = this.labels[label].replaceAll("_", " ");
      meter.setAttribute("aria-label", name.textContent);
      meter.setAttribute("aria-valuenow", told);
      number.textContent = this.values ? told : `${told} %`;
      meter.setAttribute("aria-valuetext", number.textContent);
      bar.style.transform = this.stretch(value);
      item.className = value > 0 && label === best ? "best" : "";
    });
  }

  /** Returns how a bar of the whole width becomes one from 0 to `value`. */
  stretch(value) {
    const [from, to] = [0, value].map((end) => Math.max(0, Math.min(1, (end - this.low) / (this.high - this.low))));
    return `translateX(${100 * Math.min(from, to)}%) scaleX(${Math.abs(to - from)})`;
  }
}
