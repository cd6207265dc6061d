"""What a bundle for a bug report holds, and above all what it does not."""

import json
import os
import sqlite3
import stat
import tomllib
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lotteryfl.program import program
from lotteryfl.server.security.tokens import add_token
from lotteryfl.tending.support.redaction import Redactor
from tests.support.bench import TinyTask, simulated, tiny_experiment
from tests.support.credentials import Credentials

SECRETS = {
    "password": "correct-horse",
    "data": "patient Doe, born 1955",
    "place": "st-elsewhere",
    "host": "gpu7.hospital.example",
    "address": "10.20.30.40",
    "worker": "north-clinic",
    "url": "user:pw123@mlflow.example.org",
    "variable": "AKIAIOSFODNN7EXAMPLE",
    "option": "hf_abcdefghijklmnop",
    "comment": "remember the milk",
    "pin": "918273645",
}


def supported(*arguments: object) -> Result:
    return CliRunner().invoke(program, ["support", *map(str, arguments)])


def bundle(path: Path, out: Path) -> dict[str, str]:
    """Write a bundle; return its files."""
    result = supported(path, "--out", out)
    assert result.exit_code == 0, (result.output, result.exception)
    with zipfile.ZipFile(out) as archive:
        found = {name: archive.read(name).decode() for name in archive.namelist()}
    assert all(f"  {name}: " in result.output for name in found)
    assert result.output.splitlines()[-1].startswith(f"{out} written, of ")
    return found


def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tuple[Path, list[str]]:
    """Return a run with secrets everywhere, and what must not come out."""
    folder = tmp_path / SECRETS["place"]
    folder.mkdir()
    path = folder / "run"
    options = {"key": SECRETS["option"], "depth": 3, "password": int(SECRETS["pin"])}
    task = {"name": f"{folder}/tiny.py", "data_dir": str(folder / "records"), "options": options}
    with simulated(path, tiny_experiment(task=task, **changes), TinyTask()) as run:
        run_id = run.run_id
    credentials = Credentials(tmp_path / "credentials")
    token = add_token(path / "tokens.toml", "eve", "worker")  # type: ignore[arg-type]
    key, certificate = (credentials.folder / "certs/alice" / name for name in ("tls.key", "tls.crt"))
    (path / "tls.key").write_bytes(key.read_bytes())
    (path / f"{SECRETS['password']}.txt").write_text(SECRETS["password"])
    (path / "results" / f"{SECRETS['password']}.safetensors").touch()
    experiment = path / "experiment.toml"
    experiment.write_text(f"# {SECRETS['comment']}\n{experiment.read_text()}")
    message = (
        f"client 1 of task tiny: ValueError: {SECRETS['data']} ({folder}/records/1.csv, line 3; token {token}) "
        f"at http://{SECRETS['url']}/x on {SECRETS['host']}:7000 ({SECRETS['address']})"
    )
    with closing(sqlite3.connect(path / "run.db")) as database, database:
        incarnation = "0123456789abcdef" * 2
        database.execute(
            "UPDATE assignments SET reason = ?, worker = ?", (message, f"{SECRETS['worker']}:{incarnation}")
        )
        database.execute("UPDATE rounds SET reason = ? WHERE round = 1", (message,))
        database.execute("INSERT INTO run VALUES ('invented', ?)", (SECRETS["password"],))
    (path / "logs").mkdir()
    (path / "logs" / f"{SECRETS['worker']}.log").write_text(
        f"2026-01-01 10:00:00,123 INFO {SECRETS['worker']}: registered, on cpu\n"
        f'Traceback:\n  File "{folder}/my records/tiny.py", line 3, in client\n{message}\n'
        f"password={SECRETS['password']} Authorization: Bearer {SECRETS['variable']}\n"
        f"{key.read_text()}{certificate.read_text()}mail ann@{SECRETS['host']}\n{os.uname().nodename}\n"
    )
    monkeypatch.setenv("LOTTERYFL_TOKEN", token)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS["variable"])
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    secrets = [text for name, text in SECRETS.items() if name != "data"]
    secrets += [token.partition(".")[2], run_id, incarnation, str(folder), os.uname().nodename]
    secrets += [line for file in (key, certificate) for line in file.read_text().splitlines() if "-" not in line]
    return path, secrets


def assert_none_of(secrets: list[str], found: dict[str, str], out: Path) -> None:
    for name, content in found.items():
        for secret in secrets:
            assert secret not in content, (name, secret)
            assert secret not in name
    assert not any(secret.encode() in out.read_bytes() for secret in secrets)
    assert not any(name.endswith((".safetensors", ".db", ".key", ".crt", ".pem")) for name in found)


def test_no_secret_of_all_that_are_around_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, secrets = planted(tmp_path, monkeypatch)
    out = tmp_path / "bundle.zip"
    found = bundle(path, out)
    assert_none_of(secrets, found, out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    # What it is for is there all the same.
    log = found["logs/w1.txt"]
    assert "2026-01-01 10:00:00,123 INFO w1: registered, on cpu" in log
    assert 'File "…/tiny.py", line 3, in client' in log
    assert "ValueError: " in log
    rows = [json.loads(line) for line in found["run.db/assignments.jsonl"].splitlines()]
    assert {(row["worker"], row["state"]) for row in rows} == {("w1", "done")}
    assert rows[0]["reason"].startswith("client 1 of task tiny: ValueError: patient Doe, born 1955 (…/1.csv, line 3;")
    assert len(found["run.db/metrics.jsonl"].splitlines()) > 10
    experiment = tomllib.loads(found["experiment.toml"])
    assert experiment["task"]["options"] == {"key": "<withheld>", "depth": 3, "password": "<withheld>"}
    assert experiment["task"]["name"] == "…/tiny.py"
    assert json.loads(found["environment.json"])["OMP_NUM_THREADS"] == "2"
    assert json.loads(found["versions.json"])["torch"]
    assert "ok   python: " in found["doctor.txt"]
    assert "models/round-0000.safetensors\n" in found["files.txt"]
    assert " in 5 others\n" in found["files.txt"]


@pytest.mark.parametrize(
    "changes",
    [{"access": {"workers": {"north-clinic": "0-3"}}}, {"privacy": {"clip_norm": 1.0, "noise": "client"}}],
)
def test_of_private_clients_there_are_types_of_errors_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    path, secrets = planted(tmp_path, monkeypatch, strategy={"name": "fedavg"}, **changes)
    out = tmp_path / "bundle.zip"
    found = bundle(path, out)
    assert_none_of([*secrets, SECRETS["data"]], found, out)
    assert not any(name.startswith("logs/") for name in found)
    rows = [json.loads(line) for line in found["run.db/assignments.jsonl"].splitlines()]
    assert {row["reason"] for row in rows} == {"<withheld>: ValueError"}
    measured = [json.loads(line) for line in found["run.db/metrics.jsonl"].splitlines()]
    assert {tuple(row) for row in measured} == {("round", "client", "phase")}
    assert not any("train_loss" in found[name] for name in found if name.startswith("run.db"))


def test_a_run_of_which_little_can_be_read_has_a_bundle_too(finished_run: Path, tmp_path: Path) -> None:
    (finished_run / "run.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    (finished_run / "run.db-wal").unlink(missing_ok=True)
    found = bundle(finished_run, tmp_path / "bundle.zip")
    assert found["run.db/rounds.jsonl"].startswith("<withheld>: ")
    assert "fail run: " in found["doctor.txt"]
    assert "  run.db\n" in found["files.txt"]
    assert "the experiment cannot be read" in found["README.txt"]


def test_it_is_of_a_run_and_says_where_it_cannot_be_written(finished_run: Path, tmp_path: Path) -> None:
    assert str(supported(tmp_path, "--out", tmp_path / "b.zip").exception).endswith(
        "is no run directory: it has no run.db"
    )
    out = tmp_path / "nowhere/b.zip"
    assert str(supported(finished_run, "--out", out).exception).startswith(
        f"--out {out}: cannot be written: No such file"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("loss 0.25 after 3 epochs at 12:30:45", "loss 0.25 after 3 epochs at 12:30:45"),
        ("listening at train.example.org:7000", "listening at <host>:7000"),
        ("peer ipv6:[fe80::1ff:fe23:4567:890a]:50051", "peer ipv6:[<address>]:50051"),
        ("open /srv/x/data.bin: No such file", "open …/data.bin: No such file"),
        ("ratio 3/4, and/or", "ratio 3/4, and/or"),
        ("api_key: 'a b c', next", "api_key: <withheld>, next"),
        ('{"password": "x y"}', '{"password": <withheld>}'),
        ("C:\\Users\\ann\\x.py", "…/x.py"),
        ("w\x1b[31m", "w?[31m"),
        ("model fc1.weight: shape [200, 64]", "model fc1.weight: shape [200, 64]"),
    ],
)
def test_texts_lose_what_is_nobody_s_business_and_no_more(text: str, told: str) -> None:
    assert Redactor((), (), is_private=False).text(text) == told
