/** How alike the clients' masks are, as a heat map: each pair's kept weights in common by those that either keeps. */

import { get } from "./base/api.js";
import { byId, el, setText } from "./base/dom.js";
import { counted, number } from "./base/format.js";
import { Refresher } from "./base/refresh.js";
import { plainTable, twin } from "./base/table.js";

const PAUSE = 20000;
const MOST_NAMED = 20; // clients at an axis
const CIVIDIS = [[0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115], [138, 134, 120], [165, 156, 116], [195, 179, 105], [225, 204, 85], [254, 232, 56]];

export class Overlap {
  constructor(run) {
    this.run = run;
    this.canvas = el("canvas", { role: "img" });
    this.rows = el("div", { class: "rows", "aria-hidden": "true" });
    this.columns = el("div", { class: "columns", "aria-hidden": "true" });
    this.low = el("span");
    this.high = el("span");
    this.scale = el("canvas", { width: 256, height: 1, "aria-hidden": "true" });
    this.pair = el("p", { class: "note" }, "Point at a pair.");
    this.twin = twin("Overlap as a table", () => this.#table());
    this.figure = el(
      "figure", { hidden: true },
      el("div", { class: "map" }, this.rows, this.canvas, el("span", { class: "corner", "aria-hidden": "true" }, "client"), this.columns),
      el("div", { class: "scale" }, this.low, this.scale, this.high), this.pair,
    );
    byId("heat").append(el("div", { class: "heat" }, this.figure), this.twin.node);
    this.twin.node.hidden = true;
    this.canvas.addEventListener("pointermove", (event) => this.#point(event));
    setText(byId("overlap-note"), "Compared when it is looked at …");
    paint(this.scale, 256, 1, (column) => coloured(column / 255));
    this.refresher = new Refresher(byId("overlap"), PAUSE, () => this.#fetch());
  }

  /** A round has been committed. */
  ask() {
    this.refresher.ask();
  }

  async #fetch() {
    this.found = await get(`${this.run.path}/overlap`);
    const { clients, of, after } = this.found;
    this.figure.hidden = this.twin.node.hidden = clients.length === 0;
    if (clients.length === 0) {
      const kept = this.run.status.privacy?.withholds_clients;
      setText(byId("overlap-note"), kept ? "Kept back for privacy." : "Fewer than two clients have a mask.");
      return;
    }
    const some = clients.length < of ? `${number(clients.length)} of ${counted(of, "client")}` : counted(of, "client");
    setText(byId("overlap-note"), `${some} with a mask, after round ${after}: kept by both / kept by either`);
    this.#paint();
    this.twin.renew();
  }

  #paint() {
    const { clients, jaccard } = this.found;
    const others = jaccard.flatMap((row, at) => row.filter((_, place) => place !== at));
    const low = others.reduce((one, other) => Math.min(one, other));
    const high = others.reduce((one, other) => Math.max(one, other));
    const room = high - low || 1;
    paint(this.canvas, clients.length, clients.length, (column, row) => (column === row ? [128, 128, 128] : coloured((jaccard[row][column] - low) / room)));
    nameAxis(this.rows, clients, "top", MOST_NAMED);
    nameAxis(this.columns, clients, "left", Math.max(...clients) < 100 ? MOST_NAMED : MOST_NAMED / 2);
    this.canvas.setAttribute("aria-label", `Overlap of ${clients.length} masks, from ${number(low, 3)} to ${number(high, 3)}; the table below has the same`);
    setText(this.low, number(low, 2));
    setText(this.high, number(high, 2));
  }

  #point(event) {
    const { clients, jaccard } = this.found;
    const box = this.canvas.getBoundingClientRect();
    const at = (position, size) => Math.min(clients.length - 1, Math.max(0, Math.floor((position / size) * clients.length)));
    const [row, column] = [at(event.clientY - box.top, box.height), at(event.clientX - box.left, box.width)];
    setText(this.pair, `Clients ${clients[row]} and ${clients[column]}: ${number(jaccard[row][column], 3)}`);
  }

  #table() {
    const { clients, jaccard } = this.found;
    const rows = clients.map((client, at) => {
      const others = clients.map((_, place) => place).filter((place) => place !== at).toSorted((one, other) => jaccard[at][other] - jaccard[at][one]);
      const [most, least] = [others[0], others.at(-1)];
      const mean = others.reduce((sum, place) => sum + jaccard[at][place], 0) / others.length;
      return [number(client), number(mean, 3), `${clients[most]}: ${number(jaccard[at][most], 3)}`, `${clients[least]}: ${number(jaccard[at][least], 3)}`];
    });
    const heads = ["Client", "Mean overlap", "Most alike", "Least alike"].map((label) => ({ label, number: true }));
    return plainTable("Mask overlap", heads, rows);
  }
}

/** Write the numbers of clients at an axis, of every so many where there is no room for all. */
function nameAxis(axis, clients, side, most) {
  const step = Math.ceil(clients.length / most);
  axis.replaceChildren(...clients.flatMap((client, at) => {
    if (at % step) return [];
    const label = el("span", {}, String(client));
    label.style[side] = `${((at + 0.5) / clients.length) * 100}%`;
    return [label];
  }));
}

function paint(canvas, width, height, pixel) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) image.data.set([...pixel(column, row), 255], 4 * (row * width + column));
  }
  context.putImageData(image, 0, 0);
}

function coloured(share) {
  const place = Math.min(Math.max(share, 0), 1) * (CIVIDIS.length - 1);
  const [below, part] = [Math.min(Math.floor(place), CIVIDIS.length - 2), place - Math.min(Math.floor(place), CIVIDIS.length - 2)];
  return CIVIDIS[below].map((value, channel) => value + part * (CIVIDIS[below + 1][channel] - value));
}
