/** Many runs side by side: a table of them, and the curves of those that are chosen, over one another. */

import { get } from "./base/api.js";
import { RUN_STATES, fillBadge } from "./base/badge.js";
import { AXES, Chart } from "./charts.js";
import { axisChoice } from "./curves.js";
import { byId, el, setAttribute, setText } from "./base/dom.js";
import { NONE, bytes, bytesTick, counted, duration, number, percent, percentTick, scoreText, short } from "./base/format.js";
import { Refresher } from "./base/refresh.js";
import { follow } from "./base/stream.js";
import { Table } from "./base/table.js";

const MOST_LINES = 21; // that can be told apart: 7 colours with 3 dashes each
const FIRST_LINES = 8; // that are chosen at first
const DASHES = [undefined, "dashed", "dotted"];

/** Show the runs and follow them. */
export async function startRuns(runs) {
  byId("main").append(byId("runs-view").content.cloneNode(true));
  document.title = "Runs – lotteryfl";
  setText(byId("title"), "All runs");
  const view = new Runs();
  view.show(runs);
  follow("stream", null, { runs: (news) => view.show(news.runs) });
}

class Runs {
  constructor() {
    this.chosen = new Set();
    this.places = new Map(); // a run keeps its colour
    this.axis = "round";
    this.table = new Table({
      caption: "Runs",
      columns: columnsOf((run, box) => this.#choose(run, box), (run) => this.chosen.has(run.name), (run) => this.#style(run.name)),
      id: (run) => run.name,
      sort: { key: "started_at", order: "desc" },
      empty: "No run yet.",
    });
    byId("overview").append(this.table.node);
    axisChoice(byId("against"), (axis) => {
      this.axis = axis;
      this.#draw();
    });
    byId("which").addEventListener("change", () => this.#draw());
    this.charts = [
      ["score", new Chart({ title: "Score", text: (value) => this.#score().text(value), tick: (value) => this.#score().tick(value) }), () => byId("which").value],
      ["loss", new Chart({ title: "Loss", text: short }), () => `loss_${byId("which").value}`],
      ["density", new Chart({ title: "Density", text: percent, tick: percentTick, zero: true }), () => "density"],
      ["sent", new Chart({ title: "Megabytes in all", text: bytes, tick: bytesTick, zero: true }), () => "sent"],
    ];
    byId("charts").append(...this.charts.map(([, chart]) => chart.node));
    this.refresher = new Refresher(byId("curves"), 3000, () => this.#fetch());
  }

  show(runs) {
    this.runs = runs;
    for (const run of runs) {
      if (this.places.has(run.name)) continue;
      this.places.set(run.name, this.places.size);
      if (this.chosen.size < FIRST_LINES && !run.problem) this.chosen.add(run.name);
    }
    setText(byId("runs-count"), `${counted(runs.length, "run")}, ${number(runs.filter((run) => run.state === "running").length)} running`);
    this.table.show(runs);
    this.refresher.ask();
  }

  #choose(run, box) {
    if (box.checked && this.chosen.size >= MOST_LINES) box.checked = false;
    else if (box.checked) this.chosen.add(run.name);
    else this.chosen.delete(run.name);
    this.refresher.now();
  }

  #style(name) {
    const place = this.places.get(name) % MOST_LINES;
    return { colour: `--line-${place % 7}`, dash: DASHES[Math.floor(place / 7)] };
  }

  #score() {
    return scoreText({ own: this.runs.some((run) => run.score?.own) });
  }

  async #fetch() {
    const names = this.runs.map((run) => run.name).filter((name) => this.chosen.has(name));
    this.series = names.length ? (await get("series", { run: names })).runs : {};
    this.#draw();
  }

  #draw() {
    const series = Object.entries(this.series ?? {});
    const titles = new Map(this.runs.map((run) => [run.name, run.title]));
    for (const [, chart, column] of this.charts) {
      const tables = series.map(([, one]) => [one[this.axis], one[column()]]);
      const [x, ...values] = tables.length ? uPlot.join(tables) : [[]];
      chart.draw(AXES[this.axis], x, series.map(([name], at) => ({ key: name, label: titles.get(name), values: values[at], ...this.#style(name) })));
    }
    const thinned = series.filter(([, one]) => one.thinned).length;
    byId("thinned").hidden = !thinned;
    setText(byId("thinned"), `${counted(thinned, "run")} with fewer rounds drawn than there are`);
  }
}

function columnsOf(choose, isChosen, style) {
  const scored = (key) => (run) => scoreText(run.score ?? {}).text(run[key]);
  return [
    { key: "name", label: "Run", fill: namer(style) },
    { key: "chosen", label: "Drawn", sortable: false, fill: chooser(choose, isChosen) },
    { key: "state", label: "State", fill: (cell, run) => fillBadge(cell, run.problem ? "bad" : RUN_STATES[run.state], run.problem ? "unreadable" : run.state, run.problem || run.reason || "") },
    { key: "strategy", label: "Strategy" },
    { key: "task", label: "Task", text: (run) => [run.task, run.model].filter(Boolean).join("/") || NONE },
    { key: "seed", label: "Seed", number: true },
    { key: "round", label: "Round", number: true, text: (run) => (run.rounds ? `${run.round} / ${run.rounds}` : NONE) },
    { key: "personalised", label: "Personalised", number: true, text: scored("personalised") },
    { key: "downloaded", label: "Downloaded", number: true, text: scored("downloaded") },
    { key: "density", label: "Density", number: true, text: (run) => percent(run.density) },
    { key: "sent", label: "Sent", number: true, text: (run) => bytes(run.sent) },
    { key: "time_left", label: "Left", number: true, text: (run) => duration(run.time_left) },
    { key: "started_at", label: "Begun", number: true, text: (run) => (run.started_at ? new Date(run.started_at * 1000).toLocaleString("sv-SE") : NONE) },
  ];
}

function namer(style) {
  return (cell, run) => {
    if (!cell.firstChild) cell.append(el("span", { class: "key" }), el("a", {}));
    const { colour, dash } = style(run);
    const [key, link] = cell.children;
    key.className = `key ${dash ?? ""}`;
    key.style.color = `var(${colour})`;
    setAttribute(link, "href", `/runs/${encodeURIComponent(run.name)}`);
    setText(link, run.title);
  };
}

function chooser(choose, isChosen) {
  return (cell, run) => {
    if (!cell.firstChild) cell.append(el("input", { type: "checkbox" }));
    const box = cell.firstChild;
    box.onchange = () => choose(run, box);
    box.checked = isChosen(run);
    setAttribute(box, "aria-label", `Draw ${run.title}`);
  };
}
