"""The command that says whether strategies differ, by their records."""

import json
from pathlib import Path

import click

from lotteryfl.common.disk.atomicfile import write_text
from lotteryfl.common.disk.privatefiles import SHARED_FILE
from lotteryfl.common.errors import LotteryFLError

_BY = ("personalised", "downloaded", "worst_tenth", "shared", "on_global", "new_personalised")


@click.command()
@click.argument("records", metavar="RECORDS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--by", type=click.Choice(_BY), default=_BY[0], show_default=True, help="The score to rank by.")
@click.option(
    "--strategies",
    "labels",
    default="",
    metavar="LABEL,…",
    help="Over the settings that have all of them. [default: those that all settings have]",
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Most probability of telling strategies apart that are alike.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for rank.md, rank.json and rank.png.")
def rank(records: tuple[Path, ...], by: str, labels: str, alpha: float, out: Path | None) -> None:
    """Rank strategies over settings, and say whether they differ: each innermost folder of records is a setting."""
    from lotteryfl.ranking.blocks import BY, blocks_of
    from lotteryfl.ranking.ranked import ranked, text

    chosen = [label.strip() for label in labels.split(",") if label.strip()]
    found = ranked(blocks_of(records), BY[_BY.index(by)], chosen, alpha)
    click.echo(text(found, "simple"))
    if out is None:
        return
    from lotteryfl.ranking.diagram import draw

    try:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "rank.md", text(found, "github") + "\n", SHARED_FILE)
        write_text(out / "rank.json", json.dumps(found.as_json(), indent=2) + "\n", SHARED_FILE)
    except OSError as error:
        raise LotteryFLError(f"--out {out}: cannot be written: {error.strerror or error}") from error
    draw(found.ranking, by.replace("_", " "), out / "rank.png")
    click.echo(f"\n{out / 'rank.md'}, {out / 'rank.json'}, {out / 'rank.png'}")
