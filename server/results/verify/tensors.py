"""Whether the tensors on disk are those that run.db speaks of, one file at a time, mapped."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from google.protobuf.message import DecodeError
from rich.filesize import decimal

from lotteryfl.common import packedmasks
from lotteryfl.common.errors import PayloadError
from lotteryfl.common.names import Digest, FileName
from lotteryfl.common.pruning.parameters import digest
from lotteryfl.common.tensors.file import open_file
from lotteryfl.common.text import quoted
from lotteryfl.common.wire.format import check_model
from lotteryfl.common.wire.maskrule import comes_whole
from lotteryfl.common.wire.payload import is_digest, mask_density, mask_digest, unpack_mask_update
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.aggregation.optimizer import check_state
from lotteryfl.server.results.summary import summarise
from lotteryfl.server.results.verify.report import Group
from lotteryfl.server.store.rundb.keptmodels import kept_models
from lotteryfl.server.store.rundb.needed import files_in_use
from lotteryfl.server.store.rundir import FOLDERS, RunDirectory
from lotteryfl.server.store.runfiles import is_tensor_file, model_file, optimizer_file
from lotteryfl.server.strategies import create_strategy

_ADDED = frozenset({"left_out"})
"""Keys of summary.json that 0.1 did not write."""


class _Result(NamedTuple):
    """A result whose file is in use."""

    file: FileName
    mask: Digest
    mask_before: Digest
    density: float
    plan: bytes


def check_folders(group: Group, run: RunDirectory) -> None:
    """Check that the folders are there."""
    for folder in FOLDERS:
        if not (run.path / folder).is_dir():
            group.add(folder, "missing, expected a folder")
    files = [path for folder in FOLDERS for path in (run.path / folder).glob("*")]
    group.looked_at = f"{len(files)} files, {_size(files)}"


def check_models(group: Group, run: RunDirectory) -> None:
    """Check θ_0 and the global model: content, fit to the table, values that may travel, and the round it is of.

    With the global model goes what the server's optimizer remembers, where there is one.
    """
    initial, current = model_file(0), model_file(run.model_round)
    committed, strategy = run.database.committed_rounds(), create_strategy(run.experiment)
    trained = run.database.ended_early() or min(committed, run.experiment.rounds)
    rounds = range(1, trained + 1) if strategy.aggregates else ()
    expected = max(filter(strategy.trains, rounds), default=0)
    if run.model_round != expected:
        what = f"{run.model_round}, expected {expected} after {committed} committed rounds"
        group.add("run.db: run, key 'model_round'", what)
    with group.naming(initial):
        _check_content(run.path / initial, run.initial_digest)
        _check_model(run, initial)
    with group.naming(current):
        sha256, recorded = _check_model(run, current), run.database.get("model_sha256")
        if sha256 != recorded:
            raise PayloadError(f"model_sha256 {sha256}, expected {recorded} as recorded")
        _check_content(run.path / current, run.model_digest)
    files = {run.path / initial, run.path / current}
    if run.best_round is not None:
        best = model_file(run.best_round)
        files.add(run.path / best)
        with group.naming(best):
            _check_model(run, best)
            _check_content(run.path / best, run.database.get("best_digest"))
    kept = kept_models(run.database)
    for round_, recorded in kept.items():
        file = model_file(round_)
        files.add(run.path / file)
        with group.naming(file):
            if not 0 < round_ <= run.model_round:
                raise PayloadError(f"kept as the model of a round, expected one of 1 to {run.model_round}")
            _check_model(run, file)
            _check_content(run.path / file, recorded)
    if steps := sum(map(strategy.optimizes, rounds[: run.model_round])):
        state = optimizer_file(run.model_round)
        files.add(run.path / state)
        with group.naming(state):
            check_state(strategy.server_optimizer(), run.table.model, open_file(run.path / state), steps)
    others = f", {len(kept)} kept" if kept else ""
    group.looked_at = f"θ_0 and the model after round {run.model_round}{others}, {_size(files)}"


def check_masks(group: Group, run: RunDirectory) -> None:
    """Check that every mask in use is what its name says."""
    digests = sorted(mask for mask in files_in_use(run.database)[1] if mask)
    for mask in digests:
        with group.naming(_mask_file(mask)):
            if not is_digest(mask):
                raise PayloadError("expected to be named by 64 hexadecimal digits")
            _check_content(run.mask_path(mask), mask)
            masks = run.load_masks(mask)
            if (
                mask == run.shared_mask.digest
                and (density := mask_density(run.table, masks)) != run.shared_mask.density
            ):
                raise PayloadError(f"density {density:.6g}, expected {run.shared_mask.density:.6g} as all start from")
    group.looked_at = (
        f"{len(digests)} in use, {_size(run.path / _mask_file(mask) for mask in digests if is_digest(mask))}"
    )


def check_results(group: Group, run: RunDirectory, broken: Collection[str]) -> None:
    """Check tickets and the open round's results as when they came.

    Args:
        group: takes the problems.
        run: the run.
        broken: the mask files that cannot be relied on; results are not judged by them.
    """
    rows = run.database.select(
        "SELECT file, r.mask, a.mask, r.density, a.plan FROM results r JOIN assignments a USING (round, client) "
        "JOIN rounds USING (round) WHERE rounds.state = 'open' OR file IN (SELECT ticket FROM clients)"
    )
    files = []
    for result in map(_Result._make, rows):
        files.append(result.file)
        with group.naming(result.file):
            _check_result(run, result, lambda mask: bool(mask) and _mask_file(mask) in broken)
    group.looked_at = f"{len(files)} in use, {_size(run.path / file for file in files if is_tensor_file(file))}"


def check_summary(group: Group, run: RunDirectory) -> None:
    """Check that a finished run's summary says what database and files say: no byte of a ticket has changed since."""
    path = run.path / "summary.json"
    if run.state != "finished" or not path.exists():
        group.looked_at = "not written yet"
        return
    with group.naming(path.name):
        recorded = json.loads(path.read_bytes())
        if not isinstance(recorded, dict):
            raise PayloadError(f"{quoted(recorded)}, expected a JSON object")
        for key, value in summarise(run).items():
            if (key in recorded or key not in _ADDED) and recorded.get(key) != value:
                group.add(
                    path.name,
                    f"{key} = {quoted(recorded.get(key))}, expected {quoted(value)} as database and files say",
                )
    group.looked_at = "model, tickets, accuracies, densities, traffic"


def _check_result(run: RunDirectory, result: _Result, is_broken: Callable[[str], bool]) -> None:
    if not (is_tensor_file(result.file) and result.file.startswith("results/")):
        raise PayloadError("expected the name of a file in results/")
    entries = open_file(run.tensor_path(result.file))
    if is_broken(result.mask):
        return
    masks, plan = run.load_masks(result.mask), _plan(result.plan)
    run.wire.of_result(plan).check(entries, masks, own=plan.owns_unkept)
    if (density := mask_density(run.table, masks)) != result.density:
        raise PayloadError(f"density {density:.6g} by its mask, expected {result.density:.6g} as recorded")
    if is_broken(result.mask_before):
        return
    try:
        before = run.load_masks(result.mask_before)
    except FileNotFoundError:
        return  # a mask is deleted when nobody is under it any more
    if comes_whole(plan):
        before = {}
    for name, packed in before.items():
        if name not in masks or not packedmasks.is_subset(masks[name], packed):
            raise PayloadError(f"{quoted(name)}: its mask keeps weights that were pruned before: a mask only shrinks")
    received = mask_digest(unpack_mask_update(run.table, entries, before, run.experiment.mask_coding))
    if received != result.mask:
        raise PayloadError(f"the mask that came with it is {received or 'none'}, expected {result.mask or 'none'}")


def _plan(raw: bytes) -> pb.Plan:
    try:
        return pb.Plan.FromString(raw)
    except DecodeError as error:
        raise PayloadError("the plan of its assignment in run.db cannot be read") from error


def _check_model(run: RunDirectory, file: str) -> str:
    """Return the model's `model_sha256`."""
    tensors = open_file(run.path / file)
    if file == model_file(0):
        check_model(run.model_table, tensors, lambda: tensors)
    else:
        check_model(run.table, tensors, lambda: open_file(run.model_path(0)))
    return digest(run.with_frozen(tensors))


def _check_content(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != expected:
        raise PayloadError(f"SHA-256 {sha256}, expected {expected}")


def _mask_file(mask: str) -> str:
    return f"masks/{mask}.safetensors"


def _size(paths: Iterable[Path]) -> str:
    return decimal(sum(path.stat().st_size for path in paths if path.is_file()))
