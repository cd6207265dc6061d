"""Files of local algorithms: what is found in them, and what is refused before anybody trains."""

from pathlib import Path

import pytest

from lotteryfl.client.limits import RefusedError
from lotteryfl.client.local.files import load_local
from lotteryfl.client.local.registered import check_local, local_of
from lotteryfl.common.errors import LocalAlgorithmError, LocalVersionError
from lotteryfl.protos import lotteryfl_pb2 as pb

HEAD = "from lotteryfl import LocalAlgorithm\n\n"
MINE = f"{HEAD}class Mine(LocalAlgorithm):\n    name = 'mine'\n"


def written(folder: Path, text: str, name: str = "own_algorithm.py") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_every_class_of_a_files_own_is_taken_from_several_files(tmp_path: Path) -> None:
    (tmp_path / "own_sums.py").write_text("def total(values):\n    return sum(values)\n")
    first = written(
        tmp_path,
        f"{MINE}\n    def before_step(self, step):\n        self._sum(step)\n\n    def _sum(self, step):\n"
        "        import own_sums\n\nclass Other(Mine):\n    name = 'other'\n",
    )
    second = written(tmp_path, f"from own_algorithm import Mine\n{MINE.replace('mine', 'third')}", "own_second.py")
    found = load_local([first, second])
    assert {"mine", "other", "third"} <= found.keys()
    assert (found["mine"].source, found["mine"].file) == (first, first)
    assert set(found["mine"].version.files) == {"own_algorithm.py", "own_sums.py"}
    assert found["mine"].digest != found["third"].digest


def test_a_file_that_is_for_strategies_may_hold_none(tmp_path: Path) -> None:
    strategies = written(tmp_path, "class Nothing:\n    pass\n", "own_strategy.py")
    assert "mine" in load_local([written(tmp_path, MINE)], [strategies])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEAD}", "holds no class that is a lotteryfl.LocalAlgorithm"),
        ("import nothing_of_the_kind", "import failed at .*own_algorithm.py:1: ModuleNotFoundError: No module named"),
        (
            f"{HEAD}class Mine(LocalAlgorithm):\n    pass\n",
            "class Mine has name = '': expected what its strategy calls",
        ),
        (
            f"{MINE}\n    def before_steps(self, step):\n        pass\n",
            r"class Mine has a method before_steps\(\), which is no hook: hooks are begin, .*, personalised; a help",
        ),
        (
            f"{MINE}\n    def loss(self, model, batch):\n        pass\n",
            r"class Mine: loss\(self, model, batch\): expected loss\(self, model, batch, loss_of\)$",
        ),
        (f"{MINE}\n\nclass Two(Mine):\n    pass\n", "class Two has name = 'mine', which is .*own_algorithm.py already"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    source = written(tmp_path, text)
    with pytest.raises(LocalAlgorithmError, match=f"^--local {source}: {message}") as caught:
        load_local([source])
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalAlgorithmError, match=r"there is no file .*own_algorithm\.py$"):
        load_local([str(tmp_path / "own_algorithm.py")])


def test_a_worker_has_what_its_coordinator_has_or_says_what_differs(tmp_path: Path) -> None:
    source = written(tmp_path, MINE)
    code = load_local([source])["mine"]
    same = pb.RegisterReply(local=pb.LocalVersion(name="mine", version_json=code.version.to_json()))
    assert local_of(pb.RegisterReply(), [source], any_version=False) is None
    assert local_of(same, [source], any_version=False) is not None
    unsaid = pb.RegisterReply(local=pb.LocalVersion(name="mine"))
    assert local_of(unsaid, [source], any_version=False) is not None
    with pytest.raises(
        LocalVersionError, match="'mine', which the run's plans name, is not here: name its file with --"
    ):
        local_of(same, [], any_version=False)
    written(tmp_path, f"{MINE}\n# edited\n")
    with pytest.raises(
        LocalVersionError, match=r"mine: this worker's version is not .*: 'own_algorithm\.py' differs; "
    ):
        local_of(same, [source], any_version=False)
    assert local_of(same, [source], any_version=True) is not None
    damaged = pb.RegisterReply(local=pb.LocalVersion(name="mine", version_json="[7]"))
    with pytest.raises(RefusedError, match=r"local\.version_json = .*: expected digests of files"):
        local_of(damaged, [source], any_version=False)


def test_plans_are_checked_before_they_are_followed(tmp_path: Path) -> None:
    code = load_local([written(tmp_path, MINE)])["mine"]
    check_local(pb.Assignment(), None, any_version=False)
    check_local(assigned(pb.Plan(local=pb.Plan.Local(name="mine", digest=code.digest))), code, any_version=False)
    other = pb.Plan(local=pb.Plan.Local(name="mine", digest="0" * 64))
    check_local(assigned(other), code, any_version=True)
    for plan, message in (
        (other, "local.digest = '0+': expected that of the version here"),
        (
            pb.Plan(local=pb.Plan.Local(name="other")),
            "local.name = 'other': expected 'mine', as it said at registration",
        ),
        (pb.Plan(local=pb.Plan.Local(name="mine", options_json="[1]")), r"options_json = '\[1\]': expected an object"),
        (pb.Plan(local=pb.Plan.Local(name="mine"), measure_saliency=True), "expected none in a plan that measures"),
        (
            pb.Plan(local=pb.Plan.Local(name="mine"), readjust=pb.Plan.Readjust(rate=0.1)),
            "none in a plan that exchange",
        ),
    ):
        with pytest.raises(RefusedError, match=message):
            check_local(assigned(plan), code, any_version=False)
    late = pb.Plan.Readjust(rate=0.1, after_training=True)
    check_local(assigned(pb.Plan(local=pb.Plan.Local(name="mine"), readjust=late)), code, any_version=False)
    with pytest.raises(RefusedError, match=r"local\.name = 'mine': expected None, as it said"):
        check_local(assigned(pb.Plan(local=pb.Plan.Local(name="mine"))), None, any_version=False)
    stacked = pb.Assignment(plan=pb.Plan(local=pb.Plan.Local(name="mine")), stack=pb.Stack(rows=2))
    with pytest.raises(RefusedError, match="none in a plan that is one of a stack's"):
        check_local(stacked, code, any_version=False)


def assigned(plan: pb.Plan) -> pb.Assignment:
    return pb.Assignment(plan=plan)
