/** One chart of lines over one x axis, drawn by uPlot, with a legend of buttons and the table behind it. */

import { el, setAttribute, setText } from "./base/dom.js";
import { NONE, bytes, bytesTick, duration, number } from "./base/format.js";
import { plainTable, twin } from "./base/table.js";
import { colour, onTheme } from "./base/theme.js";

const HEIGHT = 210;
const FONT = "11px system-ui, sans-serif";
const DASHES = { dashed: [6, 4], dotted: [2, 3] };

/** What curves are drawn against. */
export const AXES = {
  round: { label: "Round", text: (value) => number(value), increments: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000] },
  time: { label: "Time", text: duration, increments: [0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400, 604800] },
  sent: { label: "Bytes sent", text: bytes, tick: bytesTick, increments: null },
};

export class Chart {
  /**
   * @param title what is drawn
   * @param text value → how it is written
   * @param tick the same at the axis
   * @param sync name of the charts whose cursors move together
   * @param zero whether the axis begins at 0
   */
  constructor({ title, text, tick = text, sync = "runs", zero = false }) {
    Object.assign(this, { title, text, tick, sync, zero });
    this.off = new Set();
    this.plot = null;
    this.shape = "";
    this.legend = el("div", { class: "legend", role: "group", "aria-label": `Lines of ${title}` });
    this.whole = el("button", { type: "button", class: "more", hidden: true, onclick: () => this.#showAll() }, "Show all");
    this.place = el("div", { class: "plot", "aria-hidden": "true" });
    this.twin = twin(`${title} as a table`, () => this.#table());
    this.node = el("div", { class: "chart" }, el("h3", {}, title, this.whole), this.legend, this.place, this.twin.node);
    new ResizeObserver(() => this.#resize()).observe(this.place);
    onTheme(() => this.#build());
  }

  /**
   * Draw.
   *
   * @param axis of AXES
   * @param x numbers that grow
   * @param lines {key, label, values, colour, dash, text, right, off, low, high}: with low and high in the place of values it is a
   *   band; right: on an axis of its own; off: not shown until it is asked for
   */
  draw(axis, x, lines) {
    for (const line of lines) if (line.off && !this.shape.includes(`"${line.key}"`)) this.off.add(line.key);
    const shape = JSON.stringify([axis.label, lines.map((line) => [line.key, line.label, line.colour, line.dash, line.right])]);
    Object.assign(this, { axis, x, lines });
    if (shape === this.shape && this.plot) this.#renew();
    else {
      this.shape = shape;
      this.#build();
    }
    this.twin.renew();
  }

  #data() {
    return [this.x, ...this.lines.flatMap((line) => (line.low ? [line.high, line.low] : [line.values]))];
  }

  #renew() {
    const { min, max } = this.plot.scales.x;
    const zoomed = !this.whole.hidden;
    this.plot.batch(() => {
      this.plot.setData(this.#data(), !zoomed);
      if (zoomed) this.plot.setScale("x", { min, max });
    });
    this.#read();
  }

  #build() {
    if (!this.lines) return;
    this.plot?.destroy();
    this.whole.hidden = true;
    const width = this.place.clientWidth;
    this.plot = width ? new uPlot(this.#options(width), this.#data(), this.place) : null;
    this.#fillLegend();
  }

  #options(width) {
    const [ink, grid] = [colour("--muted"), colour("--grid")];
    const right = this.lines.find((line) => line.right);
    const axis = { stroke: ink, font: FONT, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 4 } };
    const range = (self, low, high) => this.#range(low, high);
    return {
      width,
      height: HEIGHT,
      padding: [8, right ? 4 : 14, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: this.sync }, points: { size: 6 }, drag: { x: true, y: false } },
      scales: { x: { time: false, range: (self, low, high) => (low === high ? [low - 0.5, high + 0.5] : [low, high]) }, y: { range }, right: { range } },
      axes: [
        { ...axis, space: 56, size: 26, values: (self, splits) => splits.map(this.axis.tick ?? this.axis.text), incrs: this.axis.increments ?? undefined },
        { ...axis, size: 52, values: (self, splits) => splits.map(this.tick) },
        ...(right ? [{ ...axis, scale: "right", side: 1, size: 58, grid: { show: false }, values: (self, splits) => splits.map(this.tick) }] : []),
      ],
      series: [{}, ...this.lines.flatMap((line) => this.#series(line))],
      bands: this.#bands(),
      hooks: { setCursor: [() => this.#read()], setSelect: [(self) => this.#zoomed(self)], setScale: [(self, key) => key === "x" && this.#read()] },
    };
  }

  #series(line) {
    const common = {
      scale: line.right ? "right" : "y",
      show: !this.off.has(line.key),
      stroke: colour(line.colour),
      dash: DASHES[line.dash],
      spanGaps: true,
    };
    if (line.low) return [{ ...common, width: 0, points: { show: false } }, { ...common, width: 1, alpha: 0.7, points: { show: false } }];
    return [{ ...common, width: 1.75, points: { show: (plot) => plot.data[0].length < 2, size: 5 } }];
  }

  #bands() {
    let place = 1;
    const bands = [];
    for (const line of this.lines) {
      if (line.low) bands.push({ series: [place, place + 1], fill: faded(colour(line.colour)) });
      place += line.low ? 2 : 1;
    }
    return bands;
  }

  #range(low, high) {
    if (low === null || high === null || !Number.isFinite(low)) return [0, 1];
    const bottom = this.zero ? Math.min(0, low) : low;
    const room = (high - bottom || Math.abs(high) || 1) * 0.05;
    return [this.zero && low >= 0 ? 0 : bottom - room, high + room];
  }

  #zoomed(plot) {
    if (plot.select.width > 0) this.whole.hidden = false;
    else if (plot.scales.x.min === this.x[0] && plot.scales.x.max === this.x.at(-1)) this.whole.hidden = true;
  }

  #showAll() {
    this.whole.hidden = true;
    this.plot.setScale("x", { min: this.x[0], max: this.x.at(-1) });
  }

  #resize() {
    const width = this.place.clientWidth;
    if (!width || !this.lines) return;
    if (this.plot) this.plot.setSize({ width, height: HEIGHT });
    else this.#build();
  }

  #fillLegend() {
    this.values = this.lines.map(() => el("b"));
    this.legend.replaceChildren(
      ...this.lines.map((line, place) => {
        const key = el("span", { class: `key ${line.low ? "block" : (line.dash ?? "")}` });
        key.style.color = line.low ? faded(colour(line.colour)) : colour(line.colour);
        const button = el("button", { type: "button", "aria-pressed": !this.off.has(line.key) + "" }, key, el("span", {}, line.label), this.values[place]);
        button.addEventListener("click", () => this.#toggle(line, button));
        return button;
      }),
    );
    this.#read();
  }

  #toggle(line, button) {
    const show = this.off.delete(line.key);
    if (!show) this.off.add(line.key);
    setAttribute(button, "aria-pressed", show);
    let place = 1;
    for (const one of this.lines) {
      const count = one.low ? 2 : 1;
      if (one === line || one.key === line.key) {
        for (let next = place; next < place + count; next += 1) this.plot?.setSeries(next, { show });
      }
      place += count;
    }
  }

  /** Write the values under the cursor, or the last ones, into the legend. */
  #read() {
    const place = this.plot?.cursor.idx;
    this.lines.forEach((line, index) => {
      const write = line.text ?? this.text;
      const at = (values) => {
        const value = place === null || place === undefined ? lastOf(values) : values[place];
        return value === null || value === undefined ? NONE : write(value);
      };
      setText(this.values[index], line.low ? `${at(line.low)} … ${at(line.high)}` : at(line.values));
    });
  }

  #table() {
    const columns = this.lines.flatMap((line) =>
      line.low
        ? [{ label: `${line.label}, low`, values: line.low, text: line.text }, { label: `${line.label}, high`, values: line.high, text: line.text }]
        : [line],
    );
    const write = (column, row) => {
      const value = column.values[row];
      return value === null || value === undefined ? NONE : (column.text ?? this.text)(value);
    };
    return plainTable(
      this.title,
      [this.axis, ...columns].map((column) => ({ label: column.label, number: true })),
      this.x.map((value, row) => [this.axis.text(value), ...columns.map((column) => write(column, row))]),
    );
  }
}

function lastOf(values) {
  return values.findLast((value) => value !== null && value !== undefined);
}

/** Return a colour of the style sheet, as computed (rgb), mostly transparent. */
function faded(rgb) {
  return rgb.replace("rgb(", "rgba(").replace(")", ", 0.16)");
}
