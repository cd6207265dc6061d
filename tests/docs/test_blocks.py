"""Every block of code of the documents is run, or says why not; every command that stands in one is understood."""

import hashlib
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
import yaml

from lotteryfl.common.experiment.experiment import LAUNCH, validate
from lotteryfl.common.tasks.partition.indexfile import read_index_file
from lotteryfl.launching.settings import LaunchSettings
from lotteryfl.program import program
from tests.docs.blocks import ALL, LANGUAGES, REASONS, Block, counted, documents
from tests.support.paths import ROOT

HERE = [block for block in ALL if block.runs_here]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)) | {"setup-dev"}


def of(language: str) -> list[Block]:
    return [block for block in HERE if block.language == language]


def test_every_block_is_run_or_says_why_not() -> None:
    print(counted())  # noqa: T201 - for who asks, by -s
    untold = [block.place for block in ALL if block.reason and block.reason not in REASONS]
    assert untold == [], "no reason that is known"
    assert [block.place for block in HERE if block.language not in LANGUAGES] == [], "neither run nor told why not"
    assert [block.place for block in ALL if block.tag and not (block.reason or block.runner)] == [], "not understood"
    fences = sum((ROOT / document).read_text(encoding="utf-8").count("```") for document in documents())
    assert fences == 2 * len(ALL), "a block that is not found"


@pytest.mark.parametrize("block", [block for block in ALL if block.runner], ids=lambda block: block.place)
def test_a_block_that_another_test_runs_is_read_by_it(block: Block) -> None:
    text = (ROOT / block.runner).read_text(encoding="utf-8")
    assert block.document.removeprefix("docs/") in text


@pytest.mark.parametrize("block", of("toml"), ids=lambda block: block.place)
def test_a_file_of_settings_is_one(block: Block) -> None:
    table = tomllib.loads(block.text)
    if table.keys() <= LaunchSettings.model_fields.keys():
        LaunchSettings.model_validate(table)  # a profile
        return
    LaunchSettings.model_validate(table.pop(LAUNCH, {}))
    validate({"clients": 100} | table, block.place)


@pytest.mark.parametrize("block", of("json"), ids=lambda block: block.place)
def test_an_index_file_is_one(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "who.json"
    file.write_text(block.text)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert len(read_index_file(file, digest, clients=2, train=20, test=5)) == 2


@pytest.mark.parametrize("block", of("yaml"), ids=lambda block: block.place)
def test_what_prometheus_scrapes_has_the_names_that_the_board_goes_by(block: Block) -> None:
    here = yaml.safe_load((ROOT / "deploy/observe/prometheus.yml").read_text())["scrape_configs"]
    shown = yaml.safe_load(block.text)["scrape_configs"]
    assert [job["job_name"] for job in shown] == [job["job_name"] for job in here]


# -- commands, run or not


def commands() -> list[tuple[str, str]]:
    """Return the program's command lines in all blocks, with their places; what says what they do is left out."""
    found = []
    for block in ALL:
        text = block.text.replace("\\\n", " ")
        lines = re.findall(r"(?:^|^\$ |[;&|] +)(?:\.venv/bin/)?lotteryfl ([a-z][^\n;&|]*)", text, re.MULTILINE)
        found += [(block.place, re.split(r" {2,}| +#| > |, then ", line)[0]) for line in lines]
    return found


@pytest.mark.parametrize(("place", "line"), commands())
def test_a_command_is_understood(place: str, line: str) -> None:
    name, *arguments = shlex.split(line.replace("…", ""))
    context = click.Context(program)
    command = program.get_command(context, name)
    assert command is not None, f"{place}: lotteryfl {name}"
    while isinstance(command, click.Group) and arguments and (inner := command.get_command(context, arguments[0])):
        command, arguments = inner, arguments[1:]
    command.make_parser(click.Context(command)).parse_args(arguments)  # refuses options that there are not


@pytest.mark.parametrize("block", [block for block in ALL if "make " in block.text], ids=lambda block: block.place)
def test_a_target_of_make_is_one(block: Block) -> None:
    assert set(re.findall(r"^ *(?:\$ )?make ([a-z-]+)", block.text, re.MULTILINE)) <= TARGETS
