"""The page is the same bytes for the same records, asks nobody for anything, and has others' words as text alone."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lotteryfl.board.entries import Board, read_board
from lotteryfl.board.page import render
from lotteryfl.board.write import write_board
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.program import program
from lotteryfl.protocols import protocol
from lotteryfl.records import Record
from lotteryfl.records.files import from_bytes, to_text
from tests.records.test_strangers import HOSTILE, places
from tests.support.recorded import like, of_experiment, rival, write

SCRIPT = "<img src=x onerror=caught=1><script>caught=1</script>"


class Markup(HTMLParser):
    """The elements of a page, with their attributes; entities are text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_command_writes_a_folder_the_same_every_time(records: Path, tmp_path: Path) -> None:
    out = tmp_path / "board"
    found = CliRunner().invoke(program, ["board", str(records), "--out", str(out)], catch_exceptions=False)
    assert found.output == f"{out / 'index.html'} written, 8 records\n"
    write_board(read_board([records]), tmp_path / "again")
    assert files(out) == files(tmp_path / "again")
    assert set(files(out)) == {
        *("index.html", "board.css", "board.js", "base.css", "tables.css"),
        *(f"records/{path.name}" for path in records.iterdir()),
    }


def test_what_is_left_out_is_said_on_the_page_and_by_the_exit_code(records: Path, tmp_path: Path) -> None:
    (records / "bad.json").write_text('{"protocol": "<b>"}')
    found = CliRunner().invoke(program, ["board", str(records), "--out", str(tmp_path / "board")])
    assert isinstance(found.exception, LotteryFLError)
    assert str(found.exception) == "1 of 9 files are left out"
    assert "left out: bad: " in found.output
    markup = Markup((tmp_path / "board" / "index.html").read_text())
    assert any(text.startswith("bad: ") for text in markup.text)


def test_nothing_is_loaded_from_elsewhere_and_no_script_or_style_is_in_the_page(records: Path) -> None:
    markup = Markup(render(read_board([records])))
    for tag, attributes in markup.found:
        assert not any(name == "style" or name.startswith("on") for name in attributes), tag
        for name in ("src", "href"):
            assert re.match(r"(?!//)[^:]*$", attributes.get(name) or ""), attributes
    assert [attributes for tag, attributes in markup.found if tag == "script"] == [{"src": "board.js", "defer": None}]
    assert "style" not in {tag for tag, _ in markup.found}


def test_the_words_of_others_are_text(record: Record, tmp_path: Path) -> None:
    mine = like(rival(record, SCRIPT, 0, 0.5, 1000), {"made": {"torch": SCRIPT}})
    other = like(mine, {"experiment.strategy": {"options": {SCRIPT: SCRIPT}}})
    folder = write(tmp_path / "r", {"a": mine, "'\"><script>caught=1<": other})
    (folder / "<script>.json").write_text("{}")
    page = render(read_board([folder]))
    assert "<img" not in page
    markup = Markup(page)
    assert len([tag for tag, _ in markup.found if tag == "script"]) == 1
    assert any(SCRIPT in text for text in markup.text)


def test_no_two_sections_have_one_name(record: Record, tmp_path: Path) -> None:
    """Even where a stranger says that a protocol's runs are judged by something else."""
    whole = of_experiment(record, protocol("ssfl-digits").experiment)
    other = like(whole, {"judged": {"name": "loss", "own": True}})
    names = [
        attributes.get("id")
        for _, attributes in Markup(render(read_board([write(tmp_path / "r", {"a": whole, "b": other})]))).found
    ]
    found = [name for name in names if name]
    assert "ssfl-digits" in found
    assert len(set(found)) == len(found)


def test_the_picture_says_in_words_what_is_on_the_front(records: Path) -> None:
    markup = Markup(render(read_board([records])))
    said = [str(attributes["aria-label"]) for tag, attributes in markup.found if tag == "svg"]
    assert "On the front: cheap 0.5 0.510 for 1 MB, middle 0.5 0.710 for 3 MB, good 0.5 0.910 for 8 MB." in said[0]
    rows = {attributes["id"] for tag, attributes in markup.found if tag == "tbody"}
    dots = {attributes["data-row"] for tag, attributes in markup.found if tag == "g"}
    assert dots == rows
    assert len(rows) == 4


def test_of_a_single_setting_there_is_no_picture(record: Record, tmp_path: Path) -> None:
    folder = write(tmp_path / "r", {"a": rival(record, "a", 0, 0.5, 1000)})
    markup = Markup(render(read_board([folder])))
    assert [tag for tag, _ in markup.found if tag == "svg"] == []
    assert len([tag for tag, _ in markup.found if tag == "tbody"]) == 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_read_can_be_shown(record: Record, tmp_path: Path, data: st.DataObject) -> None:
    table: dict[str, Any] = json.loads(to_text(record))
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(places(to_text(record))))
        inner = table
        for step in way:
            inner = inner[step] if isinstance(inner.get(step), dict) else table
        inner[last] = data.draw(st.sampled_from(HOSTILE))
    try:
        stranger = from_bytes(json.dumps(table).encode(), "x")
    except LotteryFLError:
        return
    board: Board = read_board([write(tmp_path / "r", {"mine": record, "stranger": stranger})])
    page = render(board)
    assert "<script>alert" not in page
    assert "nan" not in re.sub(r"[^<>]*</(td|title|p|li|th|option)>", "", page)
