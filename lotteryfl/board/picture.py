"""A front as a picture: SVG in the page, whose style sheet gives it its colours, light or dark."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from lotteryfl.board.axes import Axis
from lotteryfl.board.front import Point, front
from lotteryfl.common.training.score import Score

WIDTH, HEIGHT = 760, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 16, 14, 44
_CHARACTER, _LINE = 6.9, 14
"""Pixels that a label takes."""


class _Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "_Box") -> bool:
        return not (
            self.right < other.left or other.right < self.left or self.bottom < other.top or other.bottom < self.top
        )


def draw(points: Sequence[Point], score: Score, named: str) -> str:
    """Return the picture of points, each of more than 0 megabytes, and of their front.

    Args:
        points: at least one.
        score: which way is better.
        named: what of it is drawn, for who does not see it.
    """
    x = Axis.of([point.megabytes for point in points], _LEFT, WIDTH - _RIGHT, logarithmic=True)
    ends = [point.score + sign * point.std for point in points for sign in (-1, 1)]
    y = Axis.of(ends, HEIGHT - _BOTTOM, _TOP)
    best = front(points, score)
    said = ", ".join(f"{point.label} {point.score:{score.digits}} for {point.megabytes:,.4g} MB" for point in best)
    parts = (
        *_axes(x, y, score, named),
        *_line(best, x, y),
        *_dots(points, best, x, y, score),
        *_labels(points, best, x, y),
    )
    label = escape(f"{named} against megabytes. On the front: {said}. The table below has all.")
    return (
        f'<svg class="front" role="img" viewBox="0 0 {WIDTH} {HEIGHT}" aria-label="{label}">\n'
        + "\n".join(parts)
        + "\n</svg>"
    )


def _axes(x: Axis, y: Axis, score: Score, named: str) -> Iterator[str]:
    for value in y.ticks():
        at = _number(y.at(value))
        yield f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at}" y2="{at}"/>'
        yield f'<text class="tick end" x="{_LEFT - 6}" y="{_number(y.at(value) + 4)}">{value:g}</text>'
    for value in x.ticks():
        at = _number(x.at(value))
        yield f'<line class="grid" x1="{at}" x2="{at}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'
        yield f'<text class="tick middle" x="{at}" y="{HEIGHT - _BOTTOM + 16}">{value:,g}</text>'
    middle, bottom = _number((_LEFT + WIDTH - _RIGHT) / 2), HEIGHT - 8
    yield f'<text class="axis middle" x="{middle}" y="{bottom}">megabytes sent, down and up</text>'
    upright = f"rotate(-90 14 {(HEIGHT - _BOTTOM + _TOP) / 2:g})"
    what = named if score.higher_is_better else f"{named}, less is better"
    yield (
        f'<text class="axis middle" x="14" y="{(HEIGHT - _BOTTOM + _TOP) / 2:g}" transform="{upright}">'
        f"{escape(what)}</text>"
    )


def _line(best: Sequence[Point], x: Axis, y: Axis) -> Iterator[str]:
    """Yield the front: what can be had for so many megabytes."""
    corners = [f"{_number(x.at(best[0].megabytes))},{_number(y.at(best[0].score))}"]
    for before, point in zip(best, [*best[1:], None], strict=True):
        right = x.at(point.megabytes) if point else x.last
        corners.append(f"{_number(right)},{_number(y.at(before.score))}")
        if point:
            corners.append(f"{_number(right)},{_number(y.at(point.score))}")
    yield f'<polyline class="line" points="{" ".join(corners)}"/>'


def _dots(points: Sequence[Point], best: Sequence[Point], x: Axis, y: Axis, score: Score) -> Iterator[str]:
    for point in sorted(points, key=lambda each: each in best):
        across, up = _number(x.at(point.megabytes)), _number(y.at(point.score))
        spread = f" ± {point.std:{score.digits}}" if point.std else ""
        title = f"{point.label}: {point.score:{score.digits}}{spread}, {point.megabytes:,.4g} MB"
        bar = (
            f'<line x1="{across}" x2="{across}" y1="{_number(y.at(point.score - point.std))}" '
            f'y2="{_number(y.at(point.score + point.std))}"/>'
            if point.std
            else ""
        )
        yield (
            f'<g class="dot{" best" if point in best else ""}" data-row="{escape(point.key)}">'
            f'<title>{escape(title)}</title>{bar}<circle cx="{across}" cy="{up}" r="4.5"/></g>'
        )


def _labels(points: Sequence[Point], best: Sequence[Point], x: Axis, y: Axis) -> Iterator[str]:
    """Yield names of points where there is room for them: those on the front first, then the better ones."""
    dots = [_around(x.at(point.megabytes), y.at(point.score)) for point in points]
    taken: list[_Box] = []
    others = sorted((point for point in points if point not in best), key=lambda each: y.at(each.score))
    for point in (*best, *others):
        for box in _places(point, x, y):
            if any(map(box.meets, (*taken, *dots))) or box.left < _LEFT or box.right > WIDTH or box.top < 0:
                continue
            taken.append(box)
            kind = "name best" if point in best else "name"
            left, bottom = _number(box.left), _number(box.bottom - 3)
            row = f'data-row="{escape(point.key)}"'
            yield f'<text class="{kind}" {row} x="{left}" y="{bottom}">{escape(point.label)}</text>'
            break


def _places(point: Point, x: Axis, y: Axis) -> Iterator[_Box]:
    across, up, width = x.at(point.megabytes), y.at(point.score), len(point.label) * _CHARACTER
    for left, bottom in (
        (across + 7, up - 5),
        (across + 8, up + 6),
        (across - width - 7, up - 5),
        (across + 7, up + 17),
    ):
        yield _Box(left, bottom - _LINE, left + width, bottom)


def _around(across: float, up: float) -> _Box:
    return _Box(across - 5, up - 5, across + 5, up + 5)


def _number(pixel: float) -> str:
    return f"{pixel:.1f}"
