"""Protocols are frozen: whoever changes one gives it a new name."""

import hashlib
from importlib import resources

import pytest

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.experiment import changed
from lotteryfl.protocols import names, protocol, protocol_of
from lotteryfl.protocols.files import parsed
from lotteryfl.server.strategies import STRATEGIES

SHA256 = {
    "dispfl-cifar10": "16d55aa8d1b127a4bd42265616353f126a478e83d232a87beded67d84f1725be",
    "dispfl-cifar10-01": "a4a372a34e56dd9483f501df28835147c2a3f9c890e6ee69b2d6728781f135c2",
    "fedpruning-fedrts-cifar10": "bd89bf4be64d802abbbea1e621f14b3b23394f2560377f888f3ff26531f81c8a",
    "flasc-cifar10": "d781c55599d2fc20c4b53a320a55183f163af7b6f25a8b7151baeed5309802bc",
    "lotteryfl-official-cifar10": "7ba7de41c1d4bcc908e447d3d7cca80efd4771a335bc785b5a5247aa49d86bc8",
    "lotteryfl-official-fashion-mnist": "80703e9846cd461258cb68484b8a1f424ff105d4fcf06046aede2a2c21d71cf3",
    "lotteryfl-official-mnist": "ead527d33e5c9f4779a012752e7cc03dcba7728671e293bb2d98017cad8e1249",
    "lotteryfl-paper-fashion-mnist": "f65175c1c3c9f8d8c50dd6cd16edf5a026d44e0805fa0eb554f881bccb31041a",
    "lotteryfl-paper-mnist": "3cb34a066d3e05e0be6a019bae2148e3d67caa738b7c530a8929880723972d0d",
    "pfllib-cifar10": "636b1c3efe7b96821d06b301f16866511f1aeebfef4cb4ce0d21b3ad7c795148",
    "pfllib-fashion-mnist": "31e4f0c27061231c154aec0fa93215a4eb7a237b4313bb06c6ebd28c947cb0c4",
    "ssfl-cifar10": "af081f6d6085d080808c5adf4878a447ecb785c397fd27c4bedb6677a311a84a",
    "ssfl-cifar100": "b601896d77a68ab3d55cd70c7b41b74520ede64164b791b61e7e04b3e0cb7c41",
    "ssfl-digits": "de0ec8e8b78b12012d9667660c4628c6d360ab847dffa3220194f8c6ca0c52ed",
    "ssfl-fashion": "bc515fd4db20326536fb55427c1d6152ad7cb158585d1d9263c2718a33b73816",
}


def content(name: str) -> bytes:
    return resources.files("lotteryfl.protocols").joinpath(f"{name}.toml").read_bytes()


def test_no_protocol_has_changed() -> None:
    assert {name: hashlib.sha256(content(name)).hexdigest() for name in names()} == SHA256


@pytest.mark.parametrize("name", SHA256)
def test_a_file_is_called_as_its_protocol_and_an_experiment_that_runs(name: str) -> None:
    found = protocol(name)
    assert found.name == name
    assert found.experiment.strategy.name in STRATEGIES
    assert all(entry.strategy for entry in found.published)


@pytest.mark.parametrize("name", SHA256)
def test_a_run_belongs_to_a_protocol_because_it_is_it(name: str) -> None:
    found = protocol(name)
    assert protocol_of(found.experiment) is found
    assert (
        protocol_of(changed(found.experiment, ["training.threads=3", "round.lease=90", "task.data_dir=/data"])) is found
    )
    if "seed" in found.open:
        assert protocol_of(changed(found.experiment, ["seed=17"])) is found
    assert protocol_of(changed(found.experiment, [f"training.lr={found.experiment.training.lr * 1.5}"])) is not found


def test_what_is_open_may_be_chosen_and_nothing_else() -> None:
    found = protocol("ssfl-digits")
    chosen = found.with_choices(["strategy.name=fedavg", "seed=3"])
    assert (chosen.strategy.name, chosen.seed, chosen.rounds) == ("fedavg", 3, found.experiment.rounds)
    assert protocol_of(chosen) is found
    with pytest.raises(
        ExperimentError, match=r"^--set training.lr: protocol ssfl-digits fixes it; open there: access, "
    ):
        found.with_choices(["training.lr=1"])
    with pytest.raises(ExperimentError, match=r"^--set rounds: protocol ssfl-digits fixes it"):
        found.with_choices(["rounds=1"])
    with pytest.raises(ExperimentError, match=r"^(?!.*fixes it).*nosuch"):
        found.with_choices(["strategy.nosuch=3"])
    with pytest.raises(ExperimentError, match=r"^(?!.*fixes it).*nosuch"):
        found.with_choices(["nosuch.key=3"])
    with pytest.raises(ExperimentError, match=r"^--rounds 2147483647: training\.schedule\.gamma = "):
        protocol("ssfl-fashion").with_choices([], rounds=2**31 - 1)


def test_with_fewer_rounds_it_is_no_run_of_the_protocol() -> None:
    short = protocol("ssfl-digits").with_choices([], rounds=2)
    assert short.rounds == 2
    assert protocol_of(short) is None


def test_what_is_wrong_with_a_file_is_said_in_a_line() -> None:
    with pytest.raises(ExperimentError, match=r"^protocol 'nothing': expected one of .*ssfl-cifar10"):
        protocol("nothing")
    about = {"name": "mine", "title": "", "source": "", "data": ""}
    for wrong, said in (
        ({"name": "My one"}, r"protocol.name = 'My one': expected small letters, digits and hyphens"),
        ({"expected": {"low": 1.0, "high": 0.5, "why": ""}}, r"expected.low = 1: must be at most expected.high = 0.5"),
        ({"partition_sha256": {"0": "abc"}}, r"partition_sha256.0 = 'abc'"),
        ({"author": "me"}, r"unknown key author = 'me'; allowed here: name, title, source"),
    ):
        with pytest.raises(ExperimentError, match=said):
            parsed({"protocol": {**about, **wrong}}, "mine.toml")
