"""`lotteryfl reproduce`: the list, the check of the partition, a whole run and where it stands."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.experiment import Experiment, changed, load_resolved
from lotteryfl.common.tasks import load_task
from lotteryfl.common.tasks.builtin import BuiltInTask
from lotteryfl.common.tasks.partition import Partition
from lotteryfl.common.tasks.partition.digest import partition_digest
from lotteryfl.program import program
from lotteryfl.protocols import Expected, Protocol, Published, names, protocol
from lotteryfl.protocols.standing import standing
from tests.support.cifar import write_ten
from tests.support.processes import Process

RUN = ("ssfl-cifar10", "--rounds", "2", "--simulate")


def reproduce(*arguments: str) -> Result:
    return CliRunner().invoke(program, ["reproduce", *arguments])


def test_without_a_name_all_are_listed() -> None:
    result = reproduce()
    rows = result.output.splitlines()[2:]
    assert [row.split()[0] for row in rows] == names()
    assert next(row for row in rows if row.startswith("ssfl-digits")).split()[1:3] == ["digits", "61"]


def test_with_options_and_no_name_nothing_is_listed() -> None:
    result = reproduce("--rounds", "2")
    assert result.exit_code == 2
    assert "NAME is missing: expected that of a protocol" in result.output
    assert "ssfl-digits" not in result.output


def test_a_trial_of_two_rounds_says_that_it_is_none_of_the_protocols(tmp_path: Path) -> None:
    process = Process(
        *(
            "reproduce",
            "ssfl-digits",
            "--rounds",
            "2",
            "--simulate",
            "--run-dir",
            "run",
            "--set",
            "strategy.name=fedavg",
        ),
        cwd=tmp_path,
        env={},
    )
    assert process.exit_code() == 0, process.stderr
    assert process.stdout.splitlines()[-1] == "  cannot be compared: 2 rounds of the protocol's 61"
    assert (tmp_path / "run/summary.json").is_file()


def test_a_partition_that_is_not_the_protocols_is_refused_before_anything_is_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = protocol("ssfl-digits").model_copy(update={"partition_sha256": {"0": "0" * 64}})
    monkeypatch.setattr("lotteryfl.commands.reproduce.protocol", lambda _: other)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        LotteryFLError, match=r"^the partition of seed 0 is [0-9a-f]{64}, and protocol ssfl-digits's 000"
    ):
        CliRunner().invoke(program, ["reproduce", "ssfl-digits"], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []


def test_what_is_on_record_of_who_holds_what_is_so() -> None:
    """Of the protocols whose data come with the program."""
    for name in ("ssfl-digits",):
        for seed, expected in protocol(name).partition_sha256.items():
            task = load_task(protocol(name).with_choices([f"seed={seed}"]))
            assert isinstance(task, BuiltInTask)
            assert task.partition_sha256() == expected


def test_a_smaller_one_runs_on_local_files_of_cifars_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = protocol("ssfl-cifar10")
    keys = ["clients=4", "clients_per_round=2", "task.model=cnn-nodrop", "training.epochs=1"]
    small = whole.model_copy(update={"experiment": changed(whole.experiment, keys), "partition_sha256": {}})
    monkeypatch.setattr("lotteryfl.commands.reproduce.protocol", lambda _: small)
    monkeypatch.chdir(tmp_path)
    write_ten(tmp_path / "data", 16, 60)
    result = reproduce(*RUN, "--data-dir", "data", "--run-dir", "run")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "  cannot be compared: 2 rounds of the protocol's 1000"
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["density"]["mean"] == pytest.approx(0.5, abs=1e-4)
    assert load_resolved(tmp_path / "run/experiment.toml").task.data_dir == str(tmp_path / "data")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_real_one_runs_on_local_files_of_cifars_format(tmp_path: Path) -> None:
    write_ten(tmp_path / "data", 100, 1000)
    process = Process(
        *("reproduce", *RUN, "--data-dir", "data", "--run-dir", "run", "--set", "seed=7"), cwd=tmp_path, env={}
    )
    assert process.exit_code(1800) == 0, process.stderr
    assert re.search(
        r"^partition: [0-9a-f]{64}; protocol ssfl-cifar10 has none on record for seed 7$", process.stderr, re.M
    )
    assert process.stdout.splitlines()[-1] == "  cannot be compared: 2 rounds of the protocol's 1000"
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["clients"] == 100
    assert summary["density"]["mean"] == pytest.approx(0.5, abs=1e-6)


def test_a_digest_is_of_every_client_and_every_part() -> None:
    labels = np.arange(60) % 3
    settings = Experiment().partition.model_copy(update={"kind": "iid", "examples_per_client": 5})
    partition = Partition(labels, labels, settings, 3, 0)
    parts = [
        part
        for client in range(3)
        for part in (partition.client(client).train, partition.client(client).validation, partition.client(client).test)
    ]
    expected = hashlib.sha256(b"".join(len(part).to_bytes(8, "little") + part.tobytes() for part in parts)).hexdigest()
    assert partition_digest(partition, 3) == expected
    assert partition_digest(partition, 2) != expected
    assert partition_digest(Partition(labels, labels, settings, 3, 1), 3) != expected


PROTOCOL = protocol("ssfl-digits").model_copy(
    update={
        "published": (Published(strategy="ssfl", score=0.9, where="mean of 5 runs, table 1"),),
        "expected": Expected(low=0.9, high=0.95, why="3 seeds"),
    }
)


def stands(protocol: Protocol, value: float, *overrides: str) -> list[str]:
    scores = {"downloaded_last": value, "personalised_last": 0.0, "global_last": None}
    return standing(protocol, protocol.with_choices(overrides), {"accuracy": scores}).splitlines()


def test_a_result_stands_beside_what_is_published_and_expected() -> None:
    said = stands(PROTOCOL, 0.9123)
    assert said[0] == "ssfl-digits: 0.9123, the shared model on clients' own test data, ssfl, seed 0"
    assert said[1] == "  published: 0.9000, ssfl: mean of 5 runs, table 1"
    assert said[2] == "  expected: 0.9000 to 0.9500 (3 seeds): within"
    assert stands(PROTOCOL, 0.5)[2].endswith("): below")
    assert stands(PROTOCOL, 0.99)[2].endswith("): above")


def test_what_is_expected_is_of_the_protocols_own_strategy() -> None:
    assert [line.split(":")[0] for line in stands(PROTOCOL, 0.9, "strategy.name=fedavg")] == [
        "ssfl-digits",
        "  published",
    ]


def test_the_shared_score_is_the_last_of_its_curve() -> None:
    shared = PROTOCOL.model_copy(update={"score": "shared"})
    curve = [{"round": 0, "examples": 4, "accuracy": 0.1}, {"round": 61, "examples": 4, "accuracy": 0.75}]
    said = standing(shared, shared.experiment, {"accuracy": {}, "global_curve": curve})
    assert said.startswith("ssfl-digits: 0.7500, the shared model on the global test data, ssfl")
    assert standing(shared, shared.experiment, {"accuracy": {}}).startswith("ssfl-digits: was not measured")
