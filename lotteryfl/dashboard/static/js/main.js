/** Where the page begins: one run, or several side by side. */

import { get } from "./api.js";
import { byId, el, setText } from "./dom.js";
import { startRun } from "./run.js";
import { startRuns } from "./runs.js";
import { startTheme } from "./theme.js";

startTheme();
try {
  const { runs } = await get("runs");
  const named = location.pathname.match(/^\/runs\/([^/]+)$/)?.[1];
  const name = named ? decodeURIComponent(named) : runs.length === 1 ? runs[0].name : null;
  offer(runs, name);
  await (name === null ? startRuns(runs) : startRun(name));
} catch (error) {
  byId("problem").hidden = false;
  setText(byId("problem"), error.message);
  setText(byId("connection"), "Not connected");
}

/** Offer the other runs, where there are any. */
function offer(runs, name) {
  if (runs.length < 2) return;
  const choose = byId("choose");
  choose.append(
    el("option", { value: "/" }, "All runs"),
    ...runs.map((run) => el("option", { value: `/runs/${encodeURIComponent(run.name)}`, selected: run.name === name }, run.title)),
  );
  choose.addEventListener("change", () => location.assign(choose.value));
  choose.hidden = false;
}
