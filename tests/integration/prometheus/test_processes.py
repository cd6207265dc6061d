"""Coordinator and workers as processes: what they answer is what is documented, also after a kill, and names nobody."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from lotteryfl.client.prometheus import METRICS as OF_WORKER
from lotteryfl.common.prometheus.described import Described
from lotteryfl.server.prometheus.table import METRICS as OF_COORDINATOR
from tests.support.processes import Gate, Process, free_port
from tests.support.runs import GATED_TASK, Coordinate, Expect, Start, Write, assert_same_bits
from tests.support.scraping import scrape
from tests.support.waiting import until

AT = r"metrics at (http://127\.0\.0\.1:\d+/metrics)$"
ABSENT = {"lotteryfl_privacy_epsilon"}
"""Where no privacy is promised."""
NO_DEVICE_MEMORY = {"lotteryfl_worker_device_memory_bytes", "lotteryfl_worker_device_memory_total_bytes"}
"""Of a CPU."""


def documented(table: Iterable[Described]) -> set[str]:
    return {name for each in table for name in each.samples}


def found_at(port: int) -> str:
    return f"http://127.0.0.1:{port}/metrics"


def test_a_run_that_is_killed_and_taken_up_again_is_read_all_along(
    tmp_path: Path, start: Start, write: Write, gate: Gate, expect: Expect
) -> None:
    path, listen, metrics = write(), f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    url = f"http://{metrics}/metrics"

    def serve() -> Process:
        server = start("serve", path, "--run-dir", "run", "--listen", listen, "--metrics", metrics)
        assert server.said(AT)[1] == url
        return server

    server = serve()
    worker = start(
        "work",
        f"--coordinator={listen}",
        "--name=clinic-a",
        f"--task={GATED_TASK}",
        "--metrics=127.0.0.1:0",
        env=gate.env,
    )
    of_worker = worker.said(AT)[1]
    first = gate.arrival()
    before = scrape(url)
    after_a_commit = {"lotteryfl_score", "lotteryfl_density", "lotteryfl_train_loss"}
    after_a_commit |= {"lotteryfl_last_commit_timestamp_seconds"}
    assert before.names == documented(OF_COORDINATOR) - ABSENT - after_a_commit
    assert before.samples["lotteryfl_workers/cpu"] == 1
    assert before.samples["lotteryfl_rounds_committed_total"] == before.samples["lotteryfl_results_accepted_total"] == 0
    first.let_go()
    gate.arrival().let_go()
    gate.arrival().let_go()
    held = gate.arrival()  # in the second round
    until(lambda: scrape(url).samples["lotteryfl_rounds_committed_total"] == 1)
    until(lambda: scrape(of_worker).samples["lotteryfl_worker_assignments_total/accepted"] == 3)
    during, at_work = scrape(url), scrape(of_worker)
    assert during.names == documented(OF_COORDINATOR) - ABSENT
    assert during.samples["lotteryfl_results_accepted_total"] == 3
    assert during.samples["lotteryfl_leases_ended_total/returned"] == 3
    assert at_work.names == documented(OF_WORKER) - NO_DEVICE_MEMORY
    assert at_work.samples["lotteryfl_worker_steps_total"] == 3 * 2 * 3, "clients, epochs, steps"
    for stage in ("download", "decode", "evaluate", "train", "encode", "upload"):
        assert at_work.samples[f"lotteryfl_worker_stage_seconds_count/{stage}"] >= 3
        assert at_work.samples[f"lotteryfl_worker_stage_seconds_sum/{stage}"] > 0
    assert at_work.samples["process_resident_memory_bytes"] > 1 << 20

    server.send(signal.SIGKILL)
    assert server.exit_code() == -signal.SIGKILL
    server = serve()
    again = scrape(url)
    for described in OF_COORDINATOR:
        for name, value in again.samples.items():
            if described.since == "run" and described.kind == "counter" and name.partition("/")[0] in described.samples:
                assert value >= during.samples[name] > 0 or value == during.samples[name] == 0, name
    assert again.samples["lotteryfl_leases_given_total"] < during.samples["lotteryfl_leases_given_total"]
    held.let_go()
    gate.open()
    assert (server.exit_code(), worker.exit_code()) == (0, 0), worker.stderr
    assert_same_bits(tmp_path / "run", expect(path))
    for text in (before.text, during.text, at_work.text, again.text):
        assert "clinic" not in text
        assert set(re.findall(r'[{,](\w+)="', text)) <= {each.label for each in (*OF_COORDINATOR, *OF_WORKER)} | {
            *("le", "score", "strategy", "torch", "version")
        }
        check_with_promtool(text)


def check_with_promtool(text: str) -> None:
    """Have Prometheus's own tool find fault with names, types and help, where it is here."""
    if (promtool := shutil.which("promtool")) is not None:
        checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_coordinator_and_workers_of_one_command_are_at_ports_in_a_row(
    tmp_path: Path, start: Start, write: Write, gate: Gate
) -> None:
    port = free_port(2)
    run = start("run", write(), "--workers=1", "--run-dir=run", f"--metrics=127.0.0.1:{port}", env=gate.env)
    assert run.said(AT)[1] == found_at(port)
    gate.arrival()
    assert scrape(found_at(port)).samples["lotteryfl_workers/cpu"] == 1
    assert scrape(found_at(port + 1)).names == documented(OF_WORKER) - NO_DEVICE_MEMORY
    run.send(signal.SIGINT)
    assert run.exit_code() == 130
    assert f"--metrics=127.0.0.1:{port}" in run.stderr, "it is told how to go on"


@pytest.mark.slow
def test_a_worker_of_several_keeps_its_port_when_it_is_started_again(
    start: Start, write: Write, gate: Gate, coordinate: Coordinate
) -> None:
    port = free_port(2)
    server = coordinate(write())
    workers = start(
        "work",
        f"--coordinator={server.address}",
        f"--task={GATED_TASK}",
        "--devices=cpu",
        "--per-device=2",
        f"--metrics=127.0.0.1:{port}",
        env=gate.env,
    )
    visits = [gate.arrival() for _ in range(2)]
    os.kill(visits[0].pid, signal.SIGKILL)
    workers.said(r"has died and is started again: ended by signal 9$")
    workers.said(rf"{AT}(?:\n.*)*\n.*{AT}(?:\n.*)*\n.*{AT}")
    gate.open()
    assert workers.exit_code() == 0, workers.stderr
    found = re.findall(rf"^(cpu/\d): {AT}", workers.stderr, re.MULTILINE)
    assert len(found) == 3
    assert set(found) == {("cpu/1", found_at(port)), ("cpu/2", found_at(port + 1))}
