/** What has happened, newest first: refusals, retries, restarts, stragglers, who came and went. */

import { get } from "./base/api.js";
import { byId, el, setText } from "./base/dom.js";
import { NONE, clock } from "./base/format.js";
import { framed } from "./base/table.js";

const MOST = 1000; // lines that are kept on the page
const KINDS = ["started", "stopped", "failed", "finished", "joined", "left", "lost", "back", "refused", "aside", "retried", "given-up", "late", "round-retry", "paused", "resumed", "drained", "disk"];
const COLOURS = { failed: "bad", refused: "bad", aside: "bad", "given-up": "bad", lost: "warn", late: "warn", retried: "warn", "round-retry": "warn", paused: "warn", disk: "bad", finished: "good", back: "good" };

export class Events {
  constructor(run) {
    this.run = run;
    this.kind = "";
    this.known = new Set();
    this.body = el("tbody");
    this.none = el("p", { class: "empty" }, "Nothing yet.");
    this.older = el("button", { type: "button", class: "more", hidden: true, onclick: () => this.#fetchOlder() }, "Older ones");
    const heads = ["Time", "Kind", "Round", "Client", "Worker", "What"];
    const table = framed("Events, newest first", heads.map((head) => el("th", { scope: "col" }, head)), this.body, this.none);
    byId("events").append(table, this.older);
    byId("events-kind").append(el("option", { value: "" }, "all"), ...KINDS.map((kind) => el("option", {}, kind)));
    byId("events-kind").addEventListener("change", (event) => this.#choose(event.target.value));
  }

  /** Show these, newest first, and no others. */
  reset({ events, more, kept }) {
    this.known.clear();
    this.body.replaceChildren();
    setText(byId("events-note"), kept === false ? "Made of refusals, retries and dropped assignments: this directory keeps no events." : "");
    this.#append(events, more);
    if (this.kind) this.#choose(this.kind);
  }

  /** Put new ones, oldest first, before those that are there. */
  add(events) {
    for (const event of events) {
      if (this.known.has(event.id) || (this.kind && event.kind !== this.kind)) continue;
      this.known.add(event.id);
      this.body.prepend(line(event));
    }
    while (this.body.children.length > MOST) this.body.lastElementChild.remove();
    this.none.hidden = this.body.children.length > 0;
  }

  async #choose(kind) {
    this.kind = kind;
    const { events, more } = await get(`${this.run.path}/events`, { kind });
    if (this.kind !== kind) return;
    this.known.clear();
    this.body.replaceChildren();
    this.#append(events, more);
  }

  async #fetchOlder() {
    const { kind } = this;
    const { events, more } = await get(`${this.run.path}/events`, { kind, before: this.body.lastElementChild.dataset.id });
    if (this.kind === kind) this.#append(events, more);
  }

  #append(events, more) {
    for (const event of events) {
      if (this.known.has(event.id)) continue;
      this.known.add(event.id);
      this.body.append(line(event));
    }
    this.older.hidden = !more || this.body.children.length >= MOST;
    this.none.hidden = this.body.children.length > 0;
    setText(this.none, this.kind ? `No event of the kind ${this.kind}.` : "Nothing yet.");
  }
}

function line(event) {
  return el(
    "tr", { "data-id": event.id },
    el("td", {}, clock(event.at)),
    el("td", {}, el("span", { class: `badge ${COLOURS[event.kind] ?? ""}` }, event.kind)),
    el("td", { class: "number" }, event.round === null ? NONE : String(event.round)),
    el("td", { class: "number" }, event.client === null ? NONE : String(event.client)),
    el("td", {}, event.worker || NONE),
    el("td", { class: "text" }, event.text),
  );
}
