"""Runs on hosts of a real sshd: the bits of any other run, and nothing left there, however it ends."""

import json
import os
import shlex
import shutil
import signal
import stat
from pathlib import Path

import pytest

from lotteryfl.exitcodes import INTERRUPTED
from lotteryfl.server.store.runlock import is_being_run
from tests.integration.launching.conftest import Launched
from tests.support.processes import Gate, Process
from tests.support.proxy import Proxy
from tests.support.runs import Expect, Start, assert_same_bits
from tests.support.sshd import SSHD, needs_sshd
from tests.support.waiting import until

pytestmark = needs_sshd


def recording(folder: Path) -> dict[str, str]:
    """Return an environment in which every call of ssh is written down in calls.jsonl before it is made."""
    folder.mkdir()
    real = shutil.which("ssh")
    script = (
        f"#!/bin/sh\npython3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' ssh \"$@\" "
        f'>> {shlex.quote(str(folder / "calls.jsonl"))}\nexec {real} "$@"\n'
    )
    (folder / "ssh").write_text(script)
    (folder / "ssh").chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def commands(text: str) -> list[list[str]]:
    """Return the calls of ssh in what --dry-run prints, in which the lines of a script belong together."""
    found: list[list[str]] = []
    for block in text.split("\n\n"):
        head, _, lines = block.partition("\n")
        for word in shlex.split(lines) if head.startswith("# host") else ():
            if word == "ssh":
                found.append([])
            found[-1].append(word)
    return found


def test_a_run_on_a_host_has_the_bits_of_any_other_and_is_what_the_dry_run_said(
    start: Start, launched: Launched, expect: Expect, host: SSHD, tmp_path: Path
) -> None:
    path = launched({"alpha": host.port})
    dry = start("launch", "ssh", path, "--run-dir=run", "--dry-run")
    assert dry.exit_code() == 0, dry.stderr
    assert not (tmp_path / "run.launch").exists()
    run = start("launch", "ssh", path, "--run-dir=run", env=recording(tmp_path / "bin"))
    assert run.exit_code() == 0, run.stderr
    assert_same_bits(tmp_path / "run", expect(path))
    calls = [json.loads(line) for line in (tmp_path / "bin/calls.jsonl").read_text().splitlines()]
    assert calls == commands(dry.stdout)
    assert "round 3/3: 3 clients" in run.stdout
    assert f"lotteryfl watch {tmp_path / 'run'}" in run.stderr
    folder = tmp_path / "run.launch"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "the run has finished" in (folder / "logs/alpha.log").read_text()
    assert not (folder / "launch.json").exists()
    assert host.is_deserted()


def up(start: Start, launched: Launched, host: SSHD, gate: Gate, *options: str) -> Process:
    """Return what has launched a run whose worker waits at the gate."""
    process = start("launch", "ssh", launched({"alpha": host.port}, gate.env), "--run-dir=run", *options)
    gate.arrival()
    return process


@pytest.mark.slow
def test_a_host_that_is_cut_off_in_mid_run_comes_back(
    start: Start, launched: Launched, expect: Expect, host: SSHD, gate: Gate, tmp_path: Path
) -> None:
    with Proxy(host.port) as link:
        path = launched({"alpha": host.port, "beta": link.port}, gate.env)
        run = start("launch", "ssh", path, "--run-dir=run")
        gate.arrival()
        gate.arrival()
        link.cut()
        run.said("beta: the connection has gone.*; it is tried again")
        run.said("beta: is connected again")
        gate.open()
        assert run.exit_code() == 0, run.stderr
    assert_same_bits(tmp_path / "run", expect(path))
    for name in ("alpha", "beta"):
        assert "the run has finished" in (tmp_path / f"run.launch/logs/{name}.log").read_text()


@pytest.mark.slow
def test_a_host_that_does_not_come_back_is_given_up(
    start: Start, launched: Launched, host: SSHD, gate: Gate, tmp_path: Path
) -> None:
    with Proxy(host.port) as link:
        path = launched({"alpha": link.port}, gate.env)
        run = start("launch", "ssh", path, "--run-dir=run", "--with=ssh.reconnect_seconds=1")
        gate.arrival()
    assert run.exit_code() == 1
    assert run.error_line.startswith("no host is left: alpha: cannot be connected: ")
    until(host.is_deserted)


@pytest.mark.slow
def test_ctrl_c_leaves_no_process_anywhere_and_says_how_to_go_on(
    start: Start, launched: Launched, expect: Expect, host: SSHD, gate: Gate, tmp_path: Path
) -> None:
    run = up(start, launched, host, gate)
    run.send(signal.SIGINT)
    assert run.exit_code() == INTERRUPTED
    assert host.is_deserted()
    assert not (tmp_path / "run.launch/launch.json").exists()
    gate.open()
    again = shlex.split(run.said("Go on with: lotteryfl (.*)")[1])
    on = start(*again)
    assert on.exit_code() == 0, on.stderr
    assert_same_bits(tmp_path / "run", expect(tmp_path / "tiny.toml"))


@pytest.mark.slow
def test_a_detached_run_goes_on_and_is_followed_again(
    start: Start, launched: Launched, expect: Expect, host: SSHD, gate: Gate, tmp_path: Path
) -> None:
    run = up(start, launched, host, gate, "--detach")
    assert run.exit_code() == 0, run.stderr
    follower = start("launch", "ssh", "run")
    follower.said("look at it with")
    follower.send(signal.SIGINT)
    assert follower.exit_code() == INTERRUPTED
    assert "not followed any more, and goes on" in follower.stderr
    gate.open()
    again = start("launch", "ssh", "run")
    assert again.exit_code() == 0, again.stderr
    assert_same_bits(tmp_path / "run", expect(tmp_path / "tiny.toml"))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["kept", "keeper killed", "launcher killed"])
def test_down_takes_everything_away_twice_is_no_error(
    start: Start, launched: Launched, host: SSHD, gate: Gate, tmp_path: Path, way: str
) -> None:
    """Also where the process is gone that kept it, and where the one is that would have taken it down."""
    run = up(start, launched, host, gate, *(["--detach"] if way != "launcher killed" else []))
    keeper = int((tmp_path / "run.launch/keeper.lock").read_text())
    if way == "launcher killed":
        run.send(signal.SIGKILL)
        until(lambda: not Path(f"/proc/{keeper}").exists())
        assert host.is_deserted()
    else:
        run.exit_code()
    if way == "keeper killed":
        os.kill(keeper, signal.SIGKILL)
    for said in ("nothing of it is launched any more", "nothing is launched"):
        down = start("launch", "ssh", "run", "--down")
        assert down.exit_code() == 0, down.stderr
        assert said in down.stderr
    until(host.is_deserted)
    until(lambda: not is_being_run(tmp_path / "run"))
    assert not (tmp_path / "run.launch/launch.json").exists()


def saying(folder: Path, line: str) -> str:
    """Return a program of another version."""
    path = folder / "other version"
    path.write_text(f"#!/bin/sh\necho {shlex.quote(line)}\n")
    path.chmod(0o755)
    return shlex.quote(str(path))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lotteryfl, version 9.9 (protocol 2)", "beta: has lotteryfl 9.9, this machine "),
        pytest.param(
            "lotteryfl, version 0.1.0 (protocol 1)",
            "beta: has lotteryfl 0.1.0 (protocol 1), this machine ",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_host_of_another_version_is_named_before_anything_starts(
    start: Start, launched: Launched, host: SSHD, tmp_path: Path, line: str, expected: str
) -> None:
    path = launched({})
    table = f'ssh.hosts=["alpha", {{host = "beta", program = {json.dumps(saying(tmp_path, line))}}}]'
    config = host.aliases({"alpha": host.port, "beta": host.port})
    run = start("launch", "ssh", path, "--run-dir=run", f"--with={table}", f"--with=ssh.config={config}")
    assert run.exit_code() == 1
    assert run.error_line.startswith(expected)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "run.launch/launch.json").exists()
    assert host.is_deserted()
