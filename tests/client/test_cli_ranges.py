"""Clients as people write them on the command line."""

import click
import pytest

from client.cli import ClientRange


@pytest.mark.parametrize(
    ("text", "clients"),
    [
        ("7", {7}),
        ("0-3", {0, 1, 2, 3}),
        ("0,3,7-9", {0, 3, 7, 8, 9}),
        ("0-2,1-4", {0, 1, 2, 3, 4}),
        ("5-5", {5}),
        ("0, 3 , 7-8", {0, 3, 7, 8}),
    ],
)
def test_ranges(text: str, clients: set[int]) -> None:
    assert ClientRange().convert(text, None, None) == clients


@pytest.mark.parametrize("text", ["", ",", "a", "1,", "-3", "3-", "1-2-3", "1.5", "0x1", "٣", "0-99999999999999999999"])
def test_anything_else_is_named(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected numbers and ranges, as in 0-9 or 0,3,7-9"):
        ClientRange().convert(text, None, None)


def test_a_range_backwards_is_empty() -> None:
    with pytest.raises(click.BadParameter, match="'9-3': an empty range"):
        ClientRange().convert("0,9-3", None, None)
