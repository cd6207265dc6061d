/** Where the page begins: one run, or several side by side. */

import { get } from "./base/api.js";
import { byId, el, setText } from "./base/dom.js";
import { startRun } from "./run.js";
import { startRuns } from "./runs.js";
import { startTheme } from "./base/theme.js";

startTheme();
const named = location.pathname.match(/^\/runs\/([^/]+)$/)?.[1];
try {
  const [{ runs }] = await Promise.all([get("runs"), named && startRun(decodeURIComponent(named))]);
  offer(runs, named ? decodeURIComponent(named) : null);
  if (!named) await (runs.length === 1 ? startRun(runs[0].name) : startRuns(runs));
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
