"""A model of a run in a file that says what it is: as a plain state dict, or with its graph."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from lotteryfl.common.disk.privatefiles import SHARED_FILE
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.common.models import DATASETS
from lotteryfl.common.models.named import model_name
from lotteryfl.common.owncode.taskid import task_id
from lotteryfl.common.pruning.parameters import digest
from lotteryfl.common.pruning.structured.resizing import Smaller
from lotteryfl.common.tensors.file import save
from lotteryfl.server.models.built import built, smaller_model
from lotteryfl.server.models.ticket import client_row, global_tensors, known_round, strategy_tensors, ticket_tensors
from lotteryfl.server.results.onnxfile import save_onnx
from lotteryfl.server.store.extrastate import ExtraState
from lotteryfl.server.store.rundir import RunDirectory


class Form(NamedTuple):
    """In what form a model is written."""

    half: bool = False
    """What is of floating point is in float16."""
    structured: bool = False
    """Without the rows and filters that it can do without."""
    onnx: bool = False
    """As ONNX, which any runtime of it runs without the model's code; else as its state dict, in safetensors."""
    tasks: Sequence[str] = ()
    """Files and modules of tasks that are allowed here: the latter two need the model itself, and a client's data."""


_PLAIN = Form()


def export_ticket(run: RunDirectory, client: int, out: Path, *, form: Form = _PLAIN) -> Smaller | None:
    """Write `ticket_tensors`: `model.load_state_dict(safetensors.torch.load_file(out))`, or in another form.

    Tensors of the strategy's own that are the client's are written beside it, as OUT-strategy.safetensors.

    Args:
        run: whose client it is.
        client: its number.
        out: the file.
        form: in what form.

    Returns:
        What is left of the model, where it is `structured`.

    Raises:
        LotteryFLError: there is no such client, the file cannot be written or is to be of another format, the model's
            state dict has what no such file holds, or it cannot be had in this form.
    """
    tensors = ticket_tensors(run, client)
    file = client_row(run, client).ticket
    rows = run.database.select("SELECT round FROM results WHERE file = ?", file).fetchall()
    what = {"client": str(client), "round": str(rows[0][0] if rows else run.model_round)}
    left = _write(run, tensors, what, out, form)
    _write_beside(strategy_tensors(run, client), out)
    return left


def export_global(run: RunDirectory, out: Path, *, form: Form = _PLAIN, round_: int | None = None) -> Smaller | None:
    """Write `global_tensors`, as `export_ticket` does; client 0's data are the example that some forms need.

    Beside it, the tensors of the strategy's own that all share.

    Args:
        run: whose model it is.
        out: the file.
        form: in what form.
        round_: as for `global_tensors`.

    Raises:
        LotteryFLError: as there.
    """
    left = _write(run, global_tensors(run, round_), {"round": str(known_round(run, round_))}, out, form)
    _write_beside(strategy_tensors(run, round_=round_), out)
    return left


def _write(
    run: RunDirectory, tensors: dict[str, Tensor], what: Mapping[str, str], out: Path, form: Form
) -> Smaller | None:
    suffix = ".onnx" if form.onnx else ".safetensors"
    if out.suffix not in ("", suffix):
        raise LotteryFLError(f"--out {out}: expected a name that ends in {suffix}, which is what is written")
    if other := ExtraState.kept(run.database).other:
        raise LotteryFLError(
            f"{run.path}: {other}, which a .safetensors file cannot hold and load_state_dict wants: expected "
            "get_extra_state() to return a tensor; lotteryfl.open_run(DIR).ticket(CLIENT) has all the rest"
        )
    model, left = None, None
    if form.structured or form.onnx:
        model = built(run, tensors, int(what.get("client", 0)), form.tasks)
    if model is not None and form.structured:
        model, left = smaller_model(model)
        tensors = left.tensors
    if form.half:
        tensors = {name: _halved(name, tensor) for name, tensor in tensors.items()}
    metadata = {
        "format": "pt",  # without which transformers reads no file
        "task": task_id(run.experiment.task.name),
        "model": _model(run.experiment),
        **what,
        "run": run.database.get("run_id"),
        "density": f"{_density(run, tensors):.6g}",
        **({"rows_removed": str(left.rows)} if left else {}),
        "model_sha256": digest(tensors),
    }
    try:
        if model is not None and form.onnx:
            save_onnx(out, model.halved() if form.half else model, metadata)
        else:
            save(out, tensors, mode=SHARED_FILE, metadata=metadata)
    except OSError as error:
        raise LotteryFLError(f"--out {out}: cannot be written: {error.strerror}") from error
    return left


def _write_beside(tensors: Mapping[str, Tensor], out: Path) -> None:
    if not tensors:
        return
    beside = out.with_name(f"{out.stem}-strategy.safetensors")
    try:
        save(beside, tensors, mode=SHARED_FILE)
    except OSError as error:
        raise LotteryFLError(f"{beside}: cannot be written: {error.strerror}") from error


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
