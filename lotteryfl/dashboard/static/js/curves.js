/** A run's curves: score, loss, density, megabytes and what else is measured, against rounds, time or bytes. */

import { AXES, Chart } from "./charts.js";
import { byId, el } from "./base/dom.js";
import { bytes, bytesTick, number, percent, percentTick, scoreText, short } from "./base/format.js";

const FIRST = "--line-1"; // downloaded
const SECOND = "--line-0"; // personalised
const THIRD = "--line-2";
const FOURTH = "--line-6";

export class Curves {
  constructor() {
    this.place = byId("charts");
    this.charts = new Map();
    this.axis = "round";
    axisChoice(byId("against"), (axis) => {
      this.axis = axis;
      this.show(this.run);
    });
  }

  /** Draw all that the run's series has. */
  show(run) {
    this.run = run;
    const { series, status } = run;
    const wanted = specs(series, status);
    for (const [key, chart] of this.charts) {
      if (wanted.some((spec) => spec.key === key)) continue;
      chart.node.remove();
      this.charts.delete(key);
    }
    for (const spec of wanted) {
      if (!this.charts.has(spec.key)) {
        this.charts.set(spec.key, new Chart(spec));
        this.place.append(this.charts.get(spec.key).node);
      }
      const { x, lines } = withShared(series, this.axis, spec.lines.filter(isKnown));
      this.charts.get(spec.key).draw(AXES[this.axis], x, lines);
    }
    byId("thinned").hidden = !series.thinned;
    byId("thinned").textContent = `${number(series.round.length)} of ${number(series.total)} rounds are drawn: the first, the last, the lowest and the highest of each stretch.`;
  }
}

/** Fill a group with the three things to draw against; `chosen` is called with the one that is. */
export function axisChoice(group, chosen) {
  const buttons = Object.entries(AXES).map(([key, axis]) =>
    el("button", { type: "button", "aria-pressed": String(key === "round"), onclick: () => press(key) }, axis.label),
  );
  const press = (key) => {
    Object.keys(AXES).forEach((one, place) => buttons[place].setAttribute("aria-pressed", one === key));
    chosen(key);
  };
  group.replaceChildren(...buttons);
}

function specs(series, status) {
  const score = status.score.own ? status.score.name : "accuracy";
  const [worst, best] = status.score.higher_is_better ? ["low", "high"] : ["high", "low"];
  const { privacy } = status;
  return [
    {
      key: "score", title: `Score: ${score}`, ...scoreText(status.score),
      lines: [
        { ...line("tenths", "worst–best tenth", SECOND), [worst]: series.worst_personalised, [best]: series.best_personalised },
        { ...line("tenths-downloaded", "the same, downloaded", FIRST), [worst]: series.worst_downloaded, [best]: series.best_downloaded, off: true },
        line("personalised", "personalised", SECOND, series.personalised),
        line("downloaded", "downloaded", FIRST, series.downloaded, "dashed"),
        ...(series.shared.round.length ? [{ ...line("shared", "shared model", FOURTH, null, "dotted"), shared: true }] : []),
      ],
    },
    {
      key: "loss", title: privacy?.withholds_loss ? "Loss (on training data: kept back for privacy)" : "Loss", text: short,
      lines: [
        line("loss_personalised", "personalised", SECOND, series.loss_personalised),
        line("loss_downloaded", "downloaded", FIRST, series.loss_downloaded, "dashed"),
        line("train_loss", "training", THIRD, series.train_loss, "dotted"),
      ],
    },
    {
      key: "density", title: "Density", text: percent, tick: percentTick, zero: true,
      lines: [line("density", "kept share of prunable weights", SECOND, series.density)],
    },
    {
      key: "bytes", title: "Megabytes a round", text: bytes, tick: bytesTick, zero: true,
      lines: [
        line("bytes_down", "down", SECOND, series.bytes_down),
        line("bytes_up", "up", FIRST, series.bytes_up, "dashed"),
        { ...line("sent", "in all (right axis)", FOURTH, series.sent, "dotted"), right: true },
      ],
    },
    ...Object.entries(series.values).map(([name, values]) => ({
      key: `value-${name}`, title: name, text: short,
      lines: [line("personalised", "personalised", SECOND, values.personalised), line("downloaded", "downloaded", FIRST, values.downloaded, "dashed")],
    })),
    ...(series.epsilon.some((value) => value !== null)
      ? [{ key: "epsilon", title: "Privacy spent: ε", text: short, zero: true, lines: [line("epsilon", "ε", THIRD, series.epsilon)] }]
      : []),
  ];
}

/** Tell whether there is anything to draw: what is kept back for privacy is not. */
function isKnown({ values, low, shared }) {
  return shared || (low ?? values).some((value) => value !== null);
}

function line(key, label, colour, values, dash) {
  return { key, label, colour, values, dash };
}

/** Return the x values and lines with the shared model's score where it was measured: before round 1, too, as round 0. */
function withShared(series, axis, lines) {
  if (!lines.some((one) => one.shared)) return { x: series[axis], lines };
  const scores = new Map(series.shared.round.map((round, place) => [round, series.shared.score[place]]));
  const before = scores.has(0) && series.round[0] !== 0 ? 1 : 0;
  const ahead = (values) => (before ? [null, ...values] : values);
  const x = before ? [0, ...series[axis]] : series[axis];
  const shared = [...(before ? [scores.get(0)] : []), ...series.round.map((round) => scores.get(round) ?? null)];
  return {
    x,
    lines: lines.map((one) => {
      if (one.shared) return { ...one, values: shared };
      return one.low ? { ...one, low: ahead(one.low), high: ahead(one.high) } : { ...one, values: ahead(one.values) };
    }),
  };
}
