/** Who works when: the assignments of some rounds on their workers, as bars. */

import { get } from "./base/api.js";
import { byId, el, setAttribute, setText, svg } from "./base/dom.js";
import { NONE, duration, number } from "./base/format.js";
import { Refresher } from "./base/refresh.js";
import { plainTable, twin } from "./base/table.js";

const PAUSE = 2000;
const STATES = { done: "done", leased: "under way", waiting: "waits for another worker", dropped: "dropped" };
const [TOP, BOTTOM, MOST_LEFT] = [18, 20, 150]; // pixels around the lanes
const [TALLEST, LOWEST, TALL] = [22, 6, 440]; // of a lane; of all of them

export class Timeline {
  constructor(run) {
    this.run = run;
    this.round = null; // the last ones
    this.twin = twin("Time line as a table", () => this.#table());
    byId("timeline").append(this.twin.node);
    byId("timeline-legend").append(
      ...Object.entries(STATES).map(([state, text]) => el("span", { class: "note" }, el("span", { class: `key block state-${state}` }), text)),
    );
    byId("timeline-before").addEventListener("click", () => this.#choose((this.round ?? this.#newest() + 1) - 1));
    byId("timeline-next").addEventListener("click", () => this.#choose((this.round ?? this.#newest()) + 1));
    byId("timeline-last").addEventListener("click", () => this.#choose(null));
    byId("timeline-round").addEventListener("change", (event) => this.#choose(event.target.value === "" ? null : Number(event.target.value)));
    this.refresher = new Refresher(byId("timeline"), PAUSE, () => this.#fetch());
    new ResizeObserver(() => this.found && this.#draw()).observe(byId("lanes"));
  }

  /** There are news of assignments. */
  ask() {
    if (this.round === null || this.round >= this.#newest()) this.refresher.ask();
  }

  #newest() {
    return this.run.status.open_round ?? this.run.series.round.at(-1) ?? 1;
  }

  #choose(round) {
    this.round = round === null ? null : Math.min(Math.max(Math.trunc(round) || 1, 1), this.#newest());
    byId("timeline-round").value = this.round ?? "";
    setAttribute(byId("timeline-last"), "aria-pressed", this.round === null);
    this.refresher.now();
  }

  async #fetch() {
    this.found = await get(`${this.run.path}/timeline`, { round: this.round });
    this.since = performance.now();
    const { rounds, bars, cut } = this.found;
    const which = rounds.length > 1 ? `rounds ${rounds[0]} to ${rounds.at(-1)}` : rounds.length ? `round ${rounds[0]}` : "no round yet";
    setText(byId("timeline-note"), `${which}, ${number(bars.round.length)} assignments${cut ? " (the rest is left out)" : ""}`);
    this.#draw();
    this.twin.renew();
  }

  #draw() {
    const place = byId("lanes");
    const { workers, bars, marks, at, begin } = this.found;
    const width = Math.max(place.clientWidth, 544);
    if (!bars.round.length) {
      place.replaceChildren(el("p", { class: "empty" }, "Nothing has been given to a worker yet."));
      return;
    }
    const lane = Math.max(LOWEST, Math.min(TALLEST, Math.floor(TALL / workers.length)));
    const left = lane >= 11 ? Math.min(MOST_LEFT, 16 + 7 * Math.max(...workers.map((name) => name.length))) : 12;
    const now = at - begin;
    const ends = [...bars.end.map((end) => end ?? now), ...marks.map((mark) => mark.committed ?? now)];
    const first = Math.min(...bars.begin, ...marks.map((mark) => mark.opened));
    const last = Math.max(...ends, first + 0.001);
    const x = (seconds) => left + ((seconds - first) / (last - first)) * (width - left - 12);
    const height = TOP + lane * workers.length + BOTTOM;
    place.replaceChildren(
      svg(
        "svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
        ticks(first, last, x, height),
        roundMarks(marks, x, height, width),
        workers.map((name, row) => laneOf(name, row, lane, left, width)),
        bars.round.map((round, index) => bar(bars, index, x, lane, now)),
      ),
    );
  }

  #table() {
    const { workers, bars } = this.found ?? { workers: [], bars: { round: [] } };
    const heads = [["Round", true], ["Client", true], ["Worker", false], ["Begin", true], ["End", true], ["Took", true], ["Attempt", true], ["State", false]];
    return plainTable(
      "Time line",
      heads.map(([label, isNumber]) => ({ label, number: isNumber })),
      bars.round.map((round, at) => [
        number(round), number(bars.client[at]), workers[bars.worker[at]], duration(bars.begin[at]), bars.end[at] === null ? NONE : duration(bars.end[at]),
        bars.end[at] === null ? NONE : duration(bars.end[at] - bars.begin[at]), number(bars.attempt[at]), STATES[bars.state[at]] ?? bars.state[at],
      ]),
    );
  }
}

function ticks(first, last, x, height) {
  const rough = (last - first) / 8;
  const step = [0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400].find((size) => size >= rough) ?? 604800;
  const marks = [];
  for (let at = Math.ceil(first / step) * step; at <= last; at += step) {
    marks.push(
      svg("line", { class: "grid", x1: x(at), x2: x(at), y1: TOP, y2: height - BOTTOM }),
      svg("text", { x: x(at), y: height - 5, "text-anchor": "middle" }, duration(at - first)),
    );
  }
  return marks;
}

/** Return a line where each round opens, with its number where there is room. */
function roundMarks(marks, x, height, width) {
  let free = -Infinity;
  return marks.flatMap((mark) => {
    const at = x(mark.opened);
    const line = svg("line", { class: "opened", x1: at, x2: at, y1: 4, y2: height - BOTTOM });
    if (at < free || at > width - 30) return [line];
    free = at + 26;
    return [line, svg("text", { x: at + 4, y: 12 }, `${mark.round}`)];
  });
}

function laneOf(name, row, lane, left, width) {
  const middle = TOP + lane * (row + 0.5);
  const most = Math.floor((left - 16) / 6.5);
  return [
    svg("line", { class: "lane", x1: left, x2: width, y1: middle, y2: middle }),
    lane >= 11 && svg("text", { class: "name", x: left - 8, y: middle + 4, "text-anchor": "end" }, name.length > most ? `${name.slice(0, most - 1)}…` : name),
  ].filter(Boolean);
}

function bar(bars, index, x, lane, now) {
  const [begin, end] = [bars.begin[index], bars.end[index] ?? now];
  const state = Object.hasOwn(STATES, bars.state[index]) ? bars.state[index] : "waiting";
  const what = `client ${bars.client[index]}, round ${bars.round[index]}, attempt ${bars.attempt[index]}: ${STATES[state]}, ${duration(end - begin)}`;
  return svg(
    "rect",
    { class: `state-${state} ${bars.round[index] % 2 ? "odd" : "even"}`, x: x(begin), y: TOP + lane * bars.worker[index] + lane * 0.1, width: Math.max(x(end) - x(begin), 1.5), height: lane * 0.8, rx: 1.5 },
    svg("title", {}, what),
  );
}
