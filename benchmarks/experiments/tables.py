"""`make experiments-tables`: the tables of docs/ that are made of results/records, between marks on their pages.

Marks are comments: `<!-- records: fashion/dirichlet-0.3/density-0.1 -->` for the table of a block, `<!-- rank:
personalised of fashion digits: fedavg ssfl -->` for strategies ranked over blocks, with a picture, `<!-- fronts:
fashion digits: fedavg ssfl -->` for who is best for how many bytes, `<!-- progress -->` for how far parts are.
Each ends with `<!-- end -->`.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

from tabulate import tabulate

from benchmarks.experiments.parts import RECORDS as IN_ROOT
from benchmarks.experiments.parts import ROOT, done_keys, once, part_names, planned, read_part
from lotteryfl.board.front import front, point_of
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.ranking.blocks import BY, Block, By, blocks_of
from lotteryfl.ranking.diagram import draw
from lotteryfl.ranking.paired import difference_of_clients
from lotteryfl.ranking.ranked import Ranked, ranked, text
from lotteryfl.records.cost import SHARES, Judged, megabytes_to
from lotteryfl.records.record import Record
from lotteryfl.server.results.spread import spread

RECORDS = ROOT / IN_ROOT
PAGES = (ROOT / "docs" / "experiments.md", ROOT / "docs" / "own-method.md")
PICTURES = ROOT / "docs" / "images"

_MARK = re.compile(r"(<!-- (records|rank|fronts|progress)(?:: (.+?))? -->\n).*?(<!-- end -->\n)", re.DOTALL)
_BESIDE = "fedavg"
"""The strategy that all are held against, client by client."""

_HEADERS = [
    "",
    "seeds",
    "personalised",
    f"less {_BESIDE}'s",
    "worst 10 %",
    "downloaded",
    "on all classes",
    "shared",
    "new clients",
    "density",
]


def main() -> None:
    """Write the pages anew, and their pictures."""
    pages = {path: path.read_text("utf-8") for path in PAGES}
    for path, page in pages.items():
        path.write_text(filled(page), "utf-8")
    for kind, said in re.findall(r"<!-- (rank): (.+?) -->", "".join(pages.values())):
        if found := ranks_of(said):
            draw(found.ranking, f"mean rank, {_words(found.by)}", PICTURES / _picture(said))
        else:
            print(f"{kind} {said}: no picture yet")


def filled(page: str) -> str:
    """Return a page with everything between its marks written anew."""
    writers: dict[str, Callable[[str], str]] = {
        "records": block_table,
        "rank": rank_text,
        "fronts": fronts,
        "progress": lambda _: progress(),
    }
    return _MARK.sub(lambda found: f"{found[1]}\n{_narrow(writers[found[2]](found[3]))}\n\n{found[4]}", page)


def _narrow(written: str) -> str:
    """Return text whose tables have no cells filled up with spaces: what changes in one row changes one line."""
    lines = (
        re.sub(r"-{3,}", "---", re.sub(r" {2,}", " ", line)) if line[:1] == "|" else line
        for line in written.split("\n")
    )
    return "\n".join(lines)


def block_table(name: str) -> str:
    """Return the table of a block of records, and how its runs are had again."""
    folder = RECORDS / name
    if not folder.exists():
        return f"Not run yet: `{_commands(name)}`."
    blocks = [block for block in _blocks([RECORDS / name.partition("/")[0]]) if block.name == name]
    if not blocks:
        raise LotteryFLError(f"{RECORDS}: {name}: no innermost folder of records")
    return _table(blocks[0])


def _table(block: Block) -> str:
    of = {label: [seeds[seed] for seed in sorted(seeds)] for label, seeds in block.runs.items()}
    best = max(spread([run.scores.personalised for run in runs]).mean for runs in of.values())
    shared = [[value for run in runs if (value := run.scores.shared_best) is not None] for runs in of.values()]
    best_shared = max((spread(values).mean for values in shared if values), default=0.0)
    rows = sorted(of.items(), key=lambda item: -spread([run.scores.personalised for run in item[1]]).mean)
    cells = [
        [
            label,
            str(len(runs)),
            _over(runs, "personalised"),
            _less(block, label),
            *(_over(runs, name) for name in ("worst_tenth", "downloaded", "on_global", "shared")),
            _over(runs, "new_personalised"),
            f"{spread([run.density for run in runs]).mean:.2f}",
            *(_cost(runs, "personalised", share * best) for share in SHARES),
            *(_cost(runs, "shared", share * best_shared) for share in SHARES if best_shared),
            f"{spread([run.megabytes for run in runs]).mean:,.1f}",
            f"{spread([run.seconds for run in runs]).mean:,.0f}",
        ]
        for label, runs in rows
    ]
    headers = [*_HEADERS, f"MB to {SHARES[0] * best:.3f} personalised", f"to {SHARES[1] * best:.3f}"]
    if best_shared:
        headers += [f"MB to {SHARES[0] * best_shared:.3f} shared", f"to {SHARES[1] * best_shared:.3f}"]
    headers += ["MB in all", "seconds"]
    alignment = ("left", *["right"] * (len(headers) - 1))
    table = tabulate(cells, headers, tablefmt="github", colalign=alignment, disable_numparse=True)
    return f"{_caption(block, [run for runs in of.values() for run in runs])}\n\n{table}"


def _less(block: Block, label: str) -> str:
    """Return what a strategy's personalised scores are, less FedAvg's, over clients and the seeds that both have."""
    if label == _BESIDE or _BESIDE not in block.runs or not (seeds := block.seeds([label, _BESIDE])):
        return ""
    found = difference_of_clients(block.of_clients(label, seeds), block.of_clients(_BESIDE, seeds))
    return "" if found is None else str(found)


def _caption(block: Block, runs: Sequence[Record]) -> str:
    experiments = [run.experiment for run in runs]
    rounds = sorted({each.rounds for each in experiments})
    first = experiments[0]
    attend = first.clients - first.evaluation.new_clients
    model = "the task's own model" if runs[0].task_sha256 else f"`{first.task.model}`"
    return (
        f"Run here: {' and '.join(map(str, rounds))} rounds of {first.clients_per_round} of {attend} clients, "
        f"{model} of {runs[0].parameters:,} parameters, {first.training.epochs} local epochs. `{_commands(block.name)}`"
    )


def _commands(name: str) -> str:
    """Return the command that has a block's runs again: of all parts that have some of them."""
    root, _, block = name.partition("/")
    parts = [part for part in part_names() if read_part(part).records == root and block in read_part(part).blocks]
    return f"make experiments PART={parts[0]}" if len(parts) == 1 else f"make experiments PART='{' '.join(parts)}'"


def _cost(runs: Sequence[Record], by: Judged, target: float) -> str:
    values = [megabytes_to(run, by, target) for run in runs]
    known = [value for value in values if value is not None]
    return f"{spread(known).mean:,.1f}" if len(known) == len(values) else "–"


def _over(runs: Sequence[Record], name: str) -> str:
    values = [value for run in runs if (value := getattr(run.scores, name)) is not None]
    if len(values) < len(runs):
        return "–"
    found = spread(values)
    return f"{found.mean:.3f} ± {found.std:.3f}" if len(values) > 1 else f"{found.mean:.3f}"


def ranks_of(said: str) -> Ranked | None:
    """Return strategies ranked as a mark says it, `BY of DATA…: LABEL…`; None: some of it has not been run yet."""
    by, roots, labels = _ranked(said)
    try:
        return ranked(_blocks(roots), by, labels)
    except LotteryFLError:
        return None


def _blocks(roots: Iterable[Path]) -> list[Block]:
    return [block for root in roots for block in _blocks_in(root)]


@cache
def _blocks_in(root: Path) -> list[Block]:
    """Return the blocks of a data set, whose records many tables are of."""
    return blocks_of([root])


def rank_text(said: str) -> str:
    """Return what ranks over blocks say, with a picture."""
    by, roots, labels = _ranked(said)
    places = " ".join(root.relative_to(ROOT).as_posix() for root in roots)
    command = f"`lotteryfl rank --by {by} --strategies {','.join(labels)} {places}`"
    found = ranks_of(said)
    if found is None:
        return f"Not run yet. {command}"
    image = f"![Mean ranks on a line; bars join strategies that do not differ](images/{_picture(said)})"
    return f"{command}\n\n{image}\n\n{text(found, 'github', differences=by == 'personalised')}"


def fronts(said: str) -> str:
    """Return which strategies are on each setting's fronts, of `DATA…: LABEL…`, by two scores."""
    roots, labels = _places(said)
    by: tuple[By, ...] = ("personalised", "shared")
    rows = [[block.name, *(_front(block, labels, each) for each in by)] for block in _blocks(roots)]
    return tabulate(rows, ["", *by], tablefmt="github", disable_numparse=True) if rows else "Not run yet."


def _front(block: Block, labels: Sequence[str], by: By) -> str:
    points = (point_of(label, runs, by) for label, runs in block.alike(labels).items())
    best = front([point for point in points if point], block.score)
    return ", ".join(f"`{each.label}` {each.score:.3f} for {each.megabytes:,.1f} MB" for each in best)


def _ranked(said: str) -> tuple[By, list[Path], list[str]]:
    by, _, rest = said.partition(" of ")
    return BY[[*BY].index(by)], *_places(rest)  # type: ignore[arg-type]


def _places(said: str) -> tuple[list[Path], list[str]]:
    names, _, labels = said.partition(": ")
    return [root for name in names.split() if (root := RECORDS / name).exists()], labels.split()


def _picture(said: str) -> str:
    ranked_by, _, data = said.partition(":")[0].partition(" of ")
    return f"rank-{ranked_by}-{data.replace(' ', '-')}.png"


def _words(by: By) -> str:
    return by.replace("_", " ")


def progress() -> str:
    """Return how far the parts are, a row for each."""
    done, rows = done_keys(ROOT), []
    for name in part_names():
        part = read_part(name)
        runs = planned(name, part)
        whole, left = len(list(once(runs, ()))), len(list(once(runs, done)))
        rows.append([f"`{name}`", part.about, f"{whole - left} of {whole}", f"{part.seconds:g}"])
    return tabulate(rows, ["part", "", "runs done", "seconds a run"], tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    main()
