"""Parts: which experiments a table of docs/experiments.md is of, as results/parts/*.toml say it."""

import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.experiment import Experiment, load
from lotteryfl.common.section import Section
from lotteryfl.comparing.cells import Cell, plan_cells
from lotteryfl.records import read_records
from lotteryfl.records.placeless import told

ROOT = Path(__file__).parents[2]
"""Of the repository; `results/` and `runs/` lie in it, and experiment files are told from it."""
PARTS = Path("results", "parts")
RECORDS = Path("results", "records")
_RUNS = Path("runs", "experiments")


class Part(Section):
    """What a file of results/parts says."""

    about: str
    """One line for people."""
    records: str
    """The folder of results/records that its records go to, in which parts of one data set meet."""
    experiment: str
    """Its file, from the root of the repository."""
    strategies: tuple[str, ...]
    """NAME, or LABEL=NAME, as `lotteryfl compare` takes them."""
    seeds: tuple[int, ...] = (0,)
    settings: tuple[str, ...] = ()
    """KEY=VALUE, or LABEL:KEY=VALUE."""
    dense: tuple[str, ...] = ()
    """Labels to which a density is nothing. Their records lie in the folder above those of the densities."""
    blocks: dict[str, tuple[str, ...]]
    """Further settings of each, by its folder: a partition, and below it a density."""
    seconds: float
    """Of one run on one core, about."""
    data: str = ""
    """Whose files the option --data-dir names; "": it needs none."""
    task: str = ""
    """A file of the user's own that it needs."""

    def with_seeds(self, seeds: Sequence[int] | None) -> "Part":
        """Return the part with those of its seeds that are wanted; None: all."""
        kept = tuple(seed for seed in self.seeds if seeds is None or seed in seeds)
        return self.model_copy(update={"seeds": kept})


class Planned(Section):
    """A run of a part."""

    folder: str
    """Where its record goes, below those of its part."""
    cell: Cell
    key: str
    """What its experiment is, without places: runs of one key are one run."""

    model_config = Section.model_config | {"arbitrary_types_allowed": True}


def part_names(root: Path = ROOT) -> list[str]:
    """Return the names of all parts."""
    return sorted(path.stem for path in (root / PARTS).glob("*.toml"))


def read_part(name: str, root: Path = ROOT) -> Part:
    """Read a part's file.

    Raises:
        LotteryFLError: there is none of that name, or it is wrong.
    """
    if name not in part_names(root):
        raise LotteryFLError(f"{name}: there is no such part: expected one of {', '.join(part_names(root))}")
    path = root / PARTS / f"{name}.toml"
    try:
        return Part.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise LotteryFLError(f"{path}: {error}") from error


def planned(name: str, part: Part, data_dir: str = "", root: Path = ROOT) -> list[Planned]:
    """Return all runs of a part, seed by seed, so that a sitting that ends early has whole blocks of the first.

    Args:
        name: the part's.
        part: what its file says.
        data_dir: where its data are; "": in the usual places.
        root: of the repository.
    """
    place = (f"task.data_dir={data_dir}",) if data_dir and part.data else ()
    dense = tuple(f"{label}:strategy.target_density=1.0" for label in part.dense)
    runs = []
    for seed in part.seeds:
        for block, settings in part.blocks.items():
            overrides = (*part.settings, *settings, *place, *dense)
            strategies, out = ",".join(part.strategies), root / _RUNS / name / block
            for cell in plan_cells(root / part.experiment, strategies, str(seed), overrides, out):
                folder = str(Path(block).parent) if cell.label in part.dense else block
                runs.append(Planned(folder=folder, cell=cell, key=key_of(load(cell.source, cell.overrides))))
    return runs


def key_of(experiment: Experiment) -> str:
    """Return what tells an experiment from others, without places."""
    return told(experiment).experiment.model_dump_json()


def done_keys(root: Path) -> set[str]:
    """Return which experiments have records."""
    records = root / RECORDS
    return {key_of(record.experiment) for record in read_records([records] if records.exists() else []).values()}


def once(runs: Iterable[Planned], done: Iterable[str]) -> Iterator[Planned]:
    """Yield the runs whose experiment is not done yet, each experiment once."""
    seen = set(done)
    for run in runs:
        if run.key not in seen:
            seen.add(run.key)
            yield run
