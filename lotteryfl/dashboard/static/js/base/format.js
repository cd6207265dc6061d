/** Numbers, bytes and times as text: one way for all of the page. */

export const NONE = "–";

/** Return a number with so many digits behind the point, or a dash. */
export function number(value, digits = 0) {
  if (!Number.isFinite(value)) return NONE;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Return a number with three significant digits. */
export function short(value) {
  if (!Number.isFinite(value)) return NONE;
  if (value !== 0 && (Math.abs(value) < 0.0001 || Math.abs(value) >= 1e6)) return value.toExponential(2);
  return value.toLocaleString("en", { maximumSignificantDigits: 3 });
}

/** Return a share as per cent, with one digit behind the point. */
export function percent(value) {
  return value === null || value === undefined ? NONE : `${number(value * 100, 1)} %`;
}

/** Return the difference of two shares in percentage points, with its sign. */
export function points(value) {
  if (value === null || value === undefined) return NONE;
  const text = number(Math.abs(value * 100), 1);
  return `${text === "0.0" ? "" : value < 0 ? "−" : "+"}${text} pp`;
}

/** Return a share as per cent for an axis: no digit that says nothing. */
export function percentTick(value) {
  return `${(value * 100).toLocaleString("en", { maximumFractionDigits: 2 })} %`;
}

/** Return how scores are written, at an axis too, and differences of them: accuracies are shares, others nobody knows. */
export function scoreText({ own }) {
  return own ? { text: short, tick: short, difference: short } : { text: percent, tick: percentTick, difference: points };
}

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

/** Return bytes in units of 1,000, as everywhere in the project, with three digits. */
export function bytes(value) {
  return inUnits(value, { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
}

/** Return bytes for an axis: no digit that says nothing. */
export function bytesTick(value) {
  return inUnits(value, { maximumSignificantDigits: 3 });
}

function inUnits(value, digits) {
  if (!Number.isFinite(value)) return NONE;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? Math.round(value) : value.toLocaleString("en", digits)} ${UNITS[unit]}`;
}

/** Return seconds as a length of time: 40 ms, 0.4 s, 42 s, 3 min 20 s, 2 h 5 min, 3 d 4 h. */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return NONE;
  if (seconds <= 0) return "0 s";
  if (seconds < 0.0995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${number(seconds, 1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return pair(whole, 60, "min", "s");
  if (whole < 86400) return pair(Math.round(whole / 60), 60, "h", "min");
  return pair(Math.round(whole / 3600), 24, "d", "h");
}

function pair(value, size, large, small) {
  const left = value % size;
  return left ? `${Math.floor(value / size)} ${large} ${left} ${small}` : `${Math.floor(value / size)} ${large}`;
}

/** Return a time, in seconds since 1970, as of day in the reader's own zone, with the date where it is not today. */
export function clock(at) {
  if (at === null || at === undefined) return NONE;
  const time = new Date(at * 1000);
  const ofDay = time.toLocaleTimeString("en-GB");
  return time.toDateString() === new Date().toDateString() ? ofDay : `${time.toLocaleDateString("sv-SE")} ${ofDay}`;
}

/** Return "1 client" or "3 clients". */
export function counted(count, word) {
  return `${number(count)} ${word}${count === 1 ? "" : "s"}`;
}
