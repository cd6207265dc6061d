/** A table that is sorted by the buttons in its head. Rows are kept and changed in place: focus and selection stay. */

import { el, setAttribute, setText } from "./dom.js";
import { NONE } from "./format.js";

export class Table {
  /**
   * @param caption what it is, for those who do not see where it stands
   * @param columns {key, label, text(row) → string, value(row) → to sort by, number, fill(cell, row), kind, title}; the first heads its row
   * @param id row → what it is known by
   * @param sort {key, order}: how it begins
   * @param sorted called with (key, order) where another sorts; else rows are sorted here
   */
  constructor({ caption, columns, id, sort, sorted = null, empty = "None." }) {
    this.columns = columns;
    this.id = id;
    this.sort = { ...sort };
    this.sorted = sorted;
    this.rows = [];
    this.lines = new Map();
    this.heads = columns.map((column) => this.#head(column));
    this.body = el("tbody");
    this.none = el("p", { class: "empty", hidden: true }, empty);
    this.node = framed(caption, this.heads, this.body, this.none);
    this.#showOrder();
  }

  /** Show these rows and no others. */
  show(rows) {
    this.rows = rows;
    const ordered = this.sorted ? rows : this.#ordered(rows);
    const known = new Set(ordered.map(this.id));
    for (const [key, line] of this.lines) {
      if (known.has(key)) continue;
      line.remove();
      this.lines.delete(key);
    }
    ordered.forEach((row, index) => this.#place(row, index));
    this.none.hidden = ordered.length > 0;
  }

  #place(row, index) {
    const key = this.id(row);
    let line = this.lines.get(key);
    if (!line) {
      line = el("tr", {}, this.columns.map(cell));
      this.lines.set(key, line);
    }
    this.columns.forEach((column, place) => fill(line.children[place], column, row));
    if (this.body.children[index] === line) return;
    const focused = line.contains(document.activeElement) ? document.activeElement : null;
    this.body.insertBefore(line, this.body.children[index] ?? null);
    focused?.focus({ preventScroll: true });
  }

  #head(column) {
    const head = el("th", { scope: "col", class: column.number ? "number" : null, title: column.title });
    if (column.sortable === false) head.append(column.label);
    else head.append(el("button", { type: "button", onclick: () => this.#sortBy(column) }, column.label));
    return head;
  }

  #sortBy(column) {
    const again = this.sort.key === column.key;
    const first = column.number && column.key !== this.columns[0].key ? "desc" : "asc";
    this.sort = { key: column.key, order: again ? (this.sort.order === "asc" ? "desc" : "asc") : first };
    this.#showOrder();
    if (this.sorted) this.sorted(this.sort.key, this.sort.order);
    else this.show(this.rows);
  }

  #showOrder() {
    this.columns.forEach((column, place) => {
      const order = this.sort.order === "asc" ? "ascending" : "descending";
      setAttribute(this.heads[place], "aria-sort", column.key === this.sort.key ? order : null);
    });
  }

  #ordered(rows) {
    const column = this.columns.find(({ key }) => key === this.sort.key);
    if (!column) return rows;
    const sign = this.sort.order === "asc" ? 1 : -1;
    const value = column.value ?? ((row) => row[column.key]);
    return rows.toSorted((one, other) => compared(value(one), value(other), sign));
  }
}

/** Compare so that what is not known comes last, whatever the order, and worker-10 after worker-9. */
function compared(one, other, sign) {
  const missing = (value) => value === null || value === undefined || value === "";
  if (missing(one) || missing(other)) return missing(one) - missing(other);
  if (typeof one === "number" && typeof other === "number") return sign * (one - other);
  return sign * String(one).localeCompare(String(other), "en", { numeric: true });
}

function cell(column, place) {
  const className = [column.number ? "number" : "", column.kind ?? ""].join(" ").trim() || null;
  return place === 0 ? el("th", { scope: "row", class: className }) : el("td", { class: className });
}

function fill(node, column, row) {
  if (column.fill) column.fill(node, row);
  else setText(node, column.text ? column.text(row) : String(row[column.key] ?? NONE));
}

/**
 * Return a table that stands as it is: what a picture shows, for those who do not see it.
 *
 * @param heads {label, number} of the columns
 * @param rows lists of texts
 */
export function plainTable(caption, heads, rows) {
  const kind = (place) => (heads[place].number ? "number" : null);
  return framed(
    caption,
    heads.map((head, place) => el("th", { scope: "col", class: kind(place) }, head.label)),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((text, place) => el("td", { class: kind(place) }, text))))),
  );
}

/** Return a table that scrolls in its own frame, by keys too, and what stands below it there. */
export function framed(caption, heads, body, below = null) {
  return el(
    "div", { class: "scroll tall", role: "region", tabindex: 0, "aria-label": caption },
    el("table", {}, el("caption", { class: "apart" }, caption), el("thead", {}, el("tr", {}, heads)), body), below,
  );
}

/** Return a table behind a picture: made when it is opened, and again with `renew()` while it is. */
export function twin(summary, make) {
  const node = el("details", {}, el("summary", {}, summary));
  const renew = () => {
    if (!node.open) return;
    const table = make();
    if (node.children[1]) node.children[1].replaceWith(table);
    else node.append(table);
  };
  node.addEventListener("toggle", renew);
  return { node, renew };
}
