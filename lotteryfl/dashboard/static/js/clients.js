/** All clients, as of their last results: sorted and filtered by the server, so that any number of them will do. */

import { get } from "./base/api.js";
import { byId, el, setAttribute, setText } from "./base/dom.js";
import { NONE, bytes, counted, duration, number, percent, scoreText, short } from "./base/format.js";
import { Refresher } from "./base/refresh.js";
import { Table } from "./base/table.js";

const STEP = 200; // rows that are shown, and by which more are
const PAUSE = 3000;

export class Clients {
  constructor(run, dialog) {
    this.run = run;
    this.dialog = dialog;
    this.sort = { key: "client", order: "asc" };
    this.limit = STEP;
    this.columns = columnsOf(run.status.score, (client) => dialog.open(client));
    this.table = new Table({
      caption: "Clients",
      columns: this.columns,
      id: (row) => row.client,
      sort: this.sort,
      sorted: (key, order) => {
        this.sort = { key, order };
        this.refresher.now();
      },
      empty: "No client is so.",
    });
    this.more = el("button", { type: "button", class: "more", hidden: true, onclick: () => this.#showMore() }, "");
    byId("clients").append(this.table.node, this.more);
    byId("clients-key").append(
      ...this.columns.filter((column) => column.bound).map((column) => el("option", { value: column.key }, column.label)),
    );
    for (const id of ["find", "state", "key", "low", "high"]) {
      byId(`clients-${id}`).addEventListener("input", () => this.refresher.now());
    }
    this.refresher = new Refresher(byId("clients"), PAUSE, () => this.#show());
  }

  /** There are news of clients. */
  ask() {
    this.refresher.ask();
  }

  async #show() {
    const { total, found, clients } = await get(`${this.run.path}/clients`, {
      sort: this.sort.key,
      order: this.sort.order,
      limit: this.limit,
      find: byId("clients-find").value.trim(),
      state: byId("clients-state").value,
      low: this.#bound("low"),
      high: this.#bound("high"),
    });
    this.table.show(clients);
    setText(byId("clients-count"), found === total ? counted(total, "client") : `${number(found)} of ${counted(total, "client")}`);
    this.more.hidden = clients.length >= found;
    setText(this.more, `Show ${Math.min(STEP, found - clients.length)} more of ${number(found)}`);
  }

  #bound(end) {
    const text = byId(`clients-${end}`).value;
    if (text === "") return null;
    const { bound } = this.columns.find(({ key }) => key === byId("clients-key").value);
    return `${byId("clients-key").value}:${Number(text) / bound}`;
  }

  #showMore() {
    this.limit += STEP;
    this.refresher.now();
  }
}

/** Return the columns; `bound`: by what the reader's number is divided where the column is filtered (per cent are shares). */
function columnsOf(score, open) {
  const { text, difference } = scoreText(score);
  const scale = score.own ? 1 : 100;
  const scored = (key, label, title) => ({ key, label, title, number: true, text: (row) => text(row[key]), bound: scale });
  return [
    { key: "client", label: "Client", number: true, fill: opener(open) },
    scored("personalised", "Personalised", "score after local training"),
    scored("downloaded", "Downloaded", "score of the model as it came"),
    { ...scored("gain", "Gain", "personalised − downloaded"), text: (row) => difference(row.gain) },
    { key: "density", label: "Density", number: true, kind: "share", fill: fillDensity, bound: 100 },
    { key: "train_loss", label: "Training loss", number: true, text: (row) => short(row.train_loss), bound: 1 },
    { key: "examples", label: "Examples", number: true, text: (row) => number(row.examples), bound: 1 },
    { key: "round", label: "Last round", number: true, text: (row) => number(row.round), bound: 1 },
    { key: "rounds", label: "Rounds", number: true, title: "with a result", text: (row) => number(row.rounds), bound: 1 },
    { key: "missed", label: "Missed", number: true, title: "rounds that it sat out", text: (row) => number(row.missed), bound: 1 },
    { key: "refused", label: "Refused", number: true, title: "results that were refused", text: (row) => number(row.refused), bound: 1 },
    { key: "seconds", label: "Took", number: true, text: (row) => duration(row.seconds), bound: 1 },
    { key: "bytes_down", label: "Down", number: true, text: (row) => bytes(row.bytes_down) },
    { key: "bytes_up", label: "Up", number: true, text: (row) => bytes(row.bytes_up) },
    { key: "worker", label: "Worker", text: (row) => row.worker || NONE },
    { key: "state", label: "Open round", text: (row) => row.state ?? NONE },
    { key: "mask", label: "Mask", kind: "code", title: "first digits of its digest", text: (row) => row.mask || "dense" },
  ];
}

function opener(open) {
  return (cell, row) => {
    if (!cell.firstChild) {
      const button = el("button", { type: "button", class: "opens", "aria-haspopup": "dialog" });
      button.addEventListener("click", () => open(Number(button.dataset.client)));
      cell.append(button);
    }
    cell.firstChild.dataset.client = row.client;
    setText(cell.firstChild, String(row.client));
    setAttribute(cell.firstChild, "aria-label", `Client ${row.client}${row.is_new ? ", new" : ""}: open`);
  };
}

function fillDensity(cell, row) {
  cell.style.setProperty("--share", `${(row.density ?? 0) * 100}%`);
  setText(cell, percent(row.density));
}
