/** One client: its history, its mask by layer, and who served it. */

import { get } from "./api.js";
import { AXES, Chart } from "./charts.js";
import { byId, el, setText } from "./dom.js";
import { NONE, bytes, duration, number, percent, short } from "./format.js";
import { Table, plainTable } from "./table.js";

export class ClientDialog {
  constructor(run) {
    this.run = run;
    this.dialog = byId("client");
    this.dialog.addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.dialog.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step && event.target.tagName !== "INPUT") this.#move(step);
    });
  }

  /** Open the client that the address names, if it does. */
  openFromAddress() {
    const client = location.hash.match(/^#client-(\d+)$/)?.[1];
    if (client) this.open(Number(client));
  }

  /** Show a client. */
  async open(client) {
    if (!this.dialog.open) this.dialog.showModal();
    this.client = client;
    history.replaceState(null, "", `#client-${client}`);
    try {
      const found = await get(`${this.run.path}/clients/${client}`);
      if (this.client === client) this.#fill(found);
    } catch (error) {
      this.dialog.replaceChildren(this.#head(client), el("p", { class: "bad" }, error.message));
    }
  }

  #move(step) {
    const next = this.client + step;
    if (next >= 0 && next < this.run.status.clients) this.open(next);
  }

  #fill({ client, row, history: past, layers, served_by: served }) {
    const scores = new Chart({ title: "Score", text: this.#score(), sync: "client" });
    const densities = new Chart({ title: "Density", text: (value) => percent(value), sync: "client", zero: true });
    this.dialog.replaceChildren(
      this.#head(client),
      this.#tiles(row),
      el("div", { class: "charts" }, scores.node, densities.node),
      el("h3", {}, "Mask by layer"), layerTable(layers).node,
      el("h3", {}, "Served by"), servedTable(served),
      el("h3", {}, "History"), this.#historyTable(past),
    );
    scores.draw(AXES.round, past.round, [
      { key: "personalised", label: "personalised", colour: "--line-0", values: past.personalised },
      { key: "downloaded", label: "downloaded", colour: "--line-1", dash: "dashed", values: past.downloaded },
    ]);
    densities.draw(AXES.round, past.round, [{ key: "density", label: "kept share", colour: "--line-0", values: past.density }]);
  }

  #score() {
    return this.run.status.score.own ? short : (value) => percent(value);
  }

  #head(client) {
    const go = (step, text, label, off) =>
      el("button", { type: "button", "aria-label": label, disabled: off, onclick: () => this.#move(step) }, text);
    return el(
      "div", { class: "head" },
      el("h2", { id: "client-title" }, `Client ${client}`),
      el(
        "span", { class: "end" },
        go(-1, "‹", "Client before", client === 0),
        go(1, "›", "Next client", client >= this.run.status.clients - 1),
        el("button", { type: "button", autofocus: true, onclick: () => this.dialog.close() }, "Close"),
      ),
    );
  }

  #tiles(row) {
    const score = this.#score();
    const tile = (name, value, note) => el("div", {}, el("dt", {}, name), el("dd", {}, value), el("dd", {}, note));
    const known = (write, value) => (value === null ? NONE : write(value));
    return el(
      "dl", { class: "tiles" },
      tile("Personalised", known(score, row.personalised), row.round === null ? "never took part" : `round ${row.round}`),
      tile("Downloaded", known(score, row.downloaded), row.gain === null ? "" : `gain ${score(row.gain)}`),
      tile("Density", percent(row.density), row.mask ? `mask ${row.mask}` : "dense"),
      tile("Rounds", number(row.rounds), `${number(row.missed)} missed, ${number(row.refused)} refused`),
      tile("Examples", number(row.examples), row.is_new ? "a new client" : ""),
      tile("Bytes", bytes(row.bytes_down + row.bytes_up), `${bytes(row.bytes_down)} down, ${bytes(row.bytes_up)} up`),
    );
  }

  #historyTable(past) {
    const score = this.#score();
    const heads = ["Round", "Personalised", "Downloaded", "Training loss", "Density", "Took", "Down", "Up", "Attempt", "Worker", "State"];
    const known = (write, value) => (value === null || value === undefined ? NONE : write(value));
    return plainTable(
      "History",
      heads.map((label, place) => ({ label, number: place < 9 })),
      past.round.map((round, at) => [
        number(round), known(score, past.personalised[at]), known(score, past.downloaded[at]), short(past.train_loss[at]),
        percent(past.density[at]), duration(past.seconds[at]), bytes(past.bytes_down[at]), bytes(past.bytes_up[at]),
        number(past.attempt[at]), past.worker[at] || NONE, [past.state[at], past.reason[at]].filter(Boolean).join(": "),
      ]).toReversed(),
    );
  }
}

function layerTable(layers) {
  const table = new Table({
    caption: "Mask by layer",
    columns: [
      { key: "name", label: "Layer" },
      { key: "density", label: "Density", number: true, kind: "share wide", fill: fillShare },
      { key: "kept", label: "Kept", number: true, text: (layer) => number(layer.kept) },
      { key: "size", label: "Weights", number: true, text: (layer) => number(layer.size) },
    ],
    id: (layer) => layer.name,
    sort: { key: "", order: "asc" },
  });
  table.show(layers);
  return table;
}

function fillShare(cell, layer) {
  cell.style.setProperty("--share", `${layer.density * 100}%`);
  setText(cell, percent(layer.density));
}

function servedTable(served) {
  return plainTable(
    "Served by",
    [{ label: "Worker" }, { label: "Results", number: true }, { label: "Last in round", number: true }],
    served.map((one) => [one.worker, number(one.results), number(one.last)]),
  );
}
