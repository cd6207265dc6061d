"""A run and the versions of its own code, task and local algorithm: on record, and none is changed unnoticed."""

from pathlib import Path

import pytest

from lotteryfl.common.errors import ExperimentError, LocalVersionError, LotteryFLError, TaskVersionError
from lotteryfl.common.experiment.experiment import validate
from lotteryfl.common.names import Digest
from lotteryfl.common.owncode.sourceversion import SourceVersion
from lotteryfl.common.wire.localcode import version_digest
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.running.opened import opened_again, opened_new
from lotteryfl.running.owncode import OwnCode
from lotteryfl.server.results.verify import verify
from lotteryfl.server.rounds.codeversion import bind_local, local_code, local_version, task_version
from lotteryfl.server.rounds.setup import create_run
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.strategies import STRATEGIES
from lotteryfl.server.strategies.base import ClientState, Strategy
from lotteryfl.server.strategies.fedavg import FedAvg
from tests.conftest import Drive
from tests.support.bench import tiny_experiment

TASK = """
from torch import nn

def model():
    import own_shapes
    return nn.Linear(own_shapes.INPUTS, 2)

def client(k, experiment):
    raise NotImplementedError
"""


@pytest.fixture
def task(tmp_path: Path) -> str:
    (tmp_path / "own_shapes.py").write_text("INPUTS = 4\n")
    (tmp_path / "own_version.py").write_text(TASK)
    return str(tmp_path / "own_version.py")


@pytest.fixture
def run(tmp_path: Path, task: str) -> Path:
    experiment = validate({"task": {"name": task}}, "test")
    create_run(tmp_path / "run", experiment, (task,)).close()
    return tmp_path / "run"


def test_the_edited_task_is_refused_until_it_is_wanted(tmp_path: Path, task: str, run: Path) -> None:
    with opened_again(run, OwnCode((task,))) as opened:
        assert set(task_version(opened.directory).files) == {"own_shapes.py", "own_version.py"}
    (tmp_path / "own_shapes.py").write_text("INPUTS = 4  # and no more\n")
    experiment = validate({"task": {"name": task}}, "test")
    for taken_up in (lambda: opened_again(run, OwnCode((task,))), lambda: opened_new(experiment, run)):
        with pytest.raises(TaskVersionError) as caught, taken_up():
            pass
        assert str(caught.value) == (
            f"{run}: is the run of another version of task own_version: 'own_shapes.py' differs; "
            "--any-task-version goes on with this one, another --run-dir begins anew"
        )
    with opened_again(run, OwnCode((task,), any_task_version=True)) as opened:
        assert opened.command("run").endswith(f"--task={task} --any-task-version")
    with opened_again(run, OwnCode((task,))) as opened:
        assert "--any-task-version" not in opened.command("run"), "it is the run's now"
    assert verify(run).problems == 0


def test_a_run_from_before_is_bound_when_it_is_taken_up(tmp_path: Path, task: str, run: Path) -> None:
    with RunDirectory(run) as directory, directory.database.transaction():
        directory.database.put("task_versions", "")
    (tmp_path / "own_shapes.py").write_text("INPUTS = 4  # and no more\n")
    with opened_again(run, OwnCode((task,))) as opened:
        assert task_version(opened.directory)
    (tmp_path / "own_shapes.py").write_text("INPUTS = 4\n")
    with pytest.raises(TaskVersionError), opened_again(run, OwnCode((task,))):
        pass


@pytest.mark.parametrize("text", ["{", "7", "[7]", '[{"a.py": "x"}]'])
def test_a_record_that_is_damaged_is_named(text: str, task: str, run: Path) -> None:
    with RunDirectory(run) as directory, directory.database.transaction():
        directory.database.put("task_versions", text)
    with (
        pytest.raises(LotteryFLError, match=r"run\.db: task_versions cannot be read: "),
        opened_again(run, OwnCode((task,))),
    ):
        pass


def test_built_in_tasks_have_none(tmp_path: Path) -> None:
    with create_run(tmp_path / "run", validate({}, "test"), ()) as run:
        assert not task_version(run)
        assert run.database.get("task_versions") == ""


class Mine(FedAvg):
    name = "mine"
    local = "mine"
    named = "mine"

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        plan = pb.Plan(train=self.local_training(), local=self.local_plan({"mu": 0.5}))
        plan.local.name = self.named
        return plan


class Another(Mine):
    name = "another"
    named = "nobody's"


class Measuring(Mine):
    name = "measuring"

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        return pb.Plan(measure_saliency=True, local=self.local_plan())


@pytest.mark.usefixtures("own_strategies")
def test_plans_are_given_out_with_the_version_that_the_run_has_now(drive: Drive) -> None:
    STRATEGIES["mine"] = Mine
    bench = drive(tiny_experiment(strategy={"name": "mine"}))
    plan = bench.take(bench.register()).assignment.plan
    assert (plan.local.name, plan.local.digest, plan.local.options_json) == ("mine", "", '{"mu": 0.5}')
    for number in (1, 2):
        version = SourceVersion({"own.py": Digest(str(number) * 64)})
        bind_local(bench.run, "mine", version, any_version=number == 2)
        coordinator = bench.restart().coordinator
        assert bench.take(bench.register("w", f"again {number}")).assignment.plan.local.digest == version_digest(
            version
        )
        told = local_code(bench.run, coordinator.strategy)
        assert told == pb.LocalVersion(name="mine", version_json=version.to_json())
        assert local_version(bench.run) == version
    with pytest.raises(LocalVersionError) as caught:
        bind_local(bench.run, "mine", SourceVersion({"own.py": Digest("1" * 64)}))
    assert str(caught.value) == (
        f"{bench.path}: is the run of another version of local algorithm mine: 'own.py' differs; "
        "--any-local-version goes on with this one"
    )
    without = drive(name="without")
    assert local_code(without.run, without.coordinator.strategy) is None


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (Another, "a plan names local algorithm \"nobody's\": expected that of its class, local = 'mine'"),
        (
            Measuring,
            "a plan with local algorithm 'mine' measures saliencies in place of training: expected one of them",
        ),
    ],
)
@pytest.mark.usefixtures("own_strategies")
def test_plans_that_cannot_be_followed_are_refused_in_one_line(
    drive: Drive, strategy: type[Strategy], message: str
) -> None:
    STRATEGIES[strategy.name] = strategy
    with pytest.raises(ExperimentError) as caught:
        drive(tiny_experiment(strategy={"name": strategy.name}))
    assert str(caught.value).startswith(f"strategy.name = {strategy.name!r}: {message}")


def test_options_are_what_json_has() -> None:
    strategy = Mine(tiny_experiment())
    with pytest.raises(ExperimentError, match=r"^strategy\.name = 'mine': options of 'mine': .* not JSON serial"):
        strategy.local_plan({"model": object()})
    with pytest.raises(ExperimentError, match=r"^strategy\.name = 'mine': options of 'mine': Out of range float"):
        strategy.local_plan({"mu": float("nan")})
