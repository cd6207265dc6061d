/** The experiment as it was resolved: every key with its value, those that were changed marked. */

import { get } from "./base/api.js";
import { byId, el, setText } from "./base/dom.js";

/** Fetch it once and show it: it never changes. */
export async function showExperiment(path) {
  const place = byId("settings");
  try {
    const { toml, sections, run_id: id, version, directory } = await get(`${path}/experiment`);
    setText(byId("experiment-note"), `run ${id.slice(0, 8)} of lotteryfl ${version}, directory ${directory}`);
    const show = () => {
      const tables = sections.map((section) => sectionOf(section, byId("changed").checked)).filter(Boolean);
      place.replaceChildren(...(tables.length ? tables : [el("p", { class: "muted" }, "Every key is at its default.")]), asFile(toml));
    };
    byId("changed").addEventListener("change", show);
    show();
  } catch (error) {
    place.replaceChildren(el("p", { class: "bad" }, error.message));
  }
}

function sectionOf({ name, keys }, changedOnly) {
  const shown = changedOnly ? keys.filter(({ changed }) => changed) : keys;
  if (!shown.length) return null;
  return el(
    "table", { class: "keys" },
    el("caption", {}, name ? `[${name}]` : "at the top"),
    el("tbody", {}, shown.map(({ key, value, default: usual, changed }) =>
      el(
        "tr", { class: changed ? "changed" : null },
        el("th", { scope: "row" }, key),
        el("td", { class: "text" }, written(value), changed && usual !== undefined && el("span", { class: "note" }, ` (default ${written(usual)})`)),
      ),
    )),
  );
}

function asFile(toml) {
  return el("details", {}, el("summary", {}, "As a file"), el("pre", { tabindex: 0 }, toml));
}

function written(value) {
  if (value === null || value === "") return "none";
  return typeof value === "string" ? value : JSON.stringify(value);
}
