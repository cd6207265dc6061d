"""The site's references have every key, command, call and public name, and a page for each strategy."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

import lotteryfl
from lotteryfl.board.front import front as best_for_bytes
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.training.score import Score
from lotteryfl.launching.settings import LaunchSettings
from lotteryfl.program import COMMANDS
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.ranking.blocks import By
from lotteryfl.server.strategies import STRATEGIES
from tests.support.paths import ROOT
from tools.site import commands, contract, front, interface, methods, settings

SETTINGS, COMMANDS_PAGE, CONTRACT, INTERFACE = (each.page() for each in (settings, commands, contract, interface))
PAGES = methods.pages()


def keys(model: type[BaseModel], section: str) -> list[tuple[str, str]]:
    """Return all keys of a model and those within it, each with its section."""
    found = []
    for key, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += keys(kind, f"{section}.{key}" if section else key)
        else:
            found.append((section, key))
    return found


@pytest.mark.parametrize(("section", "key"), [*keys(Experiment, ""), *keys(LaunchSettings, "launch")])
def test_every_key_is_there_and_says_what_it_is(section: str, key: str) -> None:
    title = f"`[{section}]`" if section else "At the top"
    part = SETTINGS.split(f"\n## {title}\n")[1].split("\n## ")[0]
    (row,) = re.findall(rf"^\| `{key}` \| (.*) \|$", part, re.MULTILINE)
    kind, default, _, text = re.split(r" \| ", row)
    assert kind
    assert default
    assert text, "no text under the key in its class"


def test_bounds_are_told() -> None:
    assert "| `rounds` | whole number | `30` | ≥ 1, ≤ 2,147,483,647 |" in SETTINGS
    assert "| `momentum` | number | `0.9` | ≥ 0, < 1 |" in SETTINGS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there(name: str) -> None:
    assert f"\n## lotteryfl {name}\n" in COMMANDS_PAGE


def test_options_are_there() -> None:
    part = COMMANDS_PAGE.split("\n## lotteryfl work\n")[1].split("\n## ")[0]
    assert {"--coordinator", "--clients", "--devices"} <= set(re.findall(r"^\| `(--[\w-]+)", part, re.MULTILINE))


@pytest.mark.parametrize("name", [*pb.DESCRIPTOR.services_by_name["Coordinator"].methods_by_name])
def test_every_call_is_there_and_says_what_it_is(name: str) -> None:
    (row,) = re.findall(rf"^\| `{name}` \| .* \| (.+) \|$", CONTRACT, re.MULTILINE)
    assert row


@pytest.mark.parametrize("name", pb.DESCRIPTOR.message_types_by_name)
def test_every_message_is_there_with_its_fields(name: str) -> None:
    part = CONTRACT.split(f"\n## {name}\n")[1].split("\n## ")[0]
    assert set(pb.DESCRIPTOR.message_types_by_name[name].fields_by_name) <= set(re.findall(r"^\| `(\w+)`", part, re.M))


@pytest.mark.parametrize("name", lotteryfl.__all__)
def test_everything_public_is_there(name: str) -> None:
    assert re.search(rf"^::: lotteryfl\.[\w.]*\b{name}$", INTERFACE, re.MULTILINE)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_has_a_page_with_its_paper_and_its_results(name: str) -> None:
    page = PAGES[f"methods/{name}.md"]
    assert f'`strategy.name = "{name}"`' in page
    assert "its keys" in page or not re.search(
        rf"^\| `{name}` .*`[a-z_.]+` \|$", (ROOT / "docs/methods.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert ("## What runs have come to" in page) == (name != "fedbn"), (
        "fedbn is in no table: no model there has batch norms"
    )


def test_a_strategys_results_say_which_table_they_are_of() -> None:
    page = PAGES["methods/fedprox.md"]
    (accuracy,) = (point.score for point in front.points("personalised") if point.label == "fedprox")
    link = "[Dirichlet 0.3, density 0.5](../experiments.md#dirichlet-03-density-05)"
    row = f"| Fashion-MNIST, 100 clients, every strategy once: {link} | 1 | {accuracy:.3f} |"
    assert page.count(row) == 1


def test_the_readmes_picture_is_of_the_records() -> None:
    """`make front` was called since the records have changed."""
    shown = re.findall(r">\s*([a-z-]+(?:, [\d.]+)?)\s*</text>", front.PICTURE.read_text(encoding="utf-8"))
    columns: tuple[By, ...] = ("personalised", "downloaded")
    for column in columns:
        found = front.points(column)
        assert len(found) > 10
        best = best_for_bytes(found, Score())
        assert {point.label for point in front.named(best)} <= set(shown)
        assert best[0].megabytes == min(point.megabytes for point in found)
        assert best[-1].score == max(point.score for point in found)


def test_the_picture_drawn_anew_is_the_same(tmp_path: Path) -> None:
    again = tmp_path / "front.svg"
    front.draw(again)
    assert count_of_points(again.read_text(encoding="utf-8")) == count_of_points(
        front.PICTURE.read_text(encoding="utf-8")
    )


def count_of_points(svg: str) -> int:
    """Return how many marks there are; where they are depends on the fonts that there are."""
    return len(re.findall(r"<use ", svg))


def test_every_document_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"[\w-]+\.md", text))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= named
