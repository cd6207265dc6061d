"""An estimate as people read it."""

from datetime import timedelta

from rich.filesize import decimal
from tabulate import tabulate

from lotteryfl.estimating.estimate import Estimate, Line

_WIDTH = 60
"""Characters of a line of what is assumed."""
_PRECISE = 60
"""Seconds below which their tenths count."""


def described(estimate: Estimate) -> str:
    """Return the table of an estimate, under what was measured for it."""
    rows = [(line.what, _range(line), line.assumes) for line in estimate.lines]
    table = tabulate(
        rows, headers=("", "estimate", "assumes"), maxcolwidths=[None, None, _WIDTH], preserve_whitespace=True
    )
    return f"measured: {estimate.measured}\n\n{table}"


def _range(line: Line) -> str:
    least, most = _value(line, line.least), _value(line, line.most)
    return least if least == most else f"{least} to {most}"


def _value(line: Line, value: float) -> str:
    if line.unit == "bytes":
        return decimal(round(value))
    return f"{value:.1f} s" if value < _PRECISE else str(timedelta(seconds=round(value)))
