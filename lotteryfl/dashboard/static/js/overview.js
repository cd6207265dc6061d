/** How a run stands: its state, the time left, and the last figures. */

import { RUN_STATES } from "./base/badge.js";
import { byId, el, setAttribute, setText } from "./base/dom.js";
import { NONE, bytes, counted, duration, number, percent, scoreText, short } from "./base/format.js";
import { lastRound } from "./base/series.js";

export class Overview {
  constructor() {
    this.tiles = new Map();
    this.serious = el("div", { class: "says" });
    this.waits = el("div", { class: "says" });
    this.behind = el("details", { hidden: true }, el("summary", {}, "Who waits for whom"), this.waits);
    byId("says").append(this.serious, this.behind);
    setInterval(() => this.run && this.#times(), 1000);
  }

  /** Show the status and the last committed round of a run. */
  show(run) {
    this.run = run;
    this.heard = performance.now();
    const { status } = run;
    this.#header(status);
    for (const [name, value, note] of figures(run)) this.#tile(name, value, note);
    this.#times();
    this.#say(status);
  }

  #header(status) {
    const { title } = this.run;
    document.title = `${committed(this.run)}/${status.rounds} ${title} – lotteryfl`;
    setText(byId("title"), title);
    const [text, kind] = stateOf(status);
    const state = byId("state");
    state.hidden = false;
    state.className = `badge ${kind}`;
    setText(state, text);
    setText(byId("headline"), `${status.strategy} · ${[status.task, status.model].filter(Boolean).join("/")} · seed ${status.seed}`);
    byId("progress").hidden = false;
    setAttribute(byId("progress"), "value", Math.min(1, (committed(this.run) + openShare(status)) / (status.rounds + 1)).toFixed(4));
    setText(byId("problem"), status.problem);
    byId("problem").hidden = !status.problem;
  }

  /** Write what changes with the clock. */
  #times() {
    const { status } = this.run;
    const passed = (performance.now() - this.heard) / 1000;
    const over = status.state !== "running";
    const left = status.time_left === null ? null : Math.max(status.time_left - (status.live ? passed : 0), 0);
    const end = over ? (status.ended_at ?? null) : Date.now() / 1000;
    const runs = status.started_at === null || end === null ? null : end - status.started_at;
    this.#tile("Time left", over ? NONE : duration(left), runs === null ? "" : `${duration(runs)} ${over ? "in all" : "so far"}`);
  }

  #tile(name, value, note) {
    let tile = this.tiles.get(name);
    if (!tile) {
      tile = { value: el("dd"), note: el("dd") };
      this.tiles.set(name, tile);
      byId("tiles").append(el("div", {}, el("dt", {}, name), tile.value, tile.note));
    }
    setText(tile.value, value);
    setText(tile.note, note);
  }

  #say(status) {
    const lines = [
      status.reason && ["bad", status.reason],
      status.paused && ["warn", `Paused: ${status.paused}`],
      ...status.refusals.map((one) => ["bad", `${one.worker}: ${counted(one.results, "result")} refused${one.aside ? ", put aside" : ""}: ${one.reason}`]),
      ...status.left_out.slice(0, 5).map((one) => ["warn", `Client ${one.client} sat out ${counted(one.rounds, "round")}, last ${one.last}: ${one.reason}`]),
      status.advice && ["muted", status.advice],
    ].filter(Boolean);
    write(this.serious, lines);
    write(this.waits, [...status.waits, ...status.heard, status.goes_on].filter(Boolean).map((text) => ["", text]));
    this.behind.hidden = status.state !== "running";
  }
}

/** Show lines in their kinds, anew only where they are others. */
function write(place, lines) {
  const text = JSON.stringify(lines);
  if (text === place.dataset.lines) return;
  place.dataset.lines = text;
  place.replaceChildren(...lines.map(([kind, one]) => el("p", { class: kind }, one)));
}

/** Return how many rounds are committed: the directory may know of one before the coordinator's word comes. */
function committed({ status, series }) {
  return Math.max(status.round, Math.min(lastRound(series), status.rounds));
}

function stateOf(status) {
  if (status.state === "running" && status.paused) return ["paused", "warn"];
  return [status.state, RUN_STATES[status.state]];
}

function openShare(status) {
  return status.open_round !== null && status.assignments ? status.results / status.assignments : status.state === "finished" ? 1 : 0;
}

/** Return name, value and note of each tile. */
function figures(run) {
  const { status, series } = run;
  const last = (name) => series[name].findLast((value) => value !== null) ?? null;
  const { text: score } = scoreText(status.score);
  const open = status.open_round;
  const figure = [
    ["Round", `${number(committed(run))} of ${number(status.rounds)}`, open === null ? "" : `${open > status.rounds ? "last measurement" : `round ${open}`}: ${status.results} of ${status.assignments}`],
    ["Time left", NONE, ""],
    ["Personalised", score(last("personalised")), `worst tenth ${score(last("worst_personalised"))}`],
    ["Downloaded", score(last("downloaded")), `worst tenth ${score(last("worst_downloaded"))}`],
    ["Density", percent(last("density")), counted(status.clients, "client")],
    ["Sent", bytes(status.bytes_down + status.bytes_up), `↓ ${bytes(status.bytes_down)}  ↑ ${bytes(status.bytes_up)}`],
    ["Workers", number(status.workers), Object.entries(status.devices).map(([kind, count]) => `${count} × ${kind}`).join(", ")],
  ];
  if (status.shared) {
    const [name, value] = Object.entries(status.shared.values)[0] ?? ["", null];
    figure.push(["Shared model", name === "accuracy" ? percent(value) : short(value), `${name} after round ${status.shared.after}`]);
  }
  if (status.privacy) figure.push(["Privacy spent", ...privacyOf(status.privacy)]);
  return figure;
}

function privacyOf(privacy) {
  const spent = privacy.epsilon === null ? (privacy.promised ? NONE : "no promise") : `ε ${short(privacy.epsilon)}`;
  return [spent, [privacy.delta === null ? "" : `δ ${short(privacy.delta)}`, privacy.of && `of ${privacy.of}`].filter(Boolean).join(", ")];
}
