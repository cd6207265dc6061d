"use strict"; // a plain script: browsers load no modules from files

/** Sorting, filtering, opening: the page says all that it has to say without them. */

const KEY = "lotteryfl-theme"; // the same as the page of runs has
const THEMES = ["auto", "light", "dark"];
const bodies = [...document.querySelectorAll(".race tbody")];

startTheme(document.getElementById("theme"));
document.querySelectorAll(".race table").forEach(startSorting);
bodies.forEach(startOpening);
startPointing();
startFilters(document.querySelector(".controls"));

function button(text, className, onclick) {
  const node = document.createElement("button");
  node.type = "button";
  node.className = className;
  node.textContent = text;
  node.addEventListener("click", onclick);
  return node;
}

/** Let every head of a table sort its settings, each with its single runs. */
function startSorting(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => {
    const sort = button(head.textContent, "", () => {
      const first = head.classList.contains("number") ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const value = (body) => body.rows[0].cells[place].dataset.value;
      const sign = order === "ascending" ? 1 : -1;
      const sorted = [...table.tBodies].sort((one, other) => compared(value(one), value(other), sign));
      table.append(...sorted);
    });
    head.replaceChildren(sort);
  });
}

/** Compare so that what is not known comes last, whatever the order. */
function compared(one, other, sign) {
  if (one === undefined || other === undefined) return (one === undefined) - (other === undefined);
  const numbers = [Number(one), Number(other)];
  if (numbers.every(Number.isFinite)) return sign * (numbers[0] - numbers[1]);
  return sign * one.localeCompare(other, "en", { numeric: true });
}

/** Let the name of a setting show its single runs, and hide them. */
function startOpening(body) {
  const head = body.rows[0].cells[0];
  const name = head.firstChild;
  const members = [...body.rows].slice(1);
  const open = button(name.textContent, "opens", () => {
    const isOpen = open.getAttribute("aria-expanded") === "true";
    open.setAttribute("aria-expanded", String(!isOpen));
    members.forEach((row) => { row.hidden = isOpen; });
  });
  open.setAttribute("aria-expanded", "false");
  name.replaceWith(open);
}

/** Show which point is which row: under the pointer, and where the keys are. */
function startPointing() {
  const dots = [...document.querySelectorAll(".dot")];
  for (const body of bodies) {
    const its = dots.filter((dot) => dot.dataset.row === body.id);
    const mark = (is) => () => its.forEach((dot) => dot.classList.toggle("here", is));
    for (const event of ["mouseenter", "focusin"]) body.addEventListener(event, mark(true));
    for (const event of ["mouseleave", "focusout"]) body.addEventListener(event, mark(false));
    for (const dot of its) {
      dot.addEventListener("mouseenter", () => body.classList.add("here"));
      dot.addEventListener("mouseleave", () => body.classList.remove("here"));
      dot.addEventListener("click", () => body.querySelector("button").focus());
    }
  }
}

/** Show only what has the words, is of the protocol, and was verified, where that is asked for. */
function startFilters(form) {
  const [find, protocol, verified, count] = ["find", "protocol", "verified", "count"].map((id) => document.getElementById(id));
  const texts = new Map(bodies.map((body) => [body, body.textContent.toLowerCase() + digests(body)]));
  const apply = () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const body of bodies) {
      const race = body.closest(".race").id;
      const is = words.every((word) => texts.get(body).includes(word))
        && (!protocol.value || protocol.value === race) && (!verified.checked || "verified" in body.dataset);
      body.hidden = !is;
      shown += is;
    }
    for (const race of document.querySelectorAll(".race")) race.hidden = !race.querySelector("tbody:not([hidden])");
    for (const drawn of document.querySelectorAll("svg [data-row]")) drawn.toggleAttribute("hidden", document.getElementById(drawn.dataset.row).hidden);
    count.textContent = shown === bodies.length ? `${shown} settings` : `${shown} of ${bodies.length} settings`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
}

function digests(body) {
  return [...body.querySelectorAll("td.code")].map((cell) => cell.title).join(" ");
}

/** Light or dark: as the system has it, until the reader chooses; the choice is kept in the browser. */
function startTheme(node) {
  let chosen = "auto";
  const apply = (choice) => {
    chosen = choice;
    if (choice === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = choice;
    node.textContent = `Theme: ${choice}`;
  };
  node.addEventListener("click", () => {
    apply(THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length]);
    try { localStorage.setItem(KEY, chosen); } catch { /* it holds until the page is closed */ }
  });
  let kept = "auto";
  try { kept = localStorage.getItem(KEY); } catch { /* a browser that keeps nothing */ }
  apply(THEMES.includes(kept) ? kept : "auto");
  node.hidden = false;
}
