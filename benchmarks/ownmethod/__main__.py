"""The tuning behind docs/own-method.md, and the parts of `make experiments` that it leads to.

    python -m benchmarks.ownmethod [--data-dir DIR] [--jobs N]

Every strategy is tried with the same draws on one seed; what results/own-method/draws.jsonl has is not tried again.
Then it writes results/parts/own-*.toml: each strategy with its best draw, on three other seeds.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.experiments.parts import PARTS, ROOT
from benchmarks.ownmethod.search import OUTPUT_LAYER, STRATEGIES, Tried, as_overrides, best, read, search, settings

DRAWS = ROOT / "results" / "own-method" / "draws.jsonl"
ROUNDS, SEEDS, DENSITIES = 30, (0, 1, 2), (0.05, 0.1)
WITHOUT = {"without-prior": {"strategy.options.prior": 0.0}, "without-stages": {"strategy.options.first": 1.0}}
"""What balanced-ticket is run without, beside the run with all."""
_SECONDS = {"digits": 12, "fashion": 25, "textures": 20}
_TASK = {"textures": "benchmarks/ownmethod/textures.py"}


def main() -> None:
    """Tune, and write the parts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ownmethod", description=__doc__)
    parser.add_argument("--data-dir", default="", help="with Fashion-MNIST's files [default: the usual places]")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    options = parser.parse_args()
    search(DRAWS, options.data_dir, options.jobs)
    tried = read(DRAWS)
    for data in OUTPUT_LAYER:
        path_of(data).write_text(part_text(data, tried), "utf-8")


def path_of(data: str) -> Path:
    """Return where a data set's part lies."""
    return ROOT / PARTS / f"own-{data}.toml"


def part_text(data: str, tried: Sequence[Tried]) -> str:
    """Return the part of a data set, whose strategies have the best of what was tried."""
    labels = {name: name for name in STRATEGIES} | dict.fromkeys(WITHOUT, "balanced-ticket")
    said = [f"{label}:{one}" for label, name in labels.items() for one in _chosen(data, label, name, tried)]
    names = [label if label == name else f"{label}={name}" for label, name in labels.items()]
    head = {
        "about": f"our own method and its rivals, each tuned by the same draws, {data}, three seeds",
        "records": f"own-{data}",
        "experiment": f"benchmarks/ownmethod/{data}.toml",
        "seconds": _SECONDS[data],
        "seeds": list(SEEDS),
        "dense": ["fedavg"],
        **({"data": "fashion-mnist"} if data == "fashion" else {}),
        **({"task": _TASK[data]} if data in _TASK else {}),
    }
    lines = ["# Written by `python -m benchmarks.ownmethod`."]
    lines += [f"{key} = {json.dumps(value)}" for key, value in head.items()]
    lines += [f"strategies = {_column(names)}", f"settings = {_column(said)}", "", "[blocks]"]
    lines += [f'"dirichlet-0.3/density-{each}" = ["strategy.target_density={each}"]' for each in DENSITIES]
    return "\n".join(lines) + "\n"


def _chosen(data: str, label: str, name: str, tried: Sequence[Tried]) -> list[str]:
    return as_overrides(settings(data, name, best(tried, data, name), ROUNDS) | WITHOUT.get(label, {}))


def _column(values: Sequence[str]) -> str:
    return "[\n" + "".join(f"  {json.dumps(value)},\n" for value in values) + "]"


if __name__ == "__main__":
    main()
