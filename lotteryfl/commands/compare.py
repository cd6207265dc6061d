"""The command that runs an experiment with several strategies and seeds, and puts them side by side."""

import asyncio
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from lotteryfl.commands.options.outcome import note
from lotteryfl.commands.options.places import profile_option, with_option
from lotteryfl.commands.options.runs import device_option, local_option, set_option, strategy_option, task_option
from lotteryfl.common.disk.atomicfile import write_text
from lotteryfl.common.disk.privatefiles import SHARED_FILE
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.telemetry.logs import say
from lotteryfl.comparing.cells import Cell, plan_cells
from lotteryfl.comparing.processes import run_cells
from lotteryfl.launching.folder import LaunchFolder
from lotteryfl.launching.launcher import Request
from lotteryfl.launching.settings import launch_settings
from lotteryfl.ranking.groups import apart_from_first, differences_table
from lotteryfl.ranking.paired import Difference
from lotteryfl.running.owncode import OwnCode
from lotteryfl.server.results.reporting.data import read_run
from lotteryfl.server.results.reporting.figures import Figures, Targets, figures, table, target_accuracies, values_table
from lotteryfl.server.results.reporting.groups import Group
from lotteryfl.signals import run_until_signal

if TYPE_CHECKING:
    from lotteryfl.launching.slurm.sweep import Sweep


@click.command()
@click.argument("source", metavar="EXPERIMENT.toml", type=click.Path(path_type=Path))
@click.option(
    "--strategies",
    "labels",
    required=True,
    metavar="NAME,…",
    help="What to compare; LABEL=NAME where one comes twice.",
)
@click.option("--seeds", default="0", show_default=True, metavar="N,…", help="Each strategy is run with each seed.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the run directories and tables.")
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Local processes of a run.")
@click.option("--simulate", is_flag=True, help="Each run in one process, every client as if on its own machine.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Runs at once.")
@set_option("[LABEL:]KEY=VALUE", "Override the experiment, for all or for one, as lotteryfl:strategy.prune_rate=0.1.")
@task_option
@strategy_option(passed_on=True)
@local_option
@device_option
@click.option(
    "--launch",
    "place",
    type=click.Choice(["slurm"]),
    help="Have the runs there, as the jobs of an array; see `launch`.",
)
@profile_option
@with_option
@click.option("--dry-run", is_flag=True, help="With --launch: print what would be submitted, and do nothing.")
@click.pass_context
def compare(
    context: click.Context,
    source: Path,
    labels: str,
    seeds: str,
    out: Path,
    workers: int,
    simulate: bool,
    jobs: int,
    overrides: tuple[str, ...],
    tasks: tuple[str, ...],
    strategies: tuple[str, ...],
    local: tuple[str, ...],
    device: str,
    place: str | None,
    profile: str,
    given: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Compare strategies over seeds; what has finished is kept, what was interrupted goes on."""
    if place is None and (profile or given or dry_run):
        raise click.UsageError("--profile, --with and --dry-run: expected them with --launch")
    cells = plan_cells(source, labels, seeds, overrides, out)
    kind = ("simulate",) if simulate else ("run", f"--workers={workers}")
    own = OwnCode(tasks, strategies, local=local)
    verb = (*kind, f"--device={device}", *own.options)
    sweep = None
    if place:
        settings = launch_settings(source, profile, given)
        request = Request(source.absolute(), out.absolute(), overrides, own, settings, LaunchFolder(out))
        is_given = context.get_parameter_source("jobs") is ParameterSource.COMMANDLINE
        sweep = _sweep(request, verb, jobs if is_given else 0)
    under_way = sweep.under_way() if sweep else ()
    left = [cell for cell in cells if cell.path.name in under_way or not cell.is_finished()]
    if sweep and dry_run:
        click.echo(sweep.script(left).rstrip() if left else "")
        return
    say(f"{len(cells)} runs, {len(cells) - len(left)} of them finished")
    try:
        out.mkdir(parents=True, exist_ok=True)
        failed = run_until_signal(sweep.run(left) if sweep else run_cells(left, jobs, verb, note))
    except OSError as error:
        raise LotteryFLError(f"--out {out}: cannot be written: {error.strerror or error}") from error
    except (asyncio.CancelledError, KeyboardInterrupt) as error:
        ends = "not followed any more, and goes on. Follow" if sweep else "stopped; what was counted is kept. Go on"
        say(f"{ends} with: {shlex.join(['lotteryfl', *sys.argv[1:]])}")
        raise click.Abort from error
    done = [cell for cell in cells if cell not in failed]
    if done:
        click.echo(_conclude(done, out))
    if failed:
        reasons = "; ".join(f"{cell.path.name}: {reason}" for cell, reason in failed.items())
        raise LotteryFLError(f"{len(failed)} of {len(cells)} runs failed: {reasons}")


def _sweep(request: Request, verb: Sequence[str], at_once: int) -> "Sweep":
    from lotteryfl.launching.slurm.sweep import Sweep  # not to be had on Windows

    sweep = Sweep(request, verb, at_once, note)
    sweep.check()
    return sweep


def _conclude(cells: Sequence[Cell], out: Path) -> str:
    """Write compare.md and compare.json; return the table to print."""
    by_label: dict[str, list[Cell]] = {}
    for cell in cells:
        by_label.setdefault(cell.label, []).append(cell)
    groups = [Group(label, tuple(read_run(cell.path) for cell in its)) for label, its in by_label.items()]
    targets = target_accuracies(groups)
    rows = [figures(group, targets) for group in groups]
    apart = apart_from_first(groups)
    write_text(out / "compare.json", json.dumps(_as_json(rows, targets, apart), indent=2) + "\n", SHARED_FILE)
    write_text(out / "compare.md", _tables(rows, targets, apart, "github") + "\n", SHARED_FILE)
    return f"{_tables(rows, targets, apart, 'simple')}\n\n{out / 'compare.md'}, {out / 'compare.json'}"


def _as_json(rows: Sequence[Figures], targets: Targets, apart: Mapping[str, Difference]) -> dict[str, object]:
    score, strategies = rows[0].score, [row.as_json() for row in rows]
    for strategy, row in zip(strategies, rows, strict=True):
        if row.label in apart:
            strategy[f"personalised_less_{rows[0].label}"] = apart[row.label].as_json()
    if not score.own:
        return {"target_accuracies": targets._asdict(), "strategies": strategies}
    judged = {"name": score.name, "higher_is_better": score.higher_is_better}
    return {"score": judged, "target_scores": targets._asdict(), "strategies": strategies}


def _tables(rows: Sequence[Figures], targets: Targets, apart: Mapping[str, Difference], style: str) -> str:
    parts = (table(rows, targets, style), values_table(rows, style), differences_table(apart, rows[0].label, style))
    return "\n\n".join(filter(None, parts))
