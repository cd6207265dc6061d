"""docs/gpus.md: its commands are understood, its numbers are the code's, and what it names is there."""

import re

import click
import pytest

from lotteryfl.program import program
from lotteryfl.running.sizing import COUNTED, LEAST_GAIN
from lotteryfl.running.workerprocesses import MOST_RESTARTS, STOP_SECONDS
from tests.support.paths import ROOT

TEXT = (ROOT / "docs/gpus.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", re.findall(r"^lotteryfl (\w+ .*?)(?:  .*)?$", TEXT, re.MULTILINE))
def test_a_command_is_understood(line: str) -> None:
    name, *arguments = line.split()
    command = program.get_command(click.Context(program), name)
    assert command is not None
    assert command.make_context(name, arguments).params


def test_its_numbers_are_the_codes() -> None:
    assert f"After {MOST_RESTARTS} deaths without an assignment in between" in TEXT
    assert f"at the latest after {STOP_SECONDS:g} s" in TEXT
    assert f"then {COUNTED} that do." in TEXT
    assert f"less than {LEAST_GAIN:g} times what one worker less has done" in TEXT


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`((?:tests|lotteryfl|common)/[\w/]+(?:\.py|/))`", TEXT))))
def test_what_it_names_is_there(named: str) -> None:
    assert (ROOT / named).exists()


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#]+)", TEXT))))
def test_what_it_links_to_is_there(link: str) -> None:
    assert (ROOT / "docs" / link).exists()
