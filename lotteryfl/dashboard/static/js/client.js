/** One client: its history, its mask by layer, and who served it. */

import { get } from "./base/api.js";
import { AXES, Chart } from "./charts.js";
import { byId, el, setText } from "./base/dom.js";
import { NONE, bytes, duration, number, percent, percentTick, scoreText, short } from "./base/format.js";
import { plainTable } from "./base/table.js";

export class ClientDialog {
  constructor(run) {
    this.run = run;
    this.dialog = byId("client");
    this.title = el("h2", { id: "client-title", "aria-live": "polite" });
    this.before = el("button", { type: "button", "aria-label": "Client before", onclick: () => this.#move(-1) }, "‹");
    this.next = el("button", { type: "button", "aria-label": "Next client", onclick: () => this.#move(1) }, "›");
    const close = el("button", { type: "button", autofocus: true, onclick: () => this.dialog.close() }, "Close");
    this.body = el("div", { class: "stacked" });
    this.dialog.append(el("div", { class: "head" }, this.title, el("span", { class: "end" }, this.before, this.next, close)), this.body);
    this.dialog.addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.dialog.addEventListener("keydown", ({ key }) => {
      if (key === "ArrowLeft" || key === "ArrowRight") this.#move(key === "ArrowLeft" ? -1 : 1);
    });
    this.scores = new Chart({ title: "Score", ...scoreText(run.status.score), sync: "client" });
    this.densities = new Chart({ title: "Density", text: percent, tick: percentTick, sync: "client", zero: true });
  }

  /** Open the client that the address names, if it does. */
  openFromAddress() {
    const client = location.hash.match(/^#client-(\d+)$/)?.[1];
    if (client) this.open(Number(client));
  }

  /** Show a client. */
  async open(client) {
    this.client = client;
    setText(this.title, `Client ${client}`);
    this.before.disabled = client === 0;
    this.next.disabled = client >= this.run.status.clients - 1;
    if (!this.dialog.open) this.dialog.showModal();
    history.replaceState(null, "", `#client-${client}`);
    try {
      const found = await get(`${this.run.path}/clients/${client}`);
      if (this.client === client) this.#fill(found);
    } catch (error) {
      this.body.replaceChildren(el("p", { class: "bad" }, error.message));
    }
  }

  #move(step) {
    const next = this.client + step;
    if (next >= 0 && next < this.run.status.clients) this.open(next);
  }

  #fill({ row, history: past, layers, served_by: served }) {
    this.body.replaceChildren(
      this.#tiles(row),
      el("div", { class: "charts" }, this.scores.node, this.densities.node),
      el("h3", {}, "Mask by layer"), layers.length ? layerTable(layers) : el("p", { class: "note" }, "Kept back for privacy."),
      el("h3", {}, "Served by"), servedTable(served),
      el("h3", {}, "History"), this.#historyTable(past),
    );
    this.scores.draw(AXES.round, past.round, [
      { key: "personalised", label: "personalised", colour: "--line-0", values: past.personalised },
      { key: "downloaded", label: "downloaded", colour: "--line-1", dash: "dashed", values: past.downloaded },
    ]);
    this.densities.draw(AXES.round, past.round, [{ key: "density", label: "kept share of prunable weights", colour: "--line-0", values: past.density }]);
  }

  #tiles(row) {
    const { text: score, difference } = scoreText(this.run.status.score);
    const tile = (name, value, note) => el("div", {}, el("dt", {}, name), el("dd", {}, value), el("dd", {}, note));
    return el(
      "dl", { class: "tiles" },
      tile("Personalised", score(row.personalised), row.round === null ? "never took part" : `round ${row.round}`),
      tile("Downloaded", score(row.downloaded), `gain ${difference(row.gain)}`),
      tile("Density", percent(row.density), row.mask ? `mask ${row.mask}` : "dense"),
      tile("Rounds", number(row.rounds), `${number(row.missed)} missed, ${number(row.refused)} refused`),
      tile("Sent", bytes(row.bytes_down + row.bytes_up), `${bytes(row.bytes_down)} down, ${bytes(row.bytes_up)} up`),
      tile("Examples", number(row.examples), row.is_new ? "a new client" : ""),
    );
  }

  #historyTable(past) {
    const { text: score } = scoreText(this.run.status.score);
    const heads = ["Round", "Personalised", "Downloaded", "Training loss", "Density", "Took", "Down", "Up", "Attempt", "Worker", "State"];
    return plainTable(
      "History",
      heads.map((label, place) => ({ label, number: place < 9 })),
      past.round.map((round, at) => [
        number(round), score(past.personalised[at]), score(past.downloaded[at]), short(past.train_loss[at]),
        percent(past.density[at]), duration(past.seconds[at]), bytes(past.bytes_down[at]), bytes(past.bytes_up[at]),
        number(past.attempt[at]), past.worker[at] || NONE, [past.state[at], past.reason[at]].filter(Boolean).join(": "),
      ]).toReversed(),
    );
  }
}

function layerTable(layers) {
  const table = plainTable(
    "Mask by layer",
    ["Layer", "Density", "Kept", "Weights"].map((label, place) => ({ label, number: place > 0 })),
    layers.map((layer) => [layer.name, percent(layer.density), number(layer.kept), number(layer.size)]),
  );
  table.querySelectorAll("tbody td:nth-child(2)").forEach((cell, place) => {
    cell.classList.add("share", "wide");
    cell.style.setProperty("--share", `${layers[place].density * 100}%`);
  });
  return table;
}

function servedTable(served) {
  return plainTable(
    "Served by",
    [{ label: "Worker" }, { label: "Results", number: true }, { label: "Last in round", number: true }],
    served.map((one) => [one.worker, number(one.results), number(one.last)]),
  );
}
