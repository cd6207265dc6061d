/** The links to the page's sections: which of them is read now. */

import { byId, setAttribute } from "./base/dom.js";

/** Show the links, and mark the one whose section is at the top of the window. */
export function markSections() {
  const nav = byId("sections");
  const links = [...nav.querySelectorAll("a")];
  const sections = links.map((link) => byId(link.hash.slice(1)));
  nav.hidden = false;
  let asked = false;
  const mark = () => {
    asked = false;
    const top = byId("main").offsetTop + 60;
    const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
    const tops = sections.map((section) => section.getBoundingClientRect().top);
    const lowest = Math.max(...tops.filter((one) => one < top));
    const current = atEnd ? sections.length - 1 : tops.indexOf(lowest); // of those beside each other the first
    links.forEach((link, place) => setAttribute(link, "aria-current", place === Math.max(current, 0) ? "true" : null));
  };
  addEventListener("scroll", () => {
    if (!asked) requestAnimationFrame(mark);
    asked = true;
  }, { passive: true });
  mark();
}
