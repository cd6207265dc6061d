"""Whole runs over TLS with real processes, and every way in which both sides cannot come together."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lotteryfl.commands.run import serve
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.tls import SecurityError
from lotteryfl.server.security.certificates import Authority
from tests.support.credentials import Credentials
from tests.support.processes import Gate, Process, free_port
from tests.support.runs import GATED_TASK, Coordinate, Expect, Start, Write, assert_same_bits
from tests.support.waiting import PROMPT

NAMES = {"cert": "tls.crt", "key": "tls.key", "ca": "ca.crt"}
DIGITS: dict[str, Any] = {
    "rounds": 2,
    "clients": 4,
    "clients_per_round": 4,
    "partition": {"examples_per_class": 10},
    "training": {"epochs": 1},
    "strategy": {"accuracy_threshold": 0.0},
}


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return Credentials(tmp_path_factory.mktemp("credentials"))


def error_of(process: Process) -> str:
    assert process.exit_code(PROMPT) == 1, process.stderr
    return process.error_line


# -- runs


def test_a_run_over_mutual_tls_gives_the_same_bits(tmp_path: Path, start: Start, write: Write, expect: Expect) -> None:
    """Set up as a user does it; one certificate for two workers, in the environment of one of them."""
    made = start("certs", "--out", "certs", "--coordinator", "localhost", "--worker", "fleet", "--observer", "dash")
    assert made.exit_code() == 0, made.stderr

    def files(name: str) -> list[str]:
        return [f"--tls-{key}=certs/{name}/{file}" for key, file in NAMES.items()]

    path = write(DIGITS, access={"workers": {"fleet": "0-3"}})
    coordinator = start("serve", path, "--listen", "127.0.0.1:0", "--run-dir", "run", *files("coordinator"))
    address = coordinator.said(r"listening at (\S+)")[1]
    status = start("status", address, *files("dash"))
    assert status.exit_code() == 0, status.stderr
    assert "4 clients: running" in status.stdout
    variables = {f"LOTTERYFL_TLS_{key.upper()}": f"certs/fleet/{file}" for key, file in NAMES.items()}
    workers = [
        start("--verbose", "work", "--coordinator", address, env=variables),
        start("--verbose", "work", "--coordinator", address, "--name", "fleet/", *files("fleet")),
    ]
    names = [worker.said(r"(\S+): registered, on")[1] for worker in workers]
    assert names[0] == "fleet"
    assert names[1].startswith(f"fleet/{os.uname().nodename}-")
    for process in (*workers, coordinator):
        assert process.exit_code() == 0, process.stderr
    assert_same_bits(tmp_path / "run", expect(path))


def test_a_run_by_tokens_tells_nobody_the_token(
    tmp_path: Path, start: Start, write: Write, gate: Gate, credentials: Credentials
) -> None:
    """Neither processes' arguments nor logs nor the run directory; revoked, it ends with the next call."""
    tokens = {}
    for name in ("carol", "dave"):
        made = start("token", name, "--tokens", "tokens.toml")
        assert made.exit_code() == 0, made.stderr
        tokens[name] = made.stdout.strip()
    (tmp_path / "carol.token").write_text(tokens["carol"] + "\n")
    own = credentials.options("coordinator")[:2]
    address = f"127.0.0.1:{free_port()}"
    coordinator = start(
        *(
            "--verbose",
            "serve",
            write(round={"leases": 1}),
            "--listen",
            address,
            "--run-dir",
            "run",
            "--tokens",
            "tokens.toml",
            *own,
        ),
        env=gate.env,
    )
    coordinator.said("listening at")
    ca = credentials.options("dash")[2]
    work = ("--verbose", "work", "--coordinator", address, "--task", GATED_TASK, ca)
    carol = start(*work, "--token-file", "carol.token", env=gate.env)
    dave = start(*work, "--name", "dave/2", env={**gate.env, "LOTTERYFL_TOKEN": tokens["dave"]})
    visits = [gate.arrival(), gate.arrival()]
    assert carol.said("carol: registered")
    assert dave.said("dave/2: registered")
    shown = [Path(f"/proc/{process.pid}/cmdline").read_text() for process in (coordinator, carol, dave)]
    assert all("lotteryfl" in line for line in shown)

    revoked = start("token", "dave", "--tokens", "tokens.toml", "--revoke")
    assert revoked.exit_code() == 0, revoked.stderr
    for visit in visits:
        visit.let_go()
    assert error_of(dave) == f"coordinator {address}: the token is unknown, or was revoked"
    gate.open()
    stranger = start("status", address, ca, env={"LOTTERYFL_TOKEN": tokens["dave"]})
    assert error_of(stranger) == f"coordinator {address}: the token is unknown, or was revoked"

    shown += [process.stdout + process.stderr for process in (coordinator, carol, dave, revoked, stranger)]
    carol.end()
    coordinator.end()
    shown += [process.stderr for process in (coordinator, carol)]
    shown += [path.read_bytes().decode("latin-1") for path in (tmp_path / "run").rglob("*") if path.is_file()]
    shown.append((tmp_path / "tokens.toml").read_text())
    for token in tokens.values():
        secret = token.rpartition(".")[2]
        assert not [text for text in shown if secret in text]
    assert "UNAUTHENTICATED: the token is unknown, or was revoked" in coordinator.stderr


@pytest.mark.slow
def test_local_workers_are_nobody_else(start: Start, write: Write, credentials: Credentials) -> None:
    """What the environment says about another coordinator is not for the workers of `run`."""
    variables = {"LOTTERYFL_TLS_CA": str(credentials.authority.ca), "LOTTERYFL_TOKEN": f"a.{'s' * 43}"}
    run = start("run", write(DIGITS, rounds=1), "--workers", 1, "--run-dir", "run", env=variables)
    assert run.exit_code() == 0, run.stderr


# -- handshakes


def test_both_sides_say_what_keeps_them_apart(
    tmp_path: Path, start: Start, write: Write, coordinate: Coordinate, credentials: Credentials
) -> None:
    """At once, and not after a minute of patience."""
    other = Credentials(tmp_path / "other")
    mutual = coordinate(write(), "mutual", credentials.mutual, credentials.of("alice"))
    plain = coordinate(write(), "plain")
    elsewhere = f"[::ffff:127.0.0.1]:{mutual.address.rpartition(':')[2]}"
    wrong_authority = credentials.options("alice")
    wrong_authority[2] = other.options("alice")[2]
    stranger = other.options("alice")
    stranger[2] = credentials.options("alice")[2]
    accepts_none = "it must be valid, for clients, and of an authority that the coordinator knows"
    cases = {
        "its certificate is refused: .*signature|its certificate is refused: .*issuer": (mutual, wrong_authority),
        "hung up: it wants to see a certificate: give --tls-cert and --tls-key": (
            mutual,
            credentials.options("alice")[2:],
        ),
        f"hung up on .*/other/.*tls.crt: {accepts_none}": (
            mutual,
            stranger,
        ),
        f"hung up on .*/coordinator/tls.crt: {accepts_none}": (
            mutual,
            credentials.options("coordinator"),
        ),
        "speaks TLS: name its authority with --tls-ca": (mutual, []),
        "speaks plaintext, not TLS: leave --tls-ca": (plain, credentials.options("alice")),
    }
    asking = {expected: start("status", server.address, *options) for expected, (server, options) in cases.items()}
    for expected, process in asking.items():
        error = error_of(process)
        assert re.search(expected, error), error
    working = start("work", "--coordinator", elsewhere, *credentials.options("alice"))
    assert re.search("its certificate is refused: (IP address|Hostname) mismatch", error_of(working))
    plain_worker = start("work", "--coordinator", mutual.address)
    assert "speaks TLS: name its authority with --tls-ca" in error_of(plain_worker)


@pytest.mark.slow
def test_a_coordinator_that_is_away_is_waited_for(
    tmp_path: Path, start: Start, write: Write, credentials: Credentials
) -> None:
    """Over TLS as without."""
    address = f"127.0.0.1:{free_port()}"
    options = ("--coordinator", address, "--name", "alice/1", *credentials.options("alice"))
    worker = start("--verbose", "work", *options, "--task", GATED_TASK)
    worker.said("cannot be reached: .*; trying again for 60 s")
    start("serve", write(), "--listen", address, "--run-dir", "run", *credentials.options("coordinator"))
    worker.said("alice/1: registered")


# -- settings


def test_beyond_this_machine_security_is_wanted(start: Start, write: Write, tmp_path: Path) -> None:
    path = write(DIGITS)
    address = f"0.0.0.0:{free_port()}"
    refused = start("serve", path, "--listen", address, "--run-dir", "run")
    assert error_of(refused).startswith(f"{address}: other machines can reach it, and calls are not encrypted")
    assert not (tmp_path / "run").exists()
    for command in (("work", "--coordinator", address), ("status", address)):
        assert error_of(start(*command)).startswith(f"{address}: is on another machine, and nothing would be encrypted")

    coordinator = start("serve", path, "--listen", address, "--run-dir", "run", "--insecure")
    coordinator.said("listening at")
    assert coordinator.said("^warning: .*")[0] == (
        f"warning: {address}: calls are not encrypted, and anyone may take part"
    )
    status = start("status", address, "--insecure")
    assert status.exit_code() == 0, status.stderr
    worker = start("work", "--coordinator", address, "--insecure")
    warning = f"warning: calls to {address} are neither encrypted nor is it sure who answers them"
    assert worker.said("^warning: .*")[0] == warning
    assert status.said("^warning: .*")[0] == warning


@pytest.fixture(scope="module")
def expired(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options of a coordinator whose certificate is not valid any more."""
    folder = tmp_path_factory.mktemp("expired")
    with pytest.raises(SecurityError, match="has expired"):
        Authority(folder).issue_to_coordinator(["h"], days=0)
    return [f"--tls-{key}={folder}/coordinator/{file}" for key, file in NAMES.items()]


def test_what_cannot_secure_a_coordinator_is_named_before_a_run_is_set_up(
    tmp_path: Path, write: Write, credentials: Credentials, expired: list[str]
) -> None:
    cert, key, ca = credentials.options("coordinator")
    cases = {
        (cert,): "--tls-cert and --tls-key: a certificate and its key are needed together",
        (ca,): "--tls-ca: is of use only together with --tls-cert and --tls-key",
        ("--tls-cert=none", key): "none: cannot be read: No such file or directory",
        (cert, credentials.options("alice")[1]): " is not the key of ",
        tuple(expired): "/coordinator/tls.crt: has expired on ",
        ("--tokens=none",): "--tokens: tokens are sent over TLS alone: give --tls-cert and --tls-key",
        (cert, key, "--tokens=none"): "none: cannot be read: No such file or directory",
    }
    folder = tmp_path / "run"
    for options, error in cases.items():
        command = [str(write(DIGITS)), "--listen=127.0.0.1:0", f"--run-dir={folder}", *options]
        with pytest.raises(LotteryFLError) as raised:
            CliRunner().invoke(serve, command, catch_exceptions=False, standalone_mode=False)
        assert error in str(raised.value)
        assert not folder.exists()


def test_what_does_not_show_who_a_worker_is_is_named(
    tmp_path: Path, start: Start, credentials: Credentials, expired: list[str]
) -> None:
    (tmp_path / "broken.token").write_text("sssecret")
    alice = credentials.options("alice")
    work = ("work", "--coordinator", "127.0.0.1:1")
    cases = {
        (*work, *expired): "/coordinator/tls.crt: has expired on ",
        (*work, *alice, "--name=bob"): "--name bob: certificate or token are those of alice",
        ("status", "127.0.0.1:1", *alice[:2]): "--tls-ca: the authority of the coordinator's certificate is missing",
        ("status", "127.0.0.1:1", alice[2], "--token-file=broken.token"): "broken.token: holds no token; expected NAME",
        ("status", "127.0.0.1:1", "--token-file=none"): "--token-file none: cannot be read: No such file or directory",
    }
    asked = [(start(*command), error) for command, error in cases.items()]
    asked.append(
        (start("status", "127.0.0.1:1", env={"LOTTERYFL_TOKEN": "sssecret"}), "$LOTTERYFL_TOKEN: holds no tok")
    )
    for process, error in asked:
        assert error in error_of(process)
        assert "sss" not in process.stderr
