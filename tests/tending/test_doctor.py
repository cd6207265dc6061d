"""Whether all is well: a line for each thing, what to do where it is not, an exit code, and never a traceback."""

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.channel import PROTOCOL_VERSION, TOLD_PROTOCOL, TOLD_VERSION
from lotteryfl.common.security.identity import Role
from lotteryfl.program import program
from lotteryfl.server.rpc.endpoint import Endpoint
from lotteryfl.tending.doctor.check import Check, looked
from lotteryfl.tending.doctor.coordinator import clocks, versions
from lotteryfl.tending.doctor.secrets import valid
from tests.support.bench import TinyTask, create, tiny_experiment
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.credentials import Credentials
from tests.support.paths import ROOT


def doctored(*arguments: object) -> Result:
    result = CliRunner().invoke(program, ["doctor", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, LotteryFLError | SystemExit), result.exception
    *lines, last = result.output.splitlines()
    assert all(re.match(r"(ok  |warn|fail) \S.*: ", line) for line in lines)
    assert re.fullmatch(r"\d+ ok, \d+ to be looked at, \d+ failed", last)
    failed = sum(line.startswith("fail") for line in lines)
    assert (failed > 0) == isinstance(result.exception, LotteryFLError)
    return result


def lines(result: Result, verdict: str) -> list[str]:
    return [line.removeprefix(f"{verdict:<4} ") for line in result.output.splitlines() if line.startswith(verdict)]


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return Credentials(tmp_path_factory.mktemp("credentials"))


Serve = Callable[..., CoordinatorThread]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with ExitStack() as stack:

        def serve_(endpoint: Endpoint | None = None) -> CoordinatorThread:
            run = stack.enter_context(create(tmp_path / "served", tiny_experiment(), TinyTask()))
            return stack.enter_context(CoordinatorThread(run, endpoint))

        yield serve_


# -- this machine


def test_a_machine_on_which_tests_run_is_well() -> None:
    result = doctored()
    subjects = [line.split(":")[0] for line in lines(result, "ok") + lines(result, "warn")]
    assert subjects[:3] == ["python", "libraries", "cpu"]
    assert {"memory", "disk", "temporary files", "open files", "shared memory"} <= set(subjects)
    assert lines(result, "fail") == []


def test_a_torch_that_cannot_be_imported_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.12: cannot open shared object file')\n")
    process = subprocess.run(
        [sys.executable, "-m", "lotteryfl", "doctor"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert "fail devices: libcudart.so.12: cannot open shared object file: reinstall torch" in process.stdout
    assert "ok   python: " in process.stdout
    assert "ok   open files: " in process.stdout
    assert "Traceback" not in process.stdout + process.stderr
    assert process.stderr.startswith("lotteryfl: doctor: ")


def test_whatever_a_look_raises_is_a_line() -> None:
    def broken() -> Iterator[Check]:
        yield Check("ok", "it", "as far as here")
        sys.exit("out\x1b[31m")

    first, second = map(str, looked("it", broken, "mend it"))
    assert (first, second) == ("ok   it: as far as here", "fail it: SystemExit: out?[31m: mend it")


# -- a run, and an experiment


def test_a_sound_run_is_well_and_a_finished_one_needs_no_data(finished_run: Path) -> None:
    result = doctored(finished_run)
    assert "run: finished, 3 of 3 rounds committed" in lines(result, "ok")
    assert not any(line.startswith(("data", "room")) for line in lines(result, "ok"))


def test_a_run_s_troubles_are_named_with_what_to_do(finished_run: Path) -> None:
    (finished_run / "results/r0001-c2-a1.7.safetensors").touch()
    finished_run.chmod(0o755)
    (finished_run / "experiment.toml").chmod(0o644)
    result = doctored(finished_run)
    assert f"leftovers: 1 files that nothing refers to: `lotteryfl clean {finished_run}`" in lines(result, "warn")
    assert any(line.endswith(f"chmod -R go= {finished_run}") for line in lines(result, "warn"))
    with closing(sqlite3.connect(finished_run / "run.db")) as database, database:
        database.execute("DELETE FROM rounds WHERE round = 1")
    (line,) = lines(doctored(finished_run), "fail")
    assert re.match(r"run: \d+ problems, as run\.db: .*: `lotteryfl verify` names all$", line)


def test_a_folder_without_a_run_and_what_is_nothing_are_named(tmp_path: Path) -> None:
    (line,) = lines(doctored(tmp_path), "fail")
    assert line.startswith(f"run: {tmp_path}: is no run directory: it has no run.db")
    (line,) = lines(doctored("nowhere"), "fail")
    assert line == "argument: nowhere: neither a run directory, an experiment file nor HOST:PORT"


def test_an_experiment_is_tried_as_far_as_a_client_s_data(tmp_path: Path) -> None:
    path = tmp_path / "experiment.toml"
    path.write_text("clients = 4\nclients_per_round = 2\n")
    result = doctored(path)
    assert f"experiment: {path}: 4 clients, 30 rounds" in lines(result, "ok")
    assert any(
        re.match(r"data: digits: client 0 has 32 training, 8 validation, \d+ test", x) for x in lines(result, "ok")
    )
    result = doctored(
        path, "--set", "strategy.name=nobody", "--set", f"task.data_dir={tmp_path}", "--set", "task.name=mnist"
    )
    strategy, data = lines(result, "fail")
    assert strategy.startswith("strategy: strategy.name = 'nobody'")
    assert data.startswith(f"data: {tmp_path}: there is no train-images-idx3-ubyte")
    path.write_text("clients = 0\n")
    (line,) = lines(doctored(path), "fail")
    assert line.startswith(f"experiment: {path}: clients = 0")


def test_a_task_that_ends_the_process_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(
        "import sys, torch\ndef model(): return torch.nn.Linear(2, 2)\ndef client(k, e): sys.exit(3)\n"
    )
    path = tmp_path / "experiment.toml"
    path.write_text('[task]\nname = "task.py"\n')
    (line,) = lines(doctored(path), "fail")
    assert line.startswith("data: ")
    assert "SystemExit" in line


# -- a coordinator


def test_a_coordinator_is_tried_as_far_as_a_call(serve: Serve) -> None:
    result = doctored(serve().address)
    said = "\n".join(lines(result, "ok"))
    for line in (
        r"^name: 127\.0\.0\.1 is 127\.0\.0\.1$",
        r"^port: 127\.0\.0\.1:\d+ answers in \d+ ms$",
        r"^call: lotteryfl, running, 0 of 2 rounds committed$",
        rf"^protocol: {PROTOCOL_VERSION}, lotteryfl \S+ on both$",
        r"^clock: the coordinator's is [+-]0\.\d s from this machine's, ± 0\.\d s$",
    ):
        assert re.search(line, said, re.MULTILINE), said


def test_over_tls_certificates_are_looked_at_on_both_sides(serve: Serve, credentials: Credentials) -> None:
    address = serve(credentials.mutual).address
    result = doctored(address, *credentials.options("dash"))
    assert any(line.startswith("call: lotteryfl, running") for line in lines(result, "ok"))
    warned = "\n".join(lines(result, "warn"))  # certificates of a day
    assert re.search(r"^coordinator's certificate: 127\.0\.0\.1:\d+: valid from .*, 0 days left", warned, re.MULTILINE)
    assert re.search(
        r"^certificate: .*dash/tls\.crt: valid from .*, 0 days left: `lotteryfl certs`", warned, re.MULTILINE
    )
    assert re.search(r"^authority: .*, 3\d\d\d days left$", "\n".join(lines(result, "ok")), re.MULTILINE)
    (line,) = lines(doctored(address), "fail")
    assert "speaks TLS: name its authority with --tls-ca" in line
    other = Credentials(credentials.folder / "other")
    (line,) = lines(doctored(address, *other.options("dash")), "fail")
    assert "its certificate is refused: " in line


def test_a_token_is_never_told_and_its_file_is_looked_at(
    serve: Serve, credentials: Credentials, tmp_path: Path
) -> None:
    address, token = serve(credentials.with_tokens).address, credentials.new_token("eve", Role.OBSERVER)
    file = tmp_path / "eve.token"
    file.write_text(token)
    file.chmod(0o644)
    options = [f"--tls-ca={credentials.authority.ca}", f"--token-file={file}", f"--tokens={credentials.tokens}"]
    result = doctored(address, *options)
    assert f"token: {file}: is for eve" in lines(result, "ok")
    assert f"token file: {file}: mode 0644: others of this machine can read it: chmod -R go= {file}" in lines(
        result, "warn"
    )
    assert any(line.startswith("call: ") for line in lines(result, "ok"))
    assert token.partition(".")[2] not in result.output
    file.write_text("no token")
    result = doctored(address, *options)
    assert [line.split(":")[0] for line in lines(result, "fail")] == ["token", "token"]


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("127.0.0.1:1", r"port: .*Connection refused: is it listening there"),
        ("nowhere.invalid:7000", r"name: .*: check the host's name"),
        ("http://here:7000", r"address: http://here:7000: expected HOST:PORT"),
        ("10.255.255.1:0", r"address: 10.255.255.1:0: port '0': expected a number"),
    ],
)
def test_how_far_one_comes_is_said(address: str, line: str) -> None:
    (found,) = lines(doctored(address), "fail")
    assert re.match(line, found)


@pytest.mark.parametrize(("theirs", "verdict"), [(1000.6, "ok"), (1007.5, "warn"), (990.0, "warn"), (1005.9, "ok")])
def test_clocks_may_differ_by_what_a_call_takes_and_little_more(theirs: float, verdict: str) -> None:
    assert clocks(theirs, 1000.0, 1002.0).verdict == verdict


def test_another_protocol_is_a_failure_and_another_version_a_warning() -> None:
    protocol = str(PROTOCOL_VERSION)
    for told, verdict in (
        ({}, "warn"),
        ({TOLD_PROTOCOL: "99", TOLD_VERSION: "9.9"}, "fail"),
        ({TOLD_PROTOCOL: protocol, TOLD_VERSION: "9.9"}, "warn"),
    ):
        (check,) = versions(told)
        assert check.verdict == verdict


@pytest.mark.parametrize(
    ("begins", "ends", "verdict"), [(-400, 30, "ok"), (-30, 3, "warn"), (-30, -1, "fail"), (1, 30, "fail")]
)
def test_a_certificate_has_its_days(begins: int, ends: int, verdict: str) -> None:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now + timedelta(days=begins))
        .not_valid_after(now + timedelta(days=ends))
        .sign(key, hashes.SHA256())
    )
    assert certificate.public_bytes(Encoding.DER)
    assert valid("certificate", certificate, "tls.crt").verdict == verdict
