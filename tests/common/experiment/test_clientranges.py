"""Clients as people write them, on the command line and in experiments."""

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lotteryfl.commands.work import ClientRange
from lotteryfl.common.experiment.clientranges import format_clients, parse_clients


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
    assert parse_clients(text) == clients
    assert ClientRange().convert(text, None, None) == clients


@pytest.mark.parametrize("text", ["", ",", "a", "1,", "-3", "3-", "1-2-3", "1.5", "0x1", "٣", "0-99999999999999999999"])
def test_anything_else_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="expected numbers and ranges, as in 0-9 or 0,3,7-9"):
        parse_clients(text)
    with pytest.raises(click.BadParameter, match="expected numbers and ranges, as in 0-9 or 0,3,7-9"):
        ClientRange().convert(text, None, None)


def test_a_range_backwards_is_empty() -> None:
    with pytest.raises(ValueError, match="'9-3': an empty range"):
        parse_clients("0,9-3")


@given(st.sets(st.integers(0, 300), min_size=1))
def test_what_is_written_reads_back(clients: set[int]) -> None:
    text = format_clients(clients)
    assert parse_clients(text) == clients
    assert len(text.split(",")) == sum(client - 1 not in clients for client in clients)
