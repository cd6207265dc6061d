"""Whatever a record file holds: it is read, and written again the same, or refused in one short line."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.records import read_record, record_of, write_record
from lotteryfl.records.agreeing import disagreements
from lotteryfl.records.files import MOST_BYTES, from_bytes, read_records, to_text

HOSTILE: list[Any] = [
    *(None, True, -1, 0, 1, 2**31, 2**63, 10**400, 1e308, float("nan"), float("inf"), 0.5, -0.0),
    *("", "x", "<script>alert(1)</script>", "../../etc/passwd", "/etc/passwd", "\u202e\0\n", "a" * 5000),
    *([], {}, [1, 2, 3], [[]], [None], {"x": 1}, list(range(2000))),
]


@pytest.fixture(scope="module")
def text(finished: Path) -> str:
    return to_text(record_of(finished))


@cache
def places(text: str) -> list[tuple[str, ...]]:
    """The keys of a record that lead to a value or a table."""
    found: list[tuple[str, ...]] = []

    def walk(table: dict[str, Any], before: tuple[str, ...]) -> None:
        for key, value in table.items():
            found.append((*before, key))
            if isinstance(value, dict):
                walk(value, (*before, key))

    walk(json.loads(text), ())
    return found


def refused_or_read(data: bytes) -> None:
    try:
        record = from_bytes(data, "x.json")
    except LotteryFLError as error:
        said = str(error)
    else:
        disagreements(record)
        again = to_text(record)
        assert to_text(from_bytes(again.encode(), "again")) == again
        return
    assert said.startswith("x.json: ")
    assert len(said) <= 1000
    assert said.isprintable()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_value_in_the_place_of_another(text: str, data: st.DataObject) -> None:
    table = json.loads(text)
    *way, last = data.draw(st.sampled_from(places(text)))
    inner = table
    for step in way:
        inner = inner[step]
    inner[last] = data.draw(st.sampled_from(HOSTILE))
    refused_or_read(json.dumps(table).encode())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 3000), instead=st.binary(max_size=40), length=st.integers(0, 400))
def test_bytes_in_the_place_of_others(text: str, at: int, instead: bytes, length: int) -> None:
    whole = text.encode()
    refused_or_read(whole[:at] + instead + whole[at + length :])


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"null", b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b" " * (MOST_BYTES + 1), b"9" * 5000]
)
def test_what_is_no_record(data: bytes) -> None:
    with pytest.raises(LotteryFLError):
        from_bytes(data, "x.json")
    refused_or_read(data)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(LotteryFLError, match=r"^x\.json: lotteryfl_record is missing; protocol is missing;"):
        from_bytes(b"{}", "x.json")


def test_of_what_is_no_json_nothing_is_told() -> None:
    """A link in a folder of records may be to anything; what is wrong with it comes to stand on a page."""
    with pytest.raises(LotteryFLError, match=r"^x\.json: is not valid JSON: [a-z ]+ at line 1 column \d+$"):
        from_bytes(b"-----BEGIN PRIVATE KEY-----", "x.json")


@pytest.mark.parametrize("order", [[0, 2, 1], [0, 1, 1]])
def test_a_curve_goes_forward(text: str, order: list[int]) -> None:
    table = json.loads(text)
    table["shared"]["round"] = order
    with pytest.raises(LotteryFLError, match=r"shared\.round: .* expected ascending numbers"):
        from_bytes(json.dumps(table).encode(), "x.json")


def test_a_newer_record_is_named_as_one(text: str) -> None:
    table = json.loads(text) | {"lotteryfl_record": 2, "later": 1}
    with pytest.raises(
        LotteryFLError, match=r"x\.json: lotteryfl_record = 2: .*unknown key later = 1; a newer lotteryfl"
    ):
        from_bytes(json.dumps(table).encode(), "x.json")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"name": "/x/mine.py"}, "names places"),
        ({"data_dir": "/x"}, "names places"),
        ({"initial": "/x"}, "names places"),
        ({"model": "transformers:/etc"}, "a place: expected none"),
        ({"model": "/x/models.py:small"}, "a place: expected none"),
    ],
)
def test_a_place_on_this_machine_is_refused(text: str, task: dict[str, str], message: str) -> None:
    table = json.loads(text)
    table["experiment"]["task"] |= task
    with pytest.raises(LotteryFLError, match=message):
        from_bytes(json.dumps(table).encode(), "x.json")


def test_no_more_is_withheld_than_may_be(text: str) -> None:
    """A setting that is said to be withheld would be shown at its default, and taken anew at a run again."""
    table = json.loads(text) | {"withheld": ["task.initial", "training.lr"]}
    with pytest.raises(LotteryFLError, match=r"x\.json: .*withheld: 'training\.lr': expected task\.initial"):
        from_bytes(json.dumps(table).encode(), "x.json")


def test_a_folder_is_read_with_the_folders_in_it(finished: Path, tmp_path: Path) -> None:
    for name in ("b.json", "a/c.json", "a/.hidden.json"):
        write_record(record_of(finished), tmp_path / name)
    (tmp_path / "a" / "c.verified").write_text("{}")
    assert [str(path.relative_to(tmp_path)) for path in read_records([tmp_path])] == ["a/c.json", "b.json"]
    with pytest.raises(LotteryFLError, match=r"none: there is no such file or folder"):
        read_records([tmp_path / "none"])
    with pytest.raises(LotteryFLError, match=r"a: cannot be read: Is a directory"):
        read_record(tmp_path / "a")
