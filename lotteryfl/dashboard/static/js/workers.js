/** The workers: what each does, on what, when it was heard of, and why it is late or aside. */

import { fillBadge } from "./base/badge.js";
import { byId, setText } from "./base/dom.js";
import { NONE, bytes, duration, number, short } from "./base/format.js";
import { Table } from "./base/table.js";

const KINDS = { working: "good", idle: "", late: "warn", lost: "bad", aside: "bad", gone: "" };
const RANKS = { aside: 0, lost: 1, late: 2, working: 3, idle: 4, gone: 5 };

export class Workers {
  constructor() {
    this.table = new Table({
      caption: "Workers",
      columns: COLUMNS.map((column) => ({ ...column, ...this.#timed(column) })),
      id: (worker) => worker.name,
      sort: { key: "name", order: "asc" },
      empty: "No worker has been heard of.",
    });
    byId("workers").append(this.table.node);
    setInterval(() => this.fleet && this.#renew(), 1000);
  }

  /** Show a fleet, as it was just now. */
  show(fleet) {
    this.fleet = fleet;
    this.since = performance.now();
    const known = number(fleet.workers.length);
    const more = fleet.others ? `, and ${number(fleet.others)} for whom there is no room here` : "";
    setText(byId("workers-count"), fleet.source === "live" ? `${number(fleet.alive)} alive of ${known}${more}` : `${known}, by the directory: their coordinator says nothing now`);
    this.#renew();
  }

  #renew() {
    this.passed = (performance.now() - this.since) / 1000;
    this.table.show(this.fleet.workers);
  }

  /** Give a column that goes with the clock the seconds since the fleet was told of. */
  #timed({ clock }) {
    return clock ? { text: (worker) => clock(worker, this.passed) } : {};
  }
}

const COLUMNS = [
  { key: "name", label: "Worker" },
  { key: "state", label: "State", value: (worker) => RANKS[worker.state] ?? 9, fill: (cell, worker) => fillBadge(cell, KINDS[worker.state], worker.state, worker.why || worker.aside) },
  { key: "doing", label: "Does", kind: "doing", value: (worker) => worker.holdings[0]?.client, clock: doing },
  { key: "silent", label: "Heard of", number: true, clock: (worker, passed) => (worker.silent === null ? NONE : `${duration(worker.silent + passed)} ago`) },
  { key: "lease", label: "Lease", number: true, title: "until its work goes to another, if nothing is heard of it", value: (worker) => leaseOf(worker), clock: (worker, passed) => (leaseOf(worker) === null ? NONE : duration(leaseOf(worker) - passed)) },
  { key: "steps", label: "Steps/s", number: true, value: (worker) => worker.load?.steps_per_second, text: (worker) => short(worker.load?.steps_per_second) },
  { key: "down_per_second", label: "Down/s", number: true, text: (worker) => bytes(worker.down_per_second) },
  { key: "up_per_second", label: "Up/s", number: true, text: (worker) => bytes(worker.up_per_second) },
  { key: "device", label: "Device" },
  { key: "memory", label: "Memory", number: true, title: "of its process", value: (worker) => worker.load?.memory, text: (worker) => bytes(worker.load?.memory) },
  { key: "device_memory", label: "On the device", number: true, value: (worker) => worker.load?.device_memory, text: onDevice },
  { key: "holds", label: "Holds", number: true, title: "clients whose data it has", value: (worker) => (worker.holds === "all" ? Infinity : worker.holds), text: (worker) => (worker.holds === "all" ? "all" : number(worker.holds)) },
  { key: "results", label: "Results", number: true, text: (worker) => number(worker.results) },
];

function doing(worker, passed) {
  return worker.holdings.map((held) => doingOne(held, passed)).join("; ") || NONE;
}

function doingOne(held, passed) {
  const who = `client ${held.client}${held.attempt > 1 ? `, attempt ${held.attempt}` : ""}`;
  const since = held.held === null ? "" : `for ${duration(held.held + passed)}`;
  if (held.returning) return `${who}: returns its result, ${since}`;
  if (held.arrived === false) return `${who}: is being sent, ${since}`;
  const steps = held.step ? `epoch ${held.epoch}, step ${number(held.step)}` : "at work";
  return `${who}: ${steps}${held.loss ? `, loss ${short(held.loss)}` : ""}, ${since}`;
}

function leaseOf(worker) {
  return worker.holdings.map(({ lease }) => lease).filter((lease) => lease !== null).toSorted((one, other) => one - other)[0] ?? null;
}

function onDevice(worker) {
  const used = worker.load?.device_memory;
  if (!used && !worker.device_memory) return NONE;
  if (!used) return bytes(worker.device_memory);
  return worker.device_memory ? `${bytes(used)} of ${bytes(worker.device_memory)}` : bytes(used);
}
