"""What Prometheus reads of a coordinator: counted once, kept over a restart, and naming nobody."""

import re
import shutil
from collections.abc import Callable

from prometheus_client import generate_latest
from prometheus_client.registry import CollectorRegistry

from lotteryfl.common.prometheus.described import Numbers
from lotteryfl.common.telemetry.stages import Stages
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.prometheus.collector import CoordinatorCollector
from lotteryfl.server.prometheus.table import METRICS
from lotteryfl.server.rounds.machine import Machine
from lotteryfl.server.store.traffic import Traffic
from tests.conftest import Drive
from tests.support.bench import Bench, tiny_experiment


def at_once(read: Callable[[], Numbers]) -> Numbers:
    return read()


def collector_of(bench: Bench, stages: Stages | None = None) -> CoordinatorCollector:
    return CoordinatorCollector(bench.run, bench.coordinator, stages or Stages(), at_once, clock=lambda: bench.now)


def read(collector: CoordinatorCollector) -> dict[str, float]:
    """Return by NAME, or NAME/LABEL, what is there."""
    return {
        "/".join([sample.name, *sample.labels.values()]): sample.value
        for family in collector.collect()
        for sample in family.samples
    }


def ended(found: dict[str, float]) -> dict[str, float]:
    """Return how many leases have ended how, if any have."""
    prefix = "lotteryfl_leases_ended_total/"
    return {name.removeprefix(prefix): each for name, each in found.items() if name.startswith(prefix) and each}


def test_what_happens_to_assignments_is_counted(drive: Drive) -> None:
    bench = drive(tiny_experiment(round={"leases": 1}))
    collector = collector_of(bench)
    first, second = bench.register("first"), bench.register("second")
    work = bench.take(first)
    bench.coordinator.release(first, work.assignment.assignment_id, "stopped")
    answer = bench.do(bench.take(first))
    assert bench.submit(first, answer).verdict == pb.SubmitReply.ACCEPTED
    assert bench.submit(first, answer).verdict == pb.SubmitReply.DUPLICATE
    spoiled = bench.do(bench.take(first))
    spoiled.entries.popitem()
    assert bench.submit(first, spoiled).verdict == pb.SubmitReply.REFUSED
    assert bench.submit(second, spoiled).verdict == pb.SubmitReply.STALE
    bench.take(second)
    for _ in range(3):
        bench.now += 5
        bench.coordinator.heartbeat(first, ())
        bench.coordinator.advance()
    found = read(collector)
    assert found["lotteryfl_leases_given_total"] == 4
    assert ended(found) == {"handed_back": 1, "returned": 1, "refused": 1, "expired": 1}
    assert found["lotteryfl_results_accepted_total"] == found["lotteryfl_results_refused_total"] == 1
    assert found["lotteryfl_results_unwanted_total/duplicate"] == found["lotteryfl_results_unwanted_total/stale"] == 1
    assert found["lotteryfl_round_assignments/done"] == 1
    assert found["lotteryfl_round_assignments/waiting"] == 2
    assert found["lotteryfl_run_state/running"] == 1
    assert (found["lotteryfl_round"], found["lotteryfl_rounds_planned"]) == (1, 3)


def test_who_is_put_aside_is_counted_and_not_named(drive: Drive) -> None:
    bench = drive(tiny_experiment(checks={"max_refusals": 1}))
    worker = bench.register("clinic-a")
    spoiled = bench.do(bench.take(worker))
    spoiled.entries.popitem()
    bench.submit(worker, spoiled)
    found = read(collector_of(bench))
    assert found["lotteryfl_workers_aside"] == 1
    assert found["lotteryfl_workers/cpu"] == 0
    assert not any("clinic" in name for name in found)


def test_facts_of_a_run_are_there_after_a_restart_and_the_rest_begins_anew(drive: Drive) -> None:
    bench = drive()
    collector = collector_of(bench)
    worker = bench.register()
    read(collector)  # what is read round by round is what is read at once
    for _ in range(2):
        for work in iter(lambda: bench.coordinator.lease(worker), None):
            bench.coordinator.count_bytes(work.assignment.assignment_id, down=100, up=10)
            bench.submit(worker, bench.do(work))
        bench.now += 3
        bench.commit()
        read(collector)
    bench.now += 2
    before = read(collector)
    found = read(collector_of(bench.restart()))
    kept = {name for each in METRICS if each.since == "run" for name in each.samples}
    assert {name: found[name] for name in found if name.partition("/")[0] in kept} == {
        name: before[name] for name in before if name.partition("/")[0] in kept
    }
    assert found["lotteryfl_rounds_committed_total"] == found["lotteryfl_round_seconds_count"] == 2
    assert found["lotteryfl_round_seconds_sum"] == 6
    assert (found["lotteryfl_round_seconds_bucket/2.5"], found["lotteryfl_round_seconds_bucket/5.0"]) == (0, 2)
    assert found["lotteryfl_results_accepted_total"] == 6
    assert found["lotteryfl_traffic_bytes_total/down"] == 600
    assert 0 < found["lotteryfl_score/personalised"] <= 1
    assert 0.5 <= found["lotteryfl_density"] < 1
    assert found["lotteryfl_train_loss"] > 0
    assert "lotteryfl_privacy_epsilon" not in found
    assert before["lotteryfl_leases_given_total"] == 6
    assert found["lotteryfl_leases_given_total"] == 0


def test_bytes_that_a_kill_would_forget_are_not_told_of(drive: Drive) -> None:
    """Else the counter would go back, and whoever takes its rate would count all bytes of the run again."""
    bench = drive()
    worker = bench.register()
    work = bench.take(worker)
    bench.coordinator.count_bytes(work.assignment.assignment_id, down=100, up=10)
    bench.coordinator.count_bytes("", down=1000)
    assert read(collector_of(bench))["lotteryfl_traffic_bytes_total/down"] == 0
    bench.submit(worker, bench.do(work))
    found = read(collector_of(bench))
    assert found["lotteryfl_traffic_bytes_total/down"] == 1100 == Traffic(bench.run.database).down
    assert found["lotteryfl_traffic_bytes_total/up"] == 10


def test_what_workers_call_their_devices_becomes_no_label(drive: Drive) -> None:
    bench = drive()
    for number, device in enumerate(("cuda:1", "cuda:0", "cpu", "clinic_a", "")):
        bench.coordinator.register(f"worker-{number}", "1", None, Machine(device))
    bench.now += 8
    bench.register("alive")  # with nothing said of its device
    bench.now += 8
    assert read(collector_of(bench))["lotteryfl_workers/unknown"] == 1, "the others were silent for too long"
    for number, device in enumerate(("cuda:1", "cuda:0", "cpu", "clinic_a", "")):
        bench.coordinator.register(f"worker-{number}", "2", None, Machine(device))
    collector = collector_of(bench)
    found = {name: each for name, each in read(collector).items() if name.startswith("lotteryfl_workers/") and each}
    assert found == {
        "lotteryfl_workers/cuda": 2,
        "lotteryfl_workers/cpu": 1,
        "lotteryfl_workers/other": 1,
        "lotteryfl_workers/unknown": 2,
    }
    registry = CollectorRegistry()
    registry.register(collector)
    text = generate_latest(registry).decode()
    assert "clinic" not in text
    assert "worker-" not in text
    labels = set(re.findall(r'[{,](\w+)="', text))
    assert labels == {"device", "direction", "how", "le", "score", "stage", "state", "strategy", "torch"} | {
        "verdict",
        "version",
    }


def test_the_disk_and_the_last_steps_of_rounds_are_told(drive: Drive) -> None:
    bench, stages = drive(), Stages()
    with stages.within("aggregate"):
        pass
    found = read(collector_of(bench, stages))
    assert found["lotteryfl_run_directory_disk_bytes"] == shutil.disk_usage(bench.path).total
    assert 0 < found["lotteryfl_run_directory_free_bytes"] < found["lotteryfl_run_directory_disk_bytes"]
    assert found["lotteryfl_round_stage_seconds_count/aggregate"] == 1
    assert found["lotteryfl_round_stage_seconds_count/commit"] == 0


def test_loss_that_privacy_keeps_back_is_not_told_and_what_is_spent_is(drive: Drive) -> None:
    privacy = {"clip_norm": 1.0, "noise": "client"}
    bench = drive(tiny_experiment(strategy={"name": "fedavg"}, privacy=privacy))
    worker = bench.register()
    bench.do_all(worker)
    bench.commit()
    found = read(collector_of(bench))
    assert "lotteryfl_train_loss" not in found
    assert found["lotteryfl_privacy_epsilon"] > 0


def test_the_coordinator_is_asked_once_a_second_whoever_asks(drive: Drive) -> None:
    bench = drive()
    asked = []

    def ask(read_: Callable[[], Numbers]) -> Numbers:
        asked.append(bench.now)
        return read_()

    collector = CoordinatorCollector(bench.run, bench.coordinator, Stages(), ask, clock=lambda: bench.now)
    for bench.now in (0.0, 0.1, 0.9, 1.0, 1.5, 2.5):
        list(collector.collect())
    assert asked == [0.0, 1.0, 2.5]
