"""The parts of a bundle, each of which may fail without the others."""

import json
import os
import platform
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import tomli_w
from packaging.requirements import Requirement

from lotteryfl.common.disk.atomicfile import AtomicFile
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.names import WorkerId
from lotteryfl.common.security.identity import name_of
from lotteryfl.common.security.secretnames import is_secret
from lotteryfl.server.store.binding import bound_experiment
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.tending.doctor.machine import PACKAGE, checks_of_machine
from lotteryfl.tending.doctor.run import checks_of_run
from lotteryfl.tending.support.redaction import GONE, Redactor
from lotteryfl.tending.support.tables import TABLES, facts, table

VARIABLES = (
    "LANG",
    "LC_ALL",
    "TZ",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "CUBLAS_WORKSPACE_CONFIG",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "MALLOC_ARENA_MAX",
)
"""Of the environment, what decides how a run computes; nothing else of it is looked at."""

_MOST_LINES, _MOST_BYTES, _MOST_LOGS = 500, 1 << 18, 20
_OWN_FILE = re.compile(
    r"(models/(round|optimizer|up)-\d+|masks/[0-9a-f]{64}|results/r\d+-c\d+-a\d+(\.\d+)?)\.safetensors|run\.db(-wal|-shm)?|"
    r"run\.lock|experiment\.toml|summary(-\d+)?\.json|\.setup",
    re.ASCII,
)
_README = """\
What `lotteryfl support` wrote of a run, for a bug report. Look at it before you give it away.

In it are versions, what `lotteryfl doctor` found, the experiment as resolved, run.db's tables, sizes of files{logs}.
Not in it are keys, tokens, certificates, models, masks, tensors, data, comments, [access], texts among the options of a
task or strategy, or variables of the environment but those in environment.json. Places of this machine are cut to
their last name, workers are called w1, w2 …, hosts, addresses and whatever looks like a secret are {gone}.
{private}"""
_PRIVATE = """\
Privacy is promised, or clients are somebody's own, or the experiment cannot be read: of errors there are types alone,
no log, and nothing that was measured of clients' data.
"""


class Part(NamedTuple):
    """A file of the bundle."""

    name: str
    what: str
    content: str


def parts(run: Path) -> Iterator[Part]:
    """Yield what goes into the bundle of a run directory; what cannot be read says so in its place."""
    experiment, trouble = _experiment(run)
    is_private = experiment is None or experiment.privacy.is_promised or bool(experiment.access.workers)
    redactor = Redactor(_workers(run, experiment), (run, run.resolve()), is_private=is_private)
    private = _PRIVATE if is_private else ""
    logs = "" if is_private else ", the last lines of logs"
    yield Part("README.txt", "what is in here, and what is not", _README.format(logs=logs, gone=GONE, private=private))
    yield Part("versions.json", "of Python, the machine and the libraries", _json(_versions()))
    yield Part("environment.json", "variables that decide how a run computes", _json(_environment(redactor)))
    yield Part("doctor.txt", "what `lotteryfl doctor` found", _doctor(run, redactor))
    resolved = redactor.message(trouble) if experiment is None else tomli_w.dumps(_without_places(experiment, redactor))
    yield Part("experiment.toml", "as resolved, without places and [access]", resolved)
    yield Part("run.db/run.json", "the table run", _guarded(partial(_facts, run, redactor), redactor))
    for name in TABLES:
        text = _guarded(partial(_rows, run, name, redactor, is_private=is_private), redactor)
        yield Part(f"run.db/{name}.jsonl", f"the table {name}", text)
    yield Part("files.txt", "sizes of files", _guarded(partial(_files, run), redactor))
    if not is_private:
        for file in sorted((run / "logs").glob("*.log"))[:_MOST_LOGS]:
            tail = _guarded(partial(_tail, file, redactor), redactor)
            yield Part(f"logs/{redactor.worker(file.stem)}.txt", "its last lines", tail)


def write(out: Path, bundle: list[Part]) -> None:
    """Write a bundle, whole or not at all, for its owner alone.

    Raises:
        LotteryFLError: it cannot be written.
    """
    memory = BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in bundle:
            archive.writestr(part.name, part.content)
    try:
        with AtomicFile(out) as file:
            file.write(memory.getvalue(), 0)
    except OSError as error:
        raise LotteryFLError(f"--out {out}: cannot be written: {error.strerror or error}") from error


def _experiment(run: Path) -> tuple[Experiment | None, str]:
    """Return a run's experiment, or why it cannot be read."""
    try:
        with closing(Database(run / "run.db", read_only=True)) as database:
            return bound_experiment(run, database), ""
    except Exception as error:  # a run of which nothing can be read is what a report is of
        return None, f"{type(error).__name__}: {error}"


def _workers(run: Path, experiment: Experiment | None) -> set[str]:
    found = set(experiment.access.workers) if experiment else set()
    found |= {file.stem for file in (run / "logs").glob("*.log")}
    try:
        with closing(Database(run / "run.db", read_only=True)) as database:
            for name in ("assignments", "refusals", "events"):
                if database.select("SELECT 1 FROM sqlite_schema WHERE name = ?", name).fetchone():
                    rows = database.select(f"SELECT DISTINCT worker FROM {name}")  # noqa: S608
                    found |= {name_of(WorkerId(str(worker))) for (worker,) in rows}
    except Exception:  # noqa: S110 - said where the tables are read
        pass
    return found


def _guarded(make: Callable[[], str], redactor: Redactor) -> str:
    try:
        return make()
    except Exception as error:
        return redactor.message(f"cannot be read: {type(error).__name__}: {error}")


def _facts(run: Path, redactor: Redactor) -> str:
    with closing(Database(run / "run.db", read_only=True)) as database:
        return _json(facts(database, redactor))


def _rows(run: Path, name: str, redactor: Redactor, *, is_private: bool) -> str:
    with closing(Database(run / "run.db", read_only=True)) as database, database.snapshot():
        return "".join(f"{line}\n" for line in table(database, name, redactor, is_private=is_private))


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.platform()}
    for name in (PACKAGE, *sorted({Requirement(each).name for each in requires(PACKAGE) or []})):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _environment(redactor: Redactor) -> dict[str, str]:
    return {name: redactor.text(os.environ[name]) for name in VARIABLES if name in os.environ}


def _doctor(run: Path, redactor: Redactor) -> str:
    lines = []
    for check in (*checks_of_machine(run), *checks_of_run(run)):
        told = redactor.text if check.verdict == "ok" else redactor.message
        lines.append(f"{check.verdict:<4} {check.subject}: {told(check.found)}\n")
    return "".join(lines)


def _without_places(experiment: Experiment, redactor: Redactor) -> dict[str, object]:
    """Return an experiment's keys as they may be told: what is a text of the user's own is cut, or left out."""
    table = experiment.model_dump(exclude_none=True, exclude={"access"})
    for section in ("task", "strategy"):
        options = table[section]["options"]
        table[section]["options"] = {
            key: GONE if isinstance(value, str) or is_secret(key) else value for key, value in options.items()
        }
    for section, key in (
        ("task", "name"),
        ("task", "model"),
        ("task", "initial"),
        ("task", "data_dir"),
        ("partition", "file"),
    ):
        if text := table[section][key]:
            table[section][key] = redactor.text(text)
    return table


def _files(run: Path) -> str:
    """Return the sizes of a run's files; of those that are not its own, how many there are."""
    lines, others, nbytes = [], 0, 0
    for path in sorted(run.rglob("*")):
        if not path.is_file():
            continue
        name, size = path.relative_to(run), path.stat().st_size
        if _OWN_FILE.fullmatch(str(name)):
            lines.append(f"{size:>12}  {name}")
        else:
            others, nbytes = others + 1, nbytes + size
    return "\n".join([*lines, f"{nbytes:>12}  in {others} others", ""])


def _tail(file: Path, redactor: Redactor) -> str:
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - _MOST_BYTES))
        text = log.read().decode(errors="replace")
    return redactor.lines("\n".join(text.splitlines()[-_MOST_LINES:]))


def _json(table: dict[str, str]) -> str:
    return json.dumps(table, indent=2, ensure_ascii=False) + "\n"
