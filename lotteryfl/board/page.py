"""The page of a board: all that it shows is in it; what others wrote is text in it, and never markup."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from urllib.parse import quote

from lotteryfl.board.cells import NONE, Column, columns
from lotteryfl.board.entries import Board, Entry, Race, Setting
from lotteryfl.board.figures import Figures, Judged, best_of, figures, judged_by, score_of, setting_figures, targets
from lotteryfl.board.front import Point
from lotteryfl.board.labels import distinctions, race_link, race_title, setting_label
from lotteryfl.board.picture import draw
from lotteryfl.common.text import printable
from lotteryfl.records.files import ENDING
from lotteryfl.records.marks import Way

STYLES = ("base.css", "tables.css")
"""Of the page of runs: this one looks like it."""
RECORDS = "records"
"""Folder of the records beside the page."""

_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; base-uri 'none'; form-action 'none'"
_ABOUT = (
    "Each row is an experiment over its seeds, mean ± standard deviation; open it for the single runs. Bytes are those "
    "that were sent. “Run again” is what somebody else's run of the same experiment has given with the same bits, "
    "“its run” what was held against the run's own directory."
)
_CAPTION = (
    "Each point is a setting: {} after the last round, mean and standard deviation over seeds, against all that was "
    "sent in the run. The line is what can be had for so many megabytes."
)
_SHORT = 10
"""Digits of a digest that are shown."""


def render(board: Board) -> str:
    """Return the page as HTML."""
    races = board.races
    settings = sum(len(race.settings) for race in races)
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer">',
            "<title>LotteryFL: the board</title>",
            *(f'<link rel="stylesheet" href="{name}">' for name in (*STYLES, "board.css")),
            '<script src="board.js" defer></script></head><body>',
            '<a class="skip" href="#main">Skip to the tables</a>',
            '<header><h1>The board</h1><button id="theme" type="button" hidden>Theme: auto</button></header>',
            f'<main id="main"><p class="about">{escape(_ABOUT)}</p>',
            *_controls(races, settings),
            *(line for place, race in enumerate(races, start=1) for line in _race(race, place)),
            *_left_out(board),
            "</main></body></html>\n",
        )
    )


def _controls(races: Sequence[Race], settings: int) -> Iterator[str]:
    options = (
        f'<option value="{escape(race_link(race, place))}">{escape(race_title(race))}</option>'
        for place, race in enumerate(races, start=1)
    )
    yield '<form class="controls" hidden>'
    yield '<label>Find <input id="find" type="search" placeholder="strategy, key, digest" autocomplete="off"></label>'
    yield f'<label>Protocol <select id="protocol"><option value="">All</option>{"".join(options)}</select></label>'
    yield '<label><input id="verified" type="checkbox"> verified only</label>'
    yield f'<output id="count" data-of="{settings}">{settings} settings</output></form>'


def _race(race: Race, place: int) -> Iterator[str]:
    link, wanted = race_link(race, place), targets(race)
    rows = [setting_figures(setting, race, wanted) for setting in race.settings]
    keys = [f"{link}-{number}" for number in range(1, len(rows) + 1)]
    shown = columns(race, wanted, rows)
    yield f'<section class="race" id="{escape(link)}"><h2>{escape(race_title(race))}</h2>'
    yield from _told_of(race)
    yield '<div class="pictures">'
    for by in _drawn(race):
        yield from _picture(race, by, keys, rows)
    yield "</div>"
    yield f'<div class="scroll" role="region" tabindex="0" aria-label="Results: {escape(race_title(race))}"><table>'
    yield from _head(shown)
    for setting, row, key, keys_of in zip(race.settings, rows, keys, distinctions(race), strict=True):
        yield from _setting(race, setting, row, key, keys_of, shown, wanted)
    yield "</table></div></section>"


def _told_of(race: Race) -> Iterator[str]:
    score = score_of(race)
    best = f"Best {judged_by(race)} {score.name} in any round: {best_of(race):{score.digits}}."
    if race.protocol is None:
        yield f'<p class="note">No protocol: experiments with the same data, dealt alike. {escape(best)}</p>'
        return
    yield f'<p class="note">{escape(race.protocol.source)}. {escape(best)}</p>'
    if race.protocol.published:
        said = (f"{each.strategy} {each.score:{score.digits}} ({each.where})" for each in race.protocol.published)
        yield f'<p class="note">Published: {escape("; ".join(said))}.</p>'
    if race.protocol.differs:
        points = "".join(f"<li>{escape(each)}</li>" for each in race.protocol.differs)
        yield f"<details><summary>What differs from the source</summary><ul>{points}</ul></details>"


def _drawn(race: Race) -> list[Judged]:
    """Return of which scores there is a picture: the race's, and the other of a client's own and the shared model."""
    by = judged_by(race)
    other: Judged = "personalised" if by != "personalised" else "shared"
    has_shared = all(setting.record.scores.shared is not None for setting in race.settings)
    return [by, other] if other != "shared" or has_shared else [by]


def _picture(race: Race, by: Judged, keys: Sequence[str], rows: Sequence[Figures]) -> Iterator[str]:
    points = []
    for setting, key, row in zip(race.settings, keys, rows, strict=True):
        score, megabytes = getattr(row, by), row.megabytes
        if score is not None and megabytes is not None and megabytes.mean > 0:
            points.append(Point(key, setting_label(setting), megabytes.mean, score.mean, score.std))
    if points:
        named = f"{by} {score_of(race).name}"
        yield f"<figure>{draw(points, score_of(race), named)}"
        yield f"<figcaption>{escape(_CAPTION.format(named))}</figcaption></figure>"


def _head(shown: Sequence[Column]) -> Iterator[str]:
    yield "<thead><tr>"
    heads = [("Strategy", "Opens its single runs", ""), *((column.label, column.title, "number") for column in shown)]
    heads += [
        ("Seeds", "How many", "number"),
        ("Digest", "Of the last model: model_sha256", ""),
        ("Verified", "How", ""),
    ]
    for label, title, kind in heads:
        of_kind = f' class="{kind}"' if kind else ""
        yield f'<th scope="col"{of_kind} title="{escape(title)}">{escape(label)}</th>'
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
    name = escape(setting.record.experiment.strategy.name)
    how = f'<span class="why">{escape(", ".join(distinct))}</span>' if distinct else ""
    verified = f' data-verified="{escape(setting.verified)}"' if setting.verified else ""
    digests = list(dict.fromkeys(entry.record.model_sha256 for entry in setting.counted))
    yield f'<tbody id="{escape(key)}"{verified}><tr class="setting">'
    yield f'<th scope="row" data-value="{name}">{name}{how}</th>'
    yield from (column.cell(row) for column in shown)
    yield f'<td class="number" data-value="{len(setting.counted)}">{len(setting.counted)}</td>'
    yield _digest(digests[0]) if len(digests) == 1 else f'<td class="code">{len(digests)} digests</td>'
    yield f"{_badge(setting.verified)}</tr>"
    for entry in setting.members:
        yield from _member(entry, figures([entry], race, wanted), shown)
    yield "</tbody>"


def _member(entry: Entry, row: Figures, shown: Sequence[Column]) -> Iterator[str]:
    address = quote(f"{RECORDS}/{entry.name}{ENDING}")
    said = escape(printable(entry.name))
    made = entry.record.made
    where = escape(printable(f"lotteryfl {made.lotteryfl}, torch {made.torch}, {made.machine} {made.cpu}"))
    yield f'<tr class="member" hidden><th scope="row">seed {entry.seed}: '
    yield f'<a href="{escape(address)}" title="{where}">{said}</a></th>'
    yield from (column.cell(row) for column in shown)
    yield f"<td></td>{_digest(entry.record.model_sha256)}{_badge(entry.verified)}</tr>"


def _digest(digest: str) -> str:
    return f'<td class="code" title="{digest}" data-value="{digest}">{digest[:_SHORT]}</td>'


def _badge(verified: Way | None) -> str:
    if verified is None:
        return f"<td>{NONE}</td>"
    kind = " good" if verified == "run again" else ""
    return f'<td data-value="{verified}"><span class="badge{kind}">{verified}</span></td>'


def _left_out(board: Board) -> Iterable[str]:
    if not board.left_out:
        return []
    said = "".join(f"<li>{escape(printable(name))}: {escape(printable(why))}</li>" for name, why in board.left_out)
    return [f'<section id="left-out"><h2>Left out</h2><ul class="bad">{said}</ul></section>']
