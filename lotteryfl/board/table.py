"""The table of a race: a row for each setting, and behind it those of its single runs."""

from collections.abc import Iterator, Sequence
from html import escape
from urllib.parse import quote

from lotteryfl.board.cells import NONE, Column, columns
from lotteryfl.board.entries import Entry, Race, Setting
from lotteryfl.board.figures import Figures, figures, judged_by
from lotteryfl.board.labels import distinctions, race_title, strategy
from lotteryfl.common.text import printable
from lotteryfl.records.files import ENDING
from lotteryfl.records.marks import Way

RECORDS = "records"
"""Folder of the records beside the page."""
_SHORT = 10
"""Digits of a digest that are shown."""


def table(race: Race, rows: Sequence[Figures], keys: Sequence[str], wanted: Sequence[float]) -> Iterator[str]:
    """Yield the table of a race as HTML.

    Args:
        race: with its settings in order, the best first.
        rows: their figures.
        keys: by which pictures know them.
        wanted: the scores up to which bytes were counted.
    """
    shown = columns(race, wanted, rows)
    yield f'<div class="scroll" role="region" tabindex="0" aria-label="Results: {escape(race_title(race))}"><table>'
    yield from _head(shown, race)
    for setting, row, key, keys_of in zip(race.settings, rows, keys, distinctions(race), strict=True):
        yield from _setting(race, setting, row, key, keys_of, shown, wanted)
    yield "</table></div>"


def _head(shown: Sequence[Column], race: Race) -> Iterator[str]:
    best_first = "descending" if race.record.judged.higher_is_better else "ascending"
    yield "<thead><tr>"
    heads = [("Strategy", "Opens its single runs", ""), *((column.label, column.title, "number") for column in shown)]
    heads += [
        ("Seeds", "How many", "number"),
        ("Digest", "Of the last model: model_sha256", ""),
        ("Verified", "How", ""),
    ]
    for label, title, kind in heads:
        of_kind = f' class="{kind}"' if kind else ""
        order = f' aria-sort="{best_first}"' if label == judged_by(race).capitalize() else ""
        yield f'<th scope="col"{of_kind}{order} title="{escape(title)}">{escape(label)}</th>'
    yield "</tr></thead>"


def _setting(
    race: Race,
    setting: Setting,
    row: Figures,
    key: str,
    distinct: Sequence[str],
    shown: Sequence[Column],
    wanted: Sequence[float],
) -> Iterator[str]:
    name = escape(strategy(setting))
    how = f'<span class="why">{escape(", ".join(distinct))}</span>' if distinct else ""
    verified = f' data-verified="{escape(setting.verified)}"' if setting.verified else ""
    digests = list(dict.fromkeys(entry.record.model_sha256 for entry in setting.counted))
    yield f'<tbody id="{escape(key)}"{verified}><tr class="setting">'
    yield f'<th scope="row" data-value="{name}">{name}{how}</th>'
    yield from (column.cell(row) for column in shown)
    yield f'<td class="number" data-value="{len(setting.counted)}">{len(setting.counted)}</td>'
    yield _digest(digests[0]) if len(digests) == 1 else f'<td class="code">{len(digests)} digests</td>'
    yield f"{_badge_of_all(setting)}</tr>"
    for entry in setting.members:
        yield from _member(entry, figures([entry], race, wanted), shown)
    yield "</tbody>"


def _member(entry: Entry, row: Figures, shown: Sequence[Column]) -> Iterator[str]:
    address = quote(f"{RECORDS}/{entry.name}{ENDING}")
    said = escape(printable(entry.name.rpartition("/")[2]))  # where it lies, its address says
    made = entry.record.made
    where = escape(printable(f"lotteryfl {made.lotteryfl}, torch {made.torch}, {made.machine} {made.cpu}"))
    yield f'<tr class="member" hidden><th scope="row">seed {entry.seed}: '
    yield f'<a href="{escape(address)}" title="{where}">{said}</a></th>'
    yield from (column.cell(row) for column in shown)
    yield f"<td></td>{_digest(entry.record.model_sha256)}{_badge(entry.verified)}</tr>"


def _digest(digest: str) -> str:
    return f'<td class="code" title="{digest}" data-value="{digest}">{digest[:_SHORT]}</td>'


def _badge_of_all(setting: Setting) -> str:
    number = sum(entry.verified is not None for entry in setting.counted)
    if 0 < number < len(setting.counted):
        return f'<td><span class="badge">{number} of {len(setting.counted)}</span></td>'
    return _badge(setting.verified)


def _badge(verified: Way | None) -> str:
    if verified is None:
        return f"<td>{NONE}</td>"
    kind = " good" if verified == "run again" else ""
    return f'<td data-value="{verified}"><span class="badge{kind}">{verified}</span></td>'
