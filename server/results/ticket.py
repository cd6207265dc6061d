"""A model of a run as a plain state dict in a safetensors file, whose header says what it is."""

import math
from pathlib import Path

import torch
from torch import Tensor

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.models import DATASETS
from lotteryfl.common.models.named import model_name
from lotteryfl.common.privatefiles import SHARED_FILE
from lotteryfl.common.pruning.parameters import digest
from lotteryfl.common.taskid import task_id
from lotteryfl.common.tensors.file import save
from lotteryfl.server.models.ticket import client_row, global_tensors, ticket_tensors
from lotteryfl.server.store.extrastate import ExtraState
from lotteryfl.server.store.rundir import RunDirectory


def export_ticket(run: RunDirectory, client: int, out: Path, *, half: bool = False) -> None:
    """Write `ticket_tensors`: `model.load_state_dict(safetensors.torch.load_file(out))`.

    Args:
        run: whose client it is.
        client: its number.
        out: the file.
        half: what is of floating point is written in float16.

    Raises:
        LotteryFLError: there is no such client, the file cannot be written or is to be of another format, the model's
            state dict has what no such file holds, or a value is beyond float16.
    """
    tensors = ticket_tensors(run, client)
    file = client_row(run, client).ticket
    rows = run.database.select("SELECT round FROM results WHERE file = ?", file).fetchall()
    _write(run, tensors, {"client": str(client), "round": str(rows[0][0] if rows else run.model_round)}, out, half=half)


def export_global(run: RunDirectory, out: Path, *, half: bool = False) -> None:
    """Write `global_tensors`, as `export_ticket` does.

    Raises:
        LotteryFLError: as there.
    """
    _write(run, global_tensors(run), {"round": str(run.model_round)}, out, half=half)


def _write(run: RunDirectory, tensors: dict[str, Tensor], what: dict[str, str], out: Path, *, half: bool) -> None:
    if out.suffix not in ("", ".safetensors"):
        raise LotteryFLError(f"--out {out}: expected a name that ends in .safetensors, which is what is written")
    if other := ExtraState.kept(run.database).other:
        raise LotteryFLError(
            f"{run.path}: {other}, which a .safetensors file cannot hold and load_state_dict wants: expected "
            "get_extra_state() to return a tensor; lotteryfl.open_run(DIR).ticket(CLIENT) has all the rest"
        )
    if half:
        tensors = {name: _halved(name, tensor) for name, tensor in tensors.items()}
    metadata = {
        "format": "pt",  # without which transformers reads no file
        "task": task_id(run.experiment.task.name),
        "model": _model(run.experiment),
        **what,
        "run": run.database.get("run_id"),
        "density": f"{_density(run, tensors):.6g}",
        "model_sha256": digest(tensors),
    }
    try:
        save(out, tensors, mode=SHARED_FILE, metadata=metadata)
    except OSError as error:
        raise LotteryFLError(f"--out {out}: cannot be written: {error.strerror}") from error


def _halved(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    halved = tensor.half()
    if (halved.isinf() & tensor.isfinite()).any():
        most = torch.finfo(torch.float16).max
        raise LotteryFLError(f"--half: {name} holds {float(tensor.abs().max()):g}, and float16 ends at {most:g}")
    return halved


def _model(experiment: Experiment) -> str:
    """Return what the model is, without the places of files on this machine."""
    named = model_name(experiment.task.model)
    if named is not None:
        return named.short
    return experiment.task.model if experiment.task.name in DATASETS else "model()"


def _density(run: RunDirectory, tensors: dict[str, Tensor]) -> float:
    """Return the share of the prunable weights that are not 0."""
    prunable = [tensors[spec.name] for spec in run.table if spec.prunable]
    total = sum(tensor.numel() for tensor in prunable)
    return sum(int(tensor.count_nonzero()) for tensor in prunable) / total if total else math.nan
