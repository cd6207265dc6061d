/** One run: what is known of it, kept up to date by its stream, and the sections that show it. */

import { get } from "./base/api.js";
import { ClientDialog } from "./client.js";
import { Clients } from "./clients.js";
import { Curves } from "./curves.js";
import { byId } from "./base/dom.js";
import { Events } from "./events.js";
import { showExperiment } from "./experiment.js";
import { Overlap } from "./overlap.js";
import { Overview } from "./overview.js";
import { markSections } from "./sections.js";
import { appended, lastRound } from "./base/series.js";
import { follow } from "./base/stream.js";
import { Timeline } from "./timeline.js";
import { Workers } from "./workers.js";

const MOST_POINTS = 1500; // of a long run that is followed: then the server thins it anew

/** Show a run and follow it. */
export async function startRun(name) {
  const path = `runs/${encodeURIComponent(name)}`;
  const run = { path, ...(await get(path)) };
  byId("main").append(byId("run-view").content.cloneNode(true));
  const dialog = new ClientDialog(run);
  const parts = {
    overview: new Overview(),
    curves: new Curves(),
    workers: new Workers(),
    timeline: new Timeline(run),
    clients: new Clients(run, dialog),
    overlap: new Overlap(run),
    events: new Events(run),
  };
  const showAll = () => {
    parts.overview.show(run);
    parts.curves.show(run);
    parts.workers.show(run.fleet);
    parts.events.reset(run.events);
    for (const part of [parts.timeline, parts.clients, parts.overlap]) part.ask();
  };
  const again = async () => {
    Object.assign(run, await get(path));
    showAll();
  };
  showAll();
  markSections();
  showExperiment(path);
  dialog.openFromAddress();
  follow(`${path}/stream`, run.cursor, {
    status(status) {
      const moved = status.results !== run.status.results || status.open_round !== run.status.open_round;
      run.status = status;
      parts.overview.show(run);
      if (moved) for (const part of [parts.timeline, parts.clients]) part.ask();
    },
    rounds(news) {
      if (news.round.every((round) => round <= lastRound(run.series))) return;
      run.series = appended(run.series, news);
      parts.overview.show(run);
      parts.curves.show(run);
      for (const part of [parts.timeline, parts.clients, parts.overlap]) part.ask();
      if (run.series.round.length > MOST_POINTS) again();
    },
    fleet(fleet) {
      run.fleet = fleet;
      parts.workers.show(fleet);
    },
    events(news) {
      parts.events.add(news.events);
    },
    reset: again,
  }, () => ["finished", "failed"].includes(run.status.state));
}
