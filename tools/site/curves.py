"""Small pictures of a strategy's runs, out of the records in results/records: score against megabytes sent."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.site.repository import ROOT

RECORDS = ROOT / "results" / "records"
"""LABEL-seedN.json in folders, one for each setting, as `make experiments` writes them."""

_WIDTH, _HEIGHT, _EDGE = 360, 150, 28
_CURVES = {"personalised": "", "downloaded": ' stroke-dasharray="4 3"'}
_MEGA = 1e6


def curves(strategy: str, records: Path = RECORDS) -> Iterator[str]:
    """Give a picture for each setting that a strategy has records in, as HTML.

    Args:
        strategy: its name in the records' experiments.
        records: where they are; where there are none, there is no picture.
    """
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for file in sorted(records.rglob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        if record.get("experiment", {}).get("strategy", {}).get("name", "lotteryfl") == strategy:
            setting = file.parent.relative_to(records).as_posix()
            found[setting, file.stem.rpartition("-seed")[0]].append(record["rounds"])
    for (setting, label), runs in found.items():
        seeds = "1 seed" if len(runs) == 1 else f"{len(runs)} seeds"
        caption = f"{setting}, {label}, {seeds}: score after local training, and as downloaded (dashed)"
        yield f"<figure>{_picture(runs)}<figcaption>{caption}</figcaption></figure>\n"


def _picture(runs: list[dict[str, Any]]) -> str:
    most = max(run["sent"][-1] for run in runs)
    scores = [score for run in runs for curve in _CURVES for score in run[curve]]
    low, high = min(scores), max(scores)

    def place(sent: float, score: float) -> str:
        across = _EDGE + (_WIDTH - 2 * _EDGE) * sent / (most or 1)
        return f"{across:.1f},{_HEIGHT - _EDGE - (_HEIGHT - 2 * _EDGE) * (score - low) / ((high - low) or 1):.1f}"

    lines = "".join(
        f'<polyline fill="none" stroke="currentColor"{dashes} points="'
        + " ".join(place(sent, score) for sent, score in zip(run["sent"], run[curve], strict=True))
        + '"/>'
        for run in runs
        for curve, dashes in _CURVES.items()
    )
    bottom = _HEIGHT - _EDGE
    texts = (
        f'<text x="{_EDGE}" y="{_EDGE - 6}">{high:.3g}</text><text x="{_EDGE}" y="{bottom + 18}">{low:.3g}</text>'
        f'<text x="{_WIDTH - _EDGE}" y="{bottom + 18}" text-anchor="end">{most / _MEGA:,.1f} MB</text>'
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" font-size="11" fill="currentColor">'
        f"{lines}{texts}</svg>"
    )
