/** Light or dark: as the system has it, until the reader chooses; the choice is kept in the browser. */

import { byId, setText } from "./dom.js";

const KEY = "lotteryfl-theme";
const CHOICES = ["auto", "light", "dark"];
const listeners = new Set();
let chosen = "auto";

/** Begin with the choice that was kept, and let the button go round the three. */
export function startTheme() {
  apply(kept());
  byId("theme").addEventListener("click", () => {
    apply(CHOICES[(CHOICES.indexOf(chosen) + 1) % CHOICES.length]);
    keep();
  });
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", tell);
}

/** Call whenever colours change: what is painted on a canvas does not change by itself. */
export function onTheme(listener) {
  listeners.add(listener);
}

/** Return what colour a custom property of the style sheet is now. */
export function colour(name) {
  const probe = byId("probe");
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

function apply(choice) {
  chosen = choice;
  if (choice === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  setText(byId("theme"), `Theme: ${choice}`);
  tell();
}

function tell() {
  for (const listener of listeners) listener();
}

function kept() {
  try {
    const choice = localStorage.getItem(KEY);
    return CHOICES.includes(choice) ? choice : "auto";
  } catch {
    return "auto"; // a browser that keeps nothing
  }
}

function keep() {
  try {
    localStorage.setItem(KEY, chosen);
  } catch {
    // it holds until the page is closed
  }
}
