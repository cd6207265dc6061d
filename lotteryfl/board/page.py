"""The page of a board: all that it shows is in it; what others wrote is text in it, and never markup."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from lotteryfl.board.entries import Board, Race
from lotteryfl.board.figures import Figures, best_of, judged_by, ranked, score_of, setting_figures, targets
from lotteryfl.board.front import Point
from lotteryfl.board.labels import point_labels, race_link, race_title
from lotteryfl.board.picture import draw
from lotteryfl.board.table import table
from lotteryfl.common.text import printable
from lotteryfl.records.cost import Judged

STYLES = ("base.css", "tables.css")
"""Of the page of runs: this one looks like it."""
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; base-uri 'none'; form-action 'none'"
_ABOUT = (
    "Each row is an experiment over its seeds, mean ± standard deviation; open it for the single runs. In the pictures "
    "it is a point, by its score after the last round and all that was sent in the run, with its density behind its "
    "name; the line is what can be had for so many megabytes. Bytes are those that were sent. “Run again” says that "
    "another run of the experiment gave the same bits, “its run” that the record was held against the run's own "
    "directory."
)


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


def _race(unordered: Race, place: int) -> Iterator[str]:
    race = ranked(unordered)
    link, wanted = race_link(race, place), targets(race)
    rows = [setting_figures(setting, race, wanted) for setting in race.settings]
    keys = [f"{link}-{number}" for number in range(1, len(rows) + 1)]
    yield f'<section class="race" id="{escape(link)}"><h2>{escape(race_title(race))}</h2>'
    yield from _told_of(race)
    yield '<div class="pictures">'
    for by in _drawn(race):
        yield from _picture(race, by, keys, rows)
    yield "</div>"
    yield from table(race, rows, keys, wanted)
    yield "</section>"


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
    for label, key, row in zip(point_labels(race), keys, rows, strict=True):
        score, megabytes = getattr(row, by), row.megabytes
        if score is not None and megabytes is not None and megabytes.mean > 0:
            points.append(Point(key, label, megabytes.mean, score.mean, score.std))
    if len(points) > 1:
        named = f"{by} {score_of(race).name}"
        yield f'<figure class="scroll" tabindex="0">{draw(points, score_of(race), named)}</figure>'


def _left_out(board: Board) -> Iterable[str]:
    if not board.left_out:
        return []
    said = "".join(f"<li>{escape(printable(name))}: {escape(printable(why))}</li>" for name, why in board.left_out)
    return [f'<section id="left-out"><h2>Left out</h2><ul class="bad">{said}</ul></section>']
