"""`lotteryfl verify` names what is damaged, and nothing else."""

# ruff: noqa: S608 - every query is our own

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from lotteryfl.common.pruning.parameters import digest
from lotteryfl.common.tensors.file import open_file
from lotteryfl.server.store.rundb.schema import OLDEST_VERSION, SCHEMA_VERSION
from lotteryfl.server.store.runfiles import model_file
from tests.support.bench import simulated, tiny_experiment
from tests.support.damage import TICKET, edit, flip, problems, rewritten

GLOBAL_MODEL = model_file(2)


def mask_file(path: Path) -> Path:
    (file,) = (path / "masks").iterdir()
    return file


def _nan_in_the_model(path: Path) -> None:
    with rewritten(path / GLOBAL_MODEL) as tensors:
        tensors["0.weight"][0, 1] = torch.nan
    edit(path, f"UPDATE run SET value = '{digest(open_file(path / GLOBAL_MODEL))}' WHERE key = 'model_sha256'")


def _nan_in_a_ticket(path: Path) -> None:
    with rewritten(path / TICKET) as tensors:
        tensors["kept/0.weight"][3] = torch.nan


def _other_shape(path: Path) -> None:
    with rewritten(path / TICKET) as tensors:
        tensors["dense/0.bias"] = tensors["dense/0.bias"][1:]


def _truncated(path: Path) -> None:
    (path / TICKET).write_bytes((path / TICKET).read_bytes()[:-4])


def _garbage_in_a_page(path: Path) -> None:
    with closing(sqlite3.connect(path / "run.db")) as connection:
        ((page,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'results'")
        ((size,),) = connection.execute("PRAGMA page_size")
    with (path / "run.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * 64)


DAMAGES: dict[str, tuple[Any, ...]] = {
    "global model, a byte": (
        lambda path: flip(path / GLOBAL_MODEL),
        f"{GLOBAL_MODEL}: model_sha256 [0-9a-f]{{64}}, expected [0-9a-f]{{64}} as recorded",
    ),
    "global model, NaN": (
        _nan_in_the_model,
        f"{GLOBAL_MODEL}: dense/0.weight: value nan at flat index 1, expected finite",
    ),
    "global model, gone": (
        lambda path: (path / GLOBAL_MODEL).unlink(),
        f"{GLOBAL_MODEL}: cannot be read: No such file.*",
    ),
    "θ_0, a byte": (
        lambda path: flip(path / model_file(0)),
        f"{model_file(0)}: SHA-256 [0-9a-f]{{64}}, expected [0-9a-f]{{64}}",
    ),
    "model_round": (
        lambda path: (
            shutil.copy(path / GLOBAL_MODEL, path / model_file(1)),
            edit(path, "UPDATE run SET value = '1' WHERE key = 'model_round'"),
        ),
        "run.db: run, key 'model_round': 1, expected 2 after 3 committed rounds",
    ),
    "model_round, beyond all rounds": (
        lambda path: edit(path, f"UPDATE run SET value = '{'9' * 5000}' WHERE key = 'model_round'"),
        "run.db: run, key 'model_round': '9+.*9+', expected a number",
    ),
    "model_round, no number": (
        lambda path: edit(path, "UPDATE run SET value = '-' WHERE key = 'model_round'"),
        "run.db: run, key 'model_round': '-', expected a number",
    ),
    "ticket, truncated": (_truncated, rf"{TICKET}: \d+ bytes, but the header describes \d+"),
    "ticket, gone": (lambda path: (path / TICKET).unlink(), f"{TICKET}: cannot be read: No such file or directory"),
    "ticket, a folder": (
        lambda path: ((path / TICKET).unlink(), (path / TICKET).mkdir()),
        f"{TICKET}: .*",
    ),
    "ticket, NaN": (_nan_in_a_ticket, f"{TICKET}: kept/0.weight: value nan at flat index 3, expected finite"),
    "ticket, shape": (_other_shape, rf"{TICKET}: dense/0.bias: torch.float32 of shape \[11\], expected .* \[12\]"),
    "ticket, last bit": (
        lambda path: flip(path / TICKET, -4),
        "summary.json: tickets_sha256 = '[0-9a-f]{64}', expected '[0-9a-f]{64}' as database and files say",
    ),
    "mask, a byte": (
        lambda path: flip(mask_file(path)),
        "masks/[0-9a-f]{64}.safetensors: SHA-256 [0-9a-f]{64}, expected [0-9a-f]{64}",
    ),
    "mask, gone": (
        lambda path: mask_file(path).unlink(),
        "masks/[0-9a-f]{64}.safetensors: cannot be read: No such file or directory",
    ),
    "masks, folder": (
        lambda path: shutil.rmtree(path / "masks"),
        "masks: missing, expected a folder",
        "masks/[0-9a-f]{64}.safetensors: cannot be read: No such file or directory",
    ),
    "database, a page": (_garbage_in_a_page, r"run.db: .*"),
    "database, its header": (
        lambda path: (path / "run.db").write_bytes(b"x" * 4096),
        "run.db: cannot be used as a run database: file is not a database",
    ),
    "database, version": (
        lambda path: edit(path, "PRAGMA user_version = 12"),
        f"run.db: is of version 12; this program reads {OLDEST_VERSION} to {SCHEMA_VERSION}: a newer lotteryfl .*",
    ),
    "database, a table": (
        lambda path: edit(path, "DROP TABLE metrics"),
        f"run.db: its tables are not those of version {SCHEMA_VERSION}",
    ),
    "database, text that is none": (
        lambda path: edit(path, "UPDATE run SET value = CAST(x'ff' AS TEXT) WHERE key = 'run_id'"),
        "run.db: Could not decode to UTF-8 column .*",
    ),
    "traffic": (
        lambda path: edit(path, "UPDATE assignments SET bytes_down = -1 WHERE round = 1 AND client = 0"),
        rf"run.db: assignments: round 1, client 0: -1 bytes down and \d+ up, expected 0 to {2**50}",
    ),
    "traffic of none in particular": (
        lambda path: edit(path, "INSERT OR REPLACE INTO run VALUES ('shared_bytes_down', 'x')"),
        "run.db: run, key 'shared_bytes_down': 'x', expected a number",
    ),
    "experiment, gone": (
        lambda path: (path / "experiment.toml").unlink(),
        "experiment.toml: No such file or directory",
    ),
    "experiment, no TOML": (
        lambda path: (path / "experiment.toml").write_text("rounds ="),
        "experiment.toml: not valid TOML: .*",
    ),
    "table, gone": (
        lambda path: edit(path, "DELETE FROM run WHERE key = 'table'"),
        "run.db: run, key 'table': missing: the run was never finished being set up",
    ),
    "table, no JSON": (
        lambda path: edit(path, "UPDATE run SET value = '[' WHERE key = 'table'"),
        "run.db: run, key 'table': tensor table: Invalid JSON: .*",
    ),
    "table, of another model": (
        lambda path: edit(path, "UPDATE run SET value = replace(value, '[12]', '[13]') WHERE key = 'table'"),
        *[r"\w+/[\w-]+.safetensors: dense/0.bias: torch.float32 of shape \[12\], expected .* \[13\]"] * 6,
    ),
    "results, a scale": (
        lambda path: edit(path, "UPDATE results SET scale = 2 WHERE (round, client) = (3, 0)"),
        "run.db: results: round 3, client 0: scale 2, expected more than 0 to 1",
    ),
    "refusals, of nobody": (
        lambda path: edit(path, "INSERT INTO refusals VALUES (1, 9, 0, 1, 'w', 'why')"),
        "run.db: refusals: round 9, client 0: refers to a row that is not there",
    ),
    "state": (
        lambda path: edit(path, "UPDATE run SET value = 'running' WHERE key = 'state'"),
        "run.db: run, key 'state': 'running' with 3 of 3 rounds committed",
    ),
    "round, gone": (
        lambda path: edit(
            path, *(f"DELETE FROM {t} WHERE round = 1" for t in ("metrics", "results", "assignments", "rounds"))
        ),
        "run.db: rounds: round 1: missing, and round 2 is there",
    ),
    "round, after the final one": (
        lambda path: edit(path, "INSERT INTO rounds (round, state) VALUES (4, 'open')"),
        "run.db: rounds: round 4: 'open' of 4 rounds, expected only the last to be open, and none after 3",
        "run.db: rounds: round 4: 0 assignments, expected 4",
    ),
    "round, open among others": (
        lambda path: edit(path, "UPDATE rounds SET state = 'open' WHERE round = 2"),
        "run.db: rounds: round 2: 'open' of 3 rounds, expected only the last to be open, and none after 3",
        "run.db: run, key 'state': 'finished' with 2 of 3 rounds committed",
        *[r"results/r2-c\d-a1.safetensors: cannot be read: No such file or directory"] * 3,
    ),
    "assignment, gone": (
        lambda path: edit(
            path, *(f"DELETE FROM {t} WHERE round = 2 AND client = 1" for t in ("metrics", "results", "assignments"))
        ),
        "run.db: rounds: round 2: 2 assignments, expected 3",
    ),
    "result, gone": (
        lambda path: edit(path, *(f"DELETE FROM {t} WHERE round = 1 AND client = 0" for t in ("metrics", "results"))),
        "run.db: assignments: round 1, client 0: 'done', and has no result",
    ),
    "assignment, unsettled in a committed round": (
        lambda path: edit(
            path,
            *(f"DELETE FROM {t} WHERE round = 1 AND client = 0" for t in ("metrics", "results")),
            "UPDATE assignments SET state = 'leased' WHERE round = 1 AND client = 0",
        ),
        "run.db: assignments: round 1, client 0: 'leased', expected 'done' or 'dropped': its round is committed",
    ),
    "assignment, more forgiven than tried": (
        lambda path: edit(path, "UPDATE assignments SET forgiven = 2 WHERE round = 1 AND client = 0"),
        "run.db: assignments: round 1, client 0: 2 of its attempts forgiven, expected 0 to 1",
    ),
    "result, no personalised accuracy": (
        lambda path: edit(path, "DELETE FROM metrics WHERE round = 1 AND client = 0 AND phase = 'personalised'"),
        "run.db: results: round 1, client 0: 1 of its metrics, expected 'downloaded' and 'personalised'",
    ),
    "client, gone": (
        lambda path: edit(path, "DELETE FROM clients WHERE client = 3"),
        "run.db: assignments: client 3: refers to a row that is not there",
    ),
    "clients, one too many": (
        lambda path: edit(path, "INSERT INTO clients (client) VALUES (4)"),
        "run.db: clients: 5 rows, expected 4 as the experiment says",
    ),
    "client, other ticket": (
        lambda path: edit(path, "UPDATE clients SET ticket = 'results/r3-c1-a1.safetensors' WHERE client = 0"),
        "run.db: clients: client 0: file 'results/r3-c1-a1.safetensors', expected 'results/r3-c0-a1.safetensors' as .*",
    ),
    "client, no mask": (
        lambda path: edit(path, "UPDATE clients SET mask = '' WHERE client = 0"),
        "run.db: clients: client 0: mask none, expected '[0-9a-f]{12}' as its last committed result",
    ),
    "density, grown": (
        lambda path: edit(path, "UPDATE results SET density = 0.8 WHERE round = 2 AND client = 0"),
        "run.db: results: round 2, client 0: density 0.8, expected 0 to 0.703704 as before: a mask only shrinks",
        "run.db: results: round 3, client 0: .* density 0.5 after 0.8: expected both to change, or neither",
    ),
    "summary, no JSON": (lambda path: (path / "summary.json").write_text("{"), "summary.json: Expecting .*"),
    "summary, a figure": (
        lambda path: (path / "summary.json").write_text(
            (path / "summary.json").read_text().replace('"seed": 0', '"seed": 1')
        ),
        "summary.json: seed = 1, expected 0 as database and files say",
    ),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damage_is_named_and_nothing_else(finished_run: Path, case: str) -> None:
    damage, *expected = DAMAGES[case]
    damage(finished_run)
    found = problems(finished_run)
    assert len(found) == len(expected), found
    for problem, pattern in zip(found, expected, strict=True):
        assert re.fullmatch(pattern, problem), problem


def test_narrowed_values_are_judged_by_what_they_stand_for(tmp_path: Path) -> None:
    with simulated(tmp_path / "run", tiny_experiment(wire_dtype="int8")) as run:
        pass
    with rewritten(run.path / TICKET) as tensors:
        tensors["scale/0.weight"][0] = torch.inf
    assert problems(run.path) == [f"{TICKET}: scale/0.weight: value inf at flat index 0, expected finite"]


def test_names_that_lead_out_of_the_run_are_refused(finished_run: Path, tmp_path: Path) -> None:
    shutil.copy(finished_run / TICKET, tmp_path / "ticket.safetensors")
    name = "results/../../ticket.safetensors"
    edit(
        finished_run,
        f"UPDATE clients SET ticket = '{name}', mask = '../x' WHERE client = 0",
        f"UPDATE results SET file = '{name}', mask = '../x' WHERE (round, client) = (3, 0)",
        "UPDATE assignments SET mask = '../x' WHERE (round, client) = (3, 0)",
        "UPDATE results SET mask = '../x' WHERE (round, client) = (2, 0)",
    )
    assert set(problems(finished_run)) >= {
        "masks/../x.safetensors: expected to be named by 64 hexadecimal digits",
        f"{name}: expected the name of a file in results/",
    }


def test_a_plan_that_cannot_be_read_is_named(finished_run: Path) -> None:
    edit(finished_run, "UPDATE assignments SET plan = x'ff' WHERE (round, client) = (3, 0)")
    assert problems(finished_run) == [f"{TICKET}: the plan of its assignment in run.db cannot be read"]
