"""A run over mutual TLS and tokens that is traced and logs objects; one of its workers is killed at work."""

import json
import signal
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tomli_w

from tests.support.collector import Collector, Seen
from tests.support.credentials import Credentials
from tests.support.processes import Gate, Process
from tests.support.runs import GATED
from tests.support.waiting import until

WORK = {"download", "decode", "evaluate", "train", "encode", "upload"}
COORDINATION = {"round", "lease", "check", "aggregate", "commit"}
EXPERIMENT = GATED | {"rounds": 1, "clients": 3, "clients_per_round": 3, "round": {"lease": 6.0}}
FIELDS = {"time", "level", "logger", "message"}


class Run(NamedTuple):
    """What a run has left behind."""

    collector: Collector
    folder: Path
    credentials: Credentials
    tokens: Collection[str]
    killed: int
    """A client whose work the killed worker had begun."""
    said: dict[str, str]
    """By process, its stderr."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("traced")
    credentials = Credentials(folder)
    tokens = {name: credentials.new_token(name) for name in ("alice", "bob")}
    (folder / "tiny.toml").write_text(tomli_w.dumps(EXPERIMENT))
    with ExitStack() as stack:
        collector, gate = stack.enter_context(Collector()), stack.enter_context(Gate())

        def start(*arguments: object, **env: str) -> Process:
            process = Process(*arguments, cwd=folder, env=env)
            stack.callback(process.end)
            return process

        def work(name: str, *options: str, **env: str) -> Process:
            (folder / name).write_text(tokens[name])
            arguments = (f"--coordinator={address}", f"--task={EXPERIMENT['task']['name']}", f"--token-file={name}")
            as_json = {"LOTTERYFL_LOG_FORMAT": "json", "LOTTERYFL_TRACES": "otel", "OTEL_BSP_SCHEDULE_DELAY": "100"}
            collected = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector.address}"}
            return start("work", *arguments, *credentials.options(name), *options, **as_json, **collected, **env)

        serve = start(
            *("--verbose", "serve", "tiny.toml", "--listen=127.0.0.1:0", "--run-dir=run"),
            *("--log-format=json", f"--traces={collector.address}", "--tokens=tokens.toml"),
            *credentials.options("coordinator"),
        )
        address = serve.said(r"listening at ([0-9.:]+)")[1]
        bob = work("bob", **gate.env)
        client = gate.arrival().client
        until(lambda: any(span.client == client for span in collector.named("decode")))
        bob.send(signal.SIGKILL)
        alice = work("alice", "--devices=cpu")
        assert alice.exit_code() == 0, alice.stderr
        assert serve.exit_code() == 0, serve.stderr
        bob.exit_code()
        said = {"serve": serve.stderr, "alice": alice.stderr, "bob": bob.stderr}
        yield Run(collector, folder, credentials, tokens.values(), client, said)


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# -- traces


def test_every_round_is_one_trace(run: Run) -> None:
    rounds = run.collector.named("round")
    assert sorted(span.about["round"] for span in rounds) == [1, 2]
    assert {span.parent for span in rounds} == {""}
    assert {span.trace for span in run.collector.spans} == {span.trace for span in rounds}
    assert len({span.trace for span in rounds}) == 2


def test_everything_that_is_done_is_a_span(run: Run) -> None:
    of_work = {span.name for span in run.collector.spans if span.service == "lotteryfl-work"}
    of_coordinator = {span.name for span in run.collector.spans if span.service == "lotteryfl-serve"}
    assert (of_work, of_coordinator) == (WORK, COORDINATION)


def test_spans_are_below_those_that_they_are_part_of_across_processes(run: Run) -> None:
    spans = run.collector.by_id()

    def above(span: Seen) -> str:
        return "" if not span.parent else spans[span.parent].name  # also those of the worker that was killed

    found = {(span.name, above(span)) for span in run.collector.spans}
    work = {(name, "lease") for name in WORK}
    assert found == {("round", ""), *((each, "round") for each in ("lease", "aggregate", "commit"))} | work | {
        ("check", "upload")
    }
    for span in run.collector.spans:
        if span.name in WORK:
            lease = spans[span.parent]
            assert {key: lease.about[key] for key in ("run", "worker", "assignment")}.items() <= span.about.items()


def test_a_killed_workers_lease_ends_as_one_and_another_has_the_work(run: Run) -> None:
    leases = [span for span in run.collector.named("lease") if (span.client, span.about["round"]) == (run.killed, 1)]
    assert {(span.about["worker"], span.trouble) for span in leases if span.about["worker"] == "bob"} == {
        ("bob", "expired")
    }
    (counted,) = (span for span in leases if not span.trouble)
    assert str(counted.about["worker"]).startswith("alice/")
    assert counted.id in {span.parent for span in run.collector.named("train")}


# -- logs


def test_every_line_on_stderr_is_an_object(run: Run) -> None:
    for process in ("serve", "alice", "bob"):
        lines = objects(run.said[process])
        assert lines
        assert all(line.keys() >= FIELDS and line["time"].endswith("Z") for line in lines)


def test_lines_say_what_they_are_about(run: Run) -> None:
    (run_id,) = {span.about["run"] for span in run.collector.spans}
    given = [line for line in objects(run.said["serve"]) if ": given to " in line["message"]]
    assert len(given) >= 6
    for line in given:
        assert line["run"] == run_id
        assert line["message"] == f"{line['assignment']}: given to {line['worker']}"
        assert line["assignment"].startswith(f"r{line['round']}-c{line['client']}-")
    (round_1,) = (line for line in objects(run.said["serve"]) if line["message"].startswith("round 1/1"))
    assert (round_1["run"], round_1["round"]) == (run_id, 1)
    lost = [line["worker"] for line in objects(run.said["serve"]) if line["message"].startswith("bob is lost")]
    assert set(lost) == {"bob"}


def test_lines_of_the_workers_of_one_command_have_their_place(run: Run) -> None:
    accepted = [line for line in objects(run.said["alice"]) if ": accepted; " in line["message"]]
    assert len(accepted) == 6
    leases = {span.about["assignment"]: span for span in run.collector.named("lease") if not span.trouble}
    for line in accepted:
        lease = leases[line["assignment"]]
        assert line["place"] == "cpu/1"
        assert line["message"].startswith(f"{line['assignment']}: accepted; ")
        assert (line["trace_id"], line["span_id"]) == (lease.trace, lease.id), "so that a log finds its trace"
        assert {key: line[key] for key in ("run", "round", "client", "worker")} == {
            key: lease.about[key] for key in ("run", "round", "client", "worker")
        }


def test_nothing_that_is_told_has_a_secret(run: Run) -> None:
    logs = [path.read_bytes() for path in (run.folder / "run").rglob("*.log")]
    told = b"".join([*logs, *(text.encode() for text in run.said.values()), run.collector.bytes])
    secrets = list(run.tokens)
    for name in ("coordinator", "alice", "bob"):
        key = run.credentials.files(name).key
        assert key
        secrets += [line for line in key.read_text().splitlines() if not line.startswith("-----")]
    assert len(secrets) > 6
    for secret in secrets:
        assert secret.encode() not in told
        assert json.dumps(secret)[1:-1].encode() not in told
