"""What is traced, by whom, and what becomes of it where nobody listens or somebody lies."""

import logging
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.telemetry import tracing
from lotteryfl.common.telemetry.tracing import Parent, TracingError
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.summary import summarise
from tests.conftest import Drive
from tests.support.bench import simulated, tiny_experiment
from tests.support.collector import Collector
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.handworker import HandWorker
from tests.support.paths import ROOT
from tests.support.processes import free_port
from tests.support.runs import Coordinate, Write
from tests.support.waiting import DEADLINE

BAD = {
    "is empty": "",
    "is no such text": "a" * 55,
    "is of another version": f"01-{'1' * 32}-{'2' * 16}-01",
    "has more behind it": f"00-{'1' * 32}-{'2' * 16}-01-00",
    "is too long": f"00-{'1' * 3200}-{'2' * 16}-01",
    "is in capitals": f"00-{'A' * 32}-{'2' * 16}-01",
    "names the trace that is none": f"00-{'0' * 32}-{'2' * 16}-01",
    "names the span that is none": f"00-{'1' * 32}-{'0' * 16}-01",
    "has digits of other scripts": f"00-{'١' * 32}-{'2' * 16}-01",
}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as listening:
        yield listening


@pytest.fixture
def traced(collector: Collector) -> Iterator[Collector]:
    """Have this process traced; what it has sent is there when it is traced no more."""
    level = logging.getLogger("opentelemetry").level
    tracing.switch_on(collector.address, "test")
    yield collector
    tracing.switch_off()
    logging.getLogger("opentelemetry").setLevel(level)


# -- what comes from others


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_only_a_traceparent_is_read_as_one(text: str) -> None:
    assert Parent.parse(text) is None
    assert tracing.sent([("traceparent", text)]) is None


def test_a_traceparent_is_read_as_it_was_written() -> None:
    parent = Parent(0xABC, 0xDEF, is_sampled=True)
    assert str(parent) == f"00-{'abc':0>32}-{'def':0>16}-01"
    assert Parent.parse(str(parent)) == parent
    assert tracing.sent(tracing.to_send(parent)) == parent
    assert tracing.sent([("traceparent", str(parent))] * 2) is None
    assert tracing.sent(None) is None


def test_who_lies_of_the_span_it_is_at_changes_no_trace_but_below_its_own_lease(
    traced: Collector, write: Write, coordinate: Coordinate
) -> None:
    server = coordinate(write(rounds=1, clients=3, clients_per_round=3))
    hand = HandWorker(server)
    lies = ["nonsense", f"00-{'1' * 32}-{'2' * 16}-00", ""]
    for number, lie in enumerate(lies):
        done = hand.work()
        assert _submit(server, done.messages(), lie) == pb.SubmitReply.ACCEPTED, number
    list(hand.finish())
    server.ended()
    tracing.switch_off()
    spans = traced.by_id()
    checks = [span for span in traced.named("check") if span.about["round"] == 1]
    assert len(checks) == 3
    for check in checks:
        assert (spans[check.parent].name, spans[check.parent].client) == ("lease", check.client)
    assert {span.trace for span in traced.spans} == {span.trace for span in traced.named("round")}


def _submit(server: CoordinatorThread, messages: list[pb.ResultPart], traceparent: str) -> int:
    metadata = (("traceparent", traceparent),)
    reply: pb.SubmitReply = server.stub.SubmitResult(iter(messages), timeout=DEADLINE, metadata=metadata)
    return reply.verdict


# -- what a round is


def test_a_coordinator_that_is_started_again_goes_on_with_the_same_spans(traced: Collector, drive: Drive) -> None:
    bench = drive(tiny_experiment())
    work = bench.take(bench.register("a"))
    id_ = work.assignment.assignment_id
    before = bench.coordinator.traces.round.parent, bench.coordinator.traces.of(id_).parent
    assert None not in before
    bench.restart()
    assert (bench.coordinator.traces.round.parent, bench.coordinator.traces.of(id_).parent) == before


def test_what_becomes_of_a_lease_is_said_by_its_span(traced: Collector, drive: Drive) -> None:
    bench = drive(tiny_experiment())
    worker = bench.register("a")
    counted, back = bench.take(worker), bench.take(bench.register("b"))
    bench.submit(worker, bench.do(counted))
    bench.coordinator.leave(bench.register("b"), "was stopped", told_to_stop=True)
    bench.coordinator.fail("for the test")
    tracing.switch_off()
    troubles = {span.about["assignment"]: span.trouble for span in traced.named("lease")}
    assert troubles == {counted.assignment.assignment_id: "", back.assignment.assignment_id: "handed back"}
    (round_,) = traced.named("round")
    assert round_.trouble == "failed"


def test_a_run_in_one_process_has_the_same_spans(traced: Collector, tmp_path: Path) -> None:
    """With stacked clients, too, each has all of its own."""
    experiment = tiny_experiment(rounds=1, clients=3, clients_per_round=2, engine={"stacked": 2})
    with simulated(tmp_path / "run", experiment):
        tracing.switch_off()
    assert len(traced.named("round")) == 2
    leases = {span.id for span in traced.named("lease")}
    assert len(leases) == 2 + 3
    for id_ in leases:
        below = {span.name for span in traced.spans if span.parent == id_}
        assert below == {"download", "decode", "evaluate", "train", "encode", "upload", "check"}
    assert {span.trace for span in traced.spans} == {span.trace for span in traced.named("round")}


# -- where nobody listens


def test_a_collector_that_is_down_costs_a_line_and_no_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")  # so that it is tried again and again
    experiment = tiny_experiment(rounds=1)
    with simulated(tmp_path / "untraced", experiment) as run:
        expected = summarise(run)
    tracing.switch_on(f"127.0.0.1:{free_port()}", "test")
    with simulated(tmp_path / "run", experiment) as run:
        tracing.switch_off()
        assert summarise(run) == expected
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        ("WARNING", "traces: the collector does not take them: spans are dropped while that is so")
    ]


def test_nothing_of_tracing_draws_from_the_generator_that_tasks_draw_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's ids and the exporter's pauses do: a task's bits would depend on a collector."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    before = random.getstate()
    tracing.switch_on(f"127.0.0.1:{free_port()}", "test")
    tracing.begin("round").end()
    tracing.switch_off()  # which has tried to send it
    assert random.getstate() == before


def test_without_it_nothing_of_opentelemetry_is_imported_and_every_span_is_the_same_one() -> None:
    code = """
import sys
from lotteryfl.common.telemetry import tracing
assert tracing.span("train", bytes=1) is tracing.NO_SPAN is tracing.begin("round")
assert tracing.here() is None and tracing.to_send(tracing.here()) is None
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    folders = (ROOT / name for name in ("client", "common", "lotteryfl", "server"))
    importing = {file.name for each in folders for file in each.rglob("*.py") if "import opentel" in _imports(file)}
    assert importing == {"otlp.py"}, "which `switch_on` imports alone"


def _imports(file: Path) -> str:
    return file.read_text().replace("from opentelemetry", "import opentelemetry")


@pytest.mark.parametrize(
    "target",
    [
        "nonsense",
        "http://host",
        "host:port",
        "host:1/v1/traces",
        "ftp://host:1",
        "host:99999",
        "host:1?a=b",
        "http://[",
        "",
    ],
)
def test_a_target_that_is_none_is_refused_in_one_line(target: str) -> None:
    expected = f"--traces {target!r}: expected HOST:PORT, http://HOST:PORT, https://HOST:PORT or otel"
    with pytest.raises(TracingError, match=re.escape(expected)):
        tracing.switch_on(target, "test")
    assert not tracing.is_on()


def test_a_password_in_a_target_is_not_repeated() -> None:
    with pytest.raises(LotteryFLError) as refused:
        tracing.switch_on("http://me:secret@host:4317", "test")
    assert "secret" not in str(refused.value)
