"""How a run's result stands beside what is published of its protocol, and what is expected."""

from collections.abc import Mapping
from typing import Any

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.protocols.belonging import belongs
from lotteryfl.protocols.described import Protocol, ScoreName

_WORDS: Mapping[ScoreName, str] = {
    "downloaded": "the shared model on clients' own test data",
    "personalised": "personalised models on clients' own test data",
    "global": "personalised models on the global test data",
    "shared": "the shared model on the global test data",
}


def measured(summary: Mapping[str, Any], score: ScoreName) -> float | None:
    """Return a score out of a summary.json; None: it was not measured.

    Args:
        summary: see `server.results.summary.Summary`.
        score: which.
    """
    found = summary["accuracy"] if "accuracy" in summary else summary["score"]
    if score == "shared":
        curve = summary.get("global_curve", [])
        return curve[-1].get(found.get("name", "accuracy")) if curve else None
    value: float | None = found[f"{score}_last"]
    return value


def standing(protocol: Protocol, experiment: Experiment, summary: Mapping[str, Any]) -> str:
    """Return lines that say where a finished run stands, or why it cannot be compared.

    Args:
        protocol: whose experiment was run, with choices of a contender's.
        experiment: what was run.
        summary: its summary.json.
    """
    value = measured(summary, protocol.score)
    said = "was not measured" if value is None else f"{value:.4f}"
    lines = [f"{protocol.name}: {said}, {_WORDS[protocol.score]}, {experiment.strategy.name}, seed {experiment.seed}"]
    if not belongs(experiment, protocol):
        rounds = f"{experiment.rounds} rounds of the protocol's {protocol.experiment.rounds}"
        return "\n".join([*lines, f"  cannot be compared: {rounds}"])
    lines += [f"  published: {each.score:.4f}, {each.strategy}: {each.where}" for each in protocol.published]
    if value is not None and protocol.expected and experiment.strategy == protocol.experiment.strategy:
        low, high = protocol.expected.low, protocol.expected.high
        verdict = "within" if low <= value <= high else "below" if value < low else "above"
        lines.append(f"  expected: {low:.4f} to {high:.4f} ({protocol.expected.why}): {verdict}")
    return "\n".join(lines)
