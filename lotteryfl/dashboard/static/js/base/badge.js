/** A state as a coloured word, with what is to be said of it beside. */

import { el, setText } from "./dom.js";

/** The colours of a run's states. */
export const RUN_STATES = { running: "", stopped: "warn", finished: "good", failed: "bad" };

/** Fill a cell of a table with a state, and why it is so. */
export function fillBadge(cell, kind, state, why) {
  if (!cell.firstChild) cell.append(el("span"), el("span", { class: "why" }));
  const [badge, reason] = cell.children;
  badge.className = `badge ${kind ?? ""}`;
  setText(badge, state);
  setText(reason, why);
}
