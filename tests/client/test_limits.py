"""What a worker takes on of what its coordinator says, and what it refuses before it spends anything on it."""

import json
import re
from collections.abc import Callable
from typing import Literal

import pytest
from click.testing import CliRunner

from lotteryfl.client.limits import Limits, RefusedError, check_sends
from lotteryfl.commands.work import work
from lotteryfl.common.errors import ExperimentError, PayloadError
from lotteryfl.common.memory.bounds import Bound, host_bound
from lotteryfl.common.memory.need import worker_need
from lotteryfl.common.wire.strategytensor import StrategyTensor, with_tensors
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.support.bench import tiny_experiment, tiny_mlp

DIGEST = "0123456789abcdef" * 4
TABLE = TensorTable.of(tiny_mlp())
EXPERIMENT = tiny_experiment()


def registration(**changes: object) -> pb.RegisterReply:
    reply = pb.RegisterReply(
        worker_id="w:1",
        lease_seconds=60,
        experiment_json=EXPERIMENT.model_dump_json(),
        table_json=TABLE.to_json(),
        initial_digest=DIGEST,
        run_id="0" * 32,
    )
    for name, value in changes.items():
        setattr(reply, name, value)
    return reply


def experiment_json(section: str, key: str, value: object) -> str:
    table = EXPERIMENT.model_dump()
    table[section][key] = value
    return json.dumps(table)


def one_tensor(*shape: int) -> str:
    row = {"name": "w", "dtype": "F32", "shape": shape, "role": "parameter", "prunable": True, "aliases": []}
    return json.dumps([row])


def test_a_registration_that_makes_sense_is_read() -> None:
    assert Limits().check_registration(registration()) == (EXPERIMENT, TABLE)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"lease_seconds": float("nan")}, RefusedError, r"lease_seconds = nan: expected 1 to 604800$"),
        ({"lease_seconds": float("inf")}, RefusedError, "lease_seconds = inf: "),
        ({"lease_seconds": 0.0}, RefusedError, r"lease_seconds = 0\.0: "),
        ({"initial_digest": "../../etc/passwd"}, RefusedError, "initial_digest = '../../etc/passwd': expected 64 hex"),
        ({"initial_digest": DIGEST.upper()}, RefusedError, "initial_digest = "),
        ({"initial_digest": ""}, RefusedError, "initial_digest = ''"),
        ({"worker_id": "w" * 301}, RefusedError, "worker_id = .*: expected at most 300 characters"),
        ({"run_id": "r" * 301}, RefusedError, "run_id = .*: expected at most 300 characters"),
        (
            {"task_version_json": "["},
            RefusedError,
            r"task_version_json = '\[': expected digests of files, ",
        ),
        ({"task_version_json": '{"a.py": "1"}'}, RefusedError, "task_version_json = "),
        ({"experiment_json": "["}, ExperimentError, "the coordinator's experiment: "),
        ({"experiment_json": "{}" + " " * 2**20}, ExperimentError, f"{2**20 + 2} characters, expected at most {2**20}"),
        ({"experiment_json": '{"speed": 1}'}, ExperimentError, "unknown key speed = 1"),
        ({"experiment_json": experiment_json("training", "threads", 10**6)}, ExperimentError, "training.threads = "),
        ({"experiment_json": experiment_json("aggregation", "rule", "magic")}, ExperimentError, "aggregation.rule = "),
        ({"table_json": "["}, PayloadError, "tensor table: "),
        ({"table_json": " " * (64 * 2**20 + 1)}, PayloadError, "characters, expected at most"),
        ({"table_json": one_tensor(2**39, 2**39)}, PayloadError, "bytes of tensors, expected at most"),
        ({"table_json": one_tensor(*[1] * 17)}, PayloadError, "at most 16 items"),
        ({"table_json": one_tensor(-1)}, PayloadError, "greater than or equal to 0"),
    ],
)
def test_a_registration_that_does_not_is_refused(
    changes: dict[str, object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        Limits().check_registration(registration(**changes))


def test_a_model_beyond_the_memory_is_refused() -> None:
    needed = worker_need(TABLE, EXPERIMENT).host.nbytes
    assert needed > 5 * TABLE.nbytes
    Limits(max_memory=Bound(needed, "--max-memory")).check_registration(registration())
    with pytest.raises(
        RefusedError,
        match=r"the coordinator's model takes .* this worker takes on .* \(--max-memory\): .*θ_0 .* model .*masks ",
    ):
        Limits(max_memory=Bound(needed - 1, "--max-memory")).check_registration(registration())
    with pytest.raises(RefusedError, match=r"the coordinator's model takes .* \(half of .*memory"):
        Limits().check_registration(registration(table_json=one_tensor(2**37)))


def test_where_two_assignments_do_not_fit_it_is_said_by_part() -> None:
    two = worker_need(TABLE, EXPERIMENT).with_next().host.nbytes
    assert Limits(max_memory=Bound(two, "--max-memory")).excess_of_two(TABLE, EXPERIMENT) == ""
    excess = Limits(max_memory=Bound(two - 1, "--max-memory")).excess_of_two(TABLE, EXPERIMENT)
    assert re.fullmatch(r".*, and this worker takes on .* \(--max-memory\): .*next model .*", excess)


def test_a_coordinator_cannot_fill_the_memory_with_who_holds_what() -> None:
    """What a million clients draw of ten thousand classes each is longer than any model."""
    many = tiny_experiment(
        clients=10**6, task={"name": "digits"}, partition={"kind": "n-class", "classes_per_client": 10**4}
    )
    with pytest.raises(RefusedError, match=r"takes 640\.\d GB, .*: index lists 640\.0 GB"):
        Limits().check_registration(registration(experiment_json=many.model_dump_json()))


def assignment() -> pb.Assignment:
    prune = pb.Plan.Prune(rate=0.2, target_density=0.1, accuracy_threshold=0.0)
    plan = pb.Plan(prune=prune, rewind=pb.Plan.INITIAL, train=pb.Plan.Train(epochs=5))
    return pb.Assignment(assignment_id="r1-c0-a1", client=2, plan=plan, mask_digest=DIGEST)


def setting(path: str, value: object) -> Callable[[pb.Assignment], None]:
    def change(message: pb.Assignment) -> None:
        *parents, field = path.split(".")
        target = message
        for name in parents:
            target = getattr(target, name)
        setattr(target, field, value)

    return change


@pytest.mark.parametrize("name", ["assignment", "plan", "train"])
def test_what_this_version_does_not_know_is_not_passed_over(name: str) -> None:
    message = assignment()
    part = {"assignment": message, "plan": message.plan, "train": message.plan.train}[name]
    part.MergeFromString(b"\x98\x06\x01")  # field 99 = 1
    with pytest.raises(RefusedError) as caught:
        Limits().check_assignment(message, EXPERIMENT, None)
    assert str(caught.value) == (
        f"the coordinator's {name} has a field 99, which this version does not know: a newer lotteryfl sent it"
    )


def test_an_assignment_within_the_bounds_is_taken_on() -> None:
    Limits().check_assignment(assignment(), EXPERIMENT, None)
    Limits(max_epochs=5).check_assignment(assignment(), EXPERIMENT, {2})
    Limits().check_assignment(pb.Assignment(assignment_id="r1-c0-a1", plan=assignment().plan), EXPERIMENT, None)
    Limits().check_assignment(
        pb.Assignment(assignment_id="r1-c0-a1", plan=pb.Plan(measure_saliency=True)), EXPERIMENT, None
    )


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("plan.train.epochs", 1001, r"plan\.train\.epochs = 1001: expected 1 to 1000 \(--max-epochs\)"),
        ("plan.train.epochs", 0, r"plan\.train\.epochs = 0: "),
        ("plan.train.steps", 1_000_001, r"plan\.train\.steps = 1000001: expected at most 1000000, 1000 for each of"),
        ("plan.rewind", 7, r"plan\.rewind = 7: expected one of NONE, INITIAL"),
        ("plan.prune.scope", 3, r"plan\.prune\.scope = 3: expected one of GLOBAL, LAYER, ROWS"),
        ("plan.prune.rate", float("nan"), r"plan\.prune\.rate = nan: expected a share"),
        ("plan.prune.rate", 1.5, r"plan\.prune\.rate = 1\.5: "),
        ("plan.prune.target_density", 0.0, r"plan\.prune\.target_density = 0\.0: "),
        ("plan.prune.accuracy_threshold", -0.1, r"plan\.prune\.accuracy_threshold = -0\.1: "),
        ("plan.prune.min_mask_change", 2.0, r"plan\.prune\.min_mask_change = 2\.0: expected a share"),
        ("plan.readjust.rate", 1.5, r"plan\.readjust\.rate = 1\.5: expected a share"),
        ("plan.free_mask.density", 1.5, r"plan\.free_mask\.density = 1\.5: expected a share"),
        ("plan.select.limit", float("nan"), r"plan\.select\.limit = nan: expected a share"),
        ("plan.train.proximal", float("inf"), r"plan\.train\.proximal = inf: expected a finite number"),
        ("plan.train.lr", float("nan"), r"plan\.train\.lr = nan: expected a finite number above 0, or none"),
        ("plan.train.lr", -0.1, r"plan\.train\.lr = -0\.1: expected a finite number above 0"),
        ("plan.prune.score_threshold", float("nan"), r"plan\.prune\.score_threshold = nan: expected a finite number"),
        ("client", 4, "client = 4: expected one of this worker's"),
        ("mask_digest", "../mask", "mask_digest = '../mask': expected 64 hexadecimal digits, or none"),
        ("base_digest", DIGEST[1:], "base_digest = "),
        ("assignment_id", "../../x", "assignment_id = '../../x': "),
        ("assignment_id", "", "assignment_id = '': "),
        ("assignment_id", "r" * 65, "assignment_id = "),
    ],
)
def test_an_assignment_beyond_them_is_refused(path: str, value: object, message: str) -> None:
    asked = assignment()
    setting(path, value)(asked)
    with pytest.raises(RefusedError, match=f"^the coordinator's {message}"):
        Limits().check_assignment(asked, EXPERIMENT, None)


def test_a_shared_model_that_is_not_there_cannot_be_measured() -> None:
    asked = pb.Assignment(assignment_id="r1-c0-a1", plan=assignment().plan, base_digest=DIGEST)
    asked.plan.measure_shared = True
    Limits().check_assignment(asked, EXPERIMENT, None)
    asked.base_digest = ""
    with pytest.raises(RefusedError, match="base_digest = '': expected that of the model that its plan measures"):
        Limits().check_assignment(asked, EXPERIMENT, None)


def test_a_client_whose_data_is_elsewhere_is_refused() -> None:
    with pytest.raises(RefusedError, match="client = 2: expected one of this worker's"):
        Limits().check_assignment(assignment(), EXPERIMENT, {0, 1, 3})


def test_the_options_say_their_defaults() -> None:
    text = " ".join(CliRunner().invoke(work, ["--help"]).output.split())
    assert "--max-epochs INTEGER RANGE Refuse assignments of more epochs. [default: 1000; x>=1]" in text
    assert "--max-memory GIB Refuse models that take more. [default: half of the machine's" in text
    assert Limits() == Limits(1000, host_bound().halved())
    assert host_bound().halved().nbytes > 2**20


@pytest.mark.parametrize("role", ["shared", "own", "up"])
def test_tensors_of_a_strategy_are_within_the_operators_bound(role: Literal["shared", "own", "up"]) -> None:
    table = with_tensors(TABLE, (StrategyTensor("huge", role, (1 << 28,)),))
    limits = Limits(max_memory=Bound(1 << 30, "of a test"))
    assert limits.check_registration(registration())
    with pytest.raises(RefusedError, match=r"the coordinator's model takes [24]\.\d GB, .* strategy's tensors 1\.1 GB"):
        limits.check_registration(registration(table_json=table.to_json()))


def test_what_is_to_be_sent_has_to_be_there() -> None:
    declared = (StrategyTensor("scores", "up", like="prunable"), StrategyTensor("control", "shared"))
    table = with_tensors(TABLE, declared)
    check_sends(pb.Plan(sends=["scores", "scores:0.weight", "sc*"]), table)
    for name in ("control", "scores:1.weight", "0.weight", ""):
        with pytest.raises(
            RefusedError, match=f"plan.sends = '{name}': expected a name among the tensors of its table"
        ):
            check_sends(pb.Plan(sends=["scores", name]), table)
