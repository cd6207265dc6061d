"""`verify --record`: a record is held against itself, its run, or another run; what differs is named."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lotteryfl.common.errors import ExperimentError, LotteryFLError
from lotteryfl.program import program
from lotteryfl.records import read_record, record_of, write_record
from lotteryfl.records.again import completed
from lotteryfl.records.agreeing import disagreements
from lotteryfl.records.differing import differences
from lotteryfl.records.marks import is_marked, mark_file
from tests.records.conftest import small_experiment


@pytest.fixture
def record(finished: Path, tmp_path: Path) -> Path:
    file = tmp_path / "records" / "a.json"
    write_record(record_of(finished), file)
    return file


def changed(file: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    table = json.loads(file.read_text())
    change(table)
    file.write_text(json.dumps(table))
    return file


def verified(*arguments: object) -> Result:
    return CliRunner().invoke(program, ["verify", "--record", *map(str, arguments)])


def test_submit_verify_and_run_again(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = CliRunner().invoke(program, ["submit", str(finished), "--out", str(out)], catch_exceptions=False)
    file = out / "ticket-seed0.json"
    assert told.output == f"{file} written\n"
    assert "as recorded, as far as a record by itself" in verified(file).output
    assert verified(file, finished, "--mark").output.endswith("as recorded\n")
    assert is_marked(file) == "its run"
    again = verified(file, "--rerun", "--mark")
    assert (again.exit_code, again.output.splitlines()[-1]) == (0, "as recorded")
    assert is_marked(file) == "run again"
    verified(file, finished, "--mark")
    assert is_marked(file) == "run again", "the weaker mark does not replace it"
    changed(file, lambda table: table.update(seconds=1e6))
    assert is_marked(file) is None, "the record was changed since"


def test_bits_that_another_run_does_not_give_are_named(record: Path) -> None:
    found = verified(changed(record, lambda table: table.update(tickets_sha256="0" * 64)), "--rerun", "--mark")
    assert isinstance(found.exception, LotteryFLError)
    assert "differs: tickets_sha256: recorded '0000" in found.output
    assert not mark_file(record).exists()


def test_every_field_that_is_not_its_runs_is_named(record: Path, finished: Path) -> None:
    def lie(table: dict[str, Any]) -> None:
        table["rounds"]["personalised"][0] += 0.25
        table["clients"]["downloaded"][1] = 0.5
        table["up"] += 4096
        table["down"] -= 4096
        table["withheld"] = ["task.options.x"]

    found = verified(changed(record, lie), finished)
    assert str(found.exception).endswith("fields not as recorded")
    said = [line.split(": ")[1] for line in found.output.splitlines() if line.startswith("differs")]
    assert {"rounds.personalised[0]", "clients.downloaded[1]", "up", "down", "withheld"} <= set(said)


def test_machines_that_may_have_other_bits_are_told(record: Path, finished: Path) -> None:
    changed(record, lambda table: table["made"].update(cpu="another", torch="9.9"))
    said = verified(record, finished).output
    assert "made elsewhere, so bits may be others: torch 9.9 there" in said
    assert "cpu another there" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rerun", "--set", "rounds=9"), "--set rounds: the record's experiment is run as it is"),
        (("DIR", "--rerun"), "expected one of RUN_DIR and --rerun"),
        (("--mark",), "expected a RUN_DIR or --rerun"),
    ],
)
def test_what_makes_no_sense_is_refused(record: Path, arguments: tuple[str, ...], message: str) -> None:
    found = verified(record, *arguments)
    assert found.exit_code != 0
    assert message in f"{found.output} {found.exception}"


def test_verify_of_a_directory_takes_no_options_of_records(finished: Path) -> None:
    for options in ([], [str(finished), "--rerun"]):
        assert CliRunner().invoke(program, ["verify", *options]).exit_code == 2


def test_a_run_again_needs_what_the_record_withholds(record: Path) -> None:
    withheld = read_record(record).model_copy(update={"withheld": ("task.options.folder",)})
    with pytest.raises(ExperimentError, match=r"does not tell task\.options\.folder: give it by --set"):
        completed(withheld, ())
    assert completed(withheld, ["task.options.folder=/x"]).task.options == {"folder": "/x"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits_depend_on": "attendance"}, "bits depend on attendance"),
        ({"experiment": small_experiment(strategy={"name": "fedavg"}, privacy={"dp_sgd": True})}, "noise for privacy"),
    ],
)
def test_bits_that_never_come_again_are_not_waited_for(record: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(LotteryFLError, match=message):
        completed(read_record(record).model_copy(update=change), ())


def test_bytes_of_workers_are_not_held_against_those_of_one_process(record: Path) -> None:
    ours = read_record(record)
    theirs = ours.model_copy(update={"workers": 2, "down": 1, "seconds": 9.0})
    assert differences(theirs, ours, is_same_run=False) == []
    assert [each.field for each in differences(theirs, ours, is_same_run=True)] == ["down", "workers", "seconds"]


@pytest.mark.parametrize(
    ("section", "key", "value", "named"),
    [
        ("scores", "worst_tenth", 0.99, "scores.worst_tenth"),
        ("scores", "personalised_best", 0.99, "scores.personalised_best"),
        ("scores", "shared", 0.99, "scores.shared"),
        ("rounds", "sent", [1, 2, 3], "down + up"),
        ("rounds", "round", [1, 2, 9], "rounds.round"),
        ("scores", "on_global", 1.5, "scores.on_global"),
        ("clients", "downloaded", [-1.0, 1.0, 1.0], "clients.downloaded"),
        ("experiment", "evaluation", {"new_clients": 0}, "scores.new_personalised"),
        ("clients", "client", [0, 1, 3], "clients.client"),
        ("shared", "round", [0, 1, 8], "shared.round"),
        (None, "protocol", "ssfl-digits", "protocol"),
    ],
)
def test_a_record_that_does_not_agree_with_itself_is_found_out(
    record: Path, section: str | None, key: str, value: object, named: str
) -> None:
    assert disagreements(read_record(record)) == []
    changed(record, lambda table: (table[section] if section else table).update({key: value}))
    assert named in [each.field for each in disagreements(read_record(record))]


def test_a_field_that_is_wrong_in_two_ways_is_named_once(record: Path) -> None:
    changed(record, lambda table: table["scores"].update(personalised=0.99))
    assert [each.field for each in disagreements(read_record(record))] == ["scores.personalised"]


def test_not_one_byte_is_lost(record: Path) -> None:
    changed(record, lambda table: table.update(down=table["down"] - 1))
    assert [each.field for each in disagreements(read_record(record))] == ["down + up"]


def test_a_run_of_fewer_rounds_than_its_experiment_has_been_cut(record: Path) -> None:
    def cut(table: dict[str, Any]) -> None:
        table["rounds"] |= {key: values[-1:] for key, values in table["rounds"].items()} | {"round": [1]}

    assert "rounds.round" in [each.field for each in disagreements(read_record(changed(record, cut)))]


def test_a_run_that_ended_early_has_fewer_rounds(record: Path) -> None:
    """As `evaluation.patience` numbers them: the last, which measures everybody, has its own number."""
    changed(record, lambda table: table["rounds"].update(round=[1, 2, 10]))
    changed(record, lambda table: table["experiment"].update(rounds=9))
    assert [each.field for each in disagreements(read_record(record))] == ["rounds.round"]
    assert read_record(record).rounds_trained == 9
    changed(record, lambda table: table["experiment"]["evaluation"].update(patience=1))
    assert disagreements(read_record(record)) == []
    assert read_record(record).rounds_trained == 2


def _with_task(table: dict[str, Any], name: str) -> None:
    table["experiment"]["task"]["name"] = name


def test_a_stranger_s_record_runs_no_code_that_is_not_named_here(record: Path, tmp_path: Path) -> None:
    """Neither a file nor a module: `antigravity` can be imported, and is not."""
    own = tmp_path / "mine.py"
    own.write_text("raise SystemExit('it was run')")
    found = verified(changed(record, lambda table: table["experiment"]["task"].update(name=str(own))), "--rerun")
    assert "names places of a machine's: expected none" in str(found.exception)
    for name in ("mine", "antigravity", "hf:some/data"):
        changed(record, partial(_with_task, name=name))
        found = verified(record, "--rerun")
        assert isinstance(found.exception, LotteryFLError)
        assert "name it" in str(found.exception).replace("name its file", "name it")


def test_a_run_of_ones_own_task_can_be_run_again_where_it_is_named(tmp_path: Path) -> None:
    from lotteryfl.running.scripts import simulate

    task = tmp_path / "there" / "mine.py"
    task.parent.mkdir()
    shutil.copy(Path(__file__).parents[2] / "examples" / "custom_task.py", task)
    experiment = small_experiment(task={"name": str(task)}, evaluation={})
    simulate(experiment, tmp_path / "run").close()
    record = record_of(tmp_path / "run")
    write_record(record, tmp_path / "r.json")
    assert record.task_sha256
    assert str(tmp_path) not in (tmp_path / "r.json").read_text()
    assert verified(tmp_path / "r.json", "--rerun", "--task", task).output.endswith("as recorded\n")
