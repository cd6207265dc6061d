"""Payloads between the run directory and the wire: what an assignment carries, and whether a result may count."""

import math

from common import masks as packed_masks
from common.errors import PayloadError
from common.payload import MASK, mask_digest, unpack_mask_update
from common.tensorfile import open_file
from common.tensorstream import TensorStream
from common.tensortable import TensorTable
from protos import lotteryfl_pb2 as pb
from server.coordinator import Work
from server.database import Received
from server.rundir import Masks, RunDirectory

MAX_EXAMPLES = 2**40
"""A client's training examples beyond this are not believed: they are weights in a mean."""

_MOST = {"examples": MAX_EXAMPLES, "loss": math.inf}
"""Of an evaluation's numbers; all others are shares, of at most 1."""


def assignment_payload(run: RunDirectory, work: Work) -> TensorStream:
    """Return the values that an assignment starts from: the shared model's under its mask, or its own last result's.

    None, where its worker starts from a base.
    """
    if work.assignment.base_digest:
        return TensorStream({})
    entries = open_file(run.path / work.source)
    if work.is_own_result:
        return TensorStream({name: t for name, t in entries.items() if not name.startswith(MASK)})
    return run.wire.stream(entries, run.load_masks(work.assignment.mask_digest))


def check_result(run: RunDirectory, result: pb.Result, file: str, mask_before: str) -> Received:
    """Check a result whole before it may count, and keep its new mask.

    Args:
        run: the run directory.
        result: its header.
        file: its tensors in the run directory.
        mask_before: digest of the mask that the client started from.

    Raises:
        PayloadError: naming what is wrong with it.
    """
    if not 1 <= result.examples <= MAX_EXAMPLES:
        raise PayloadError(f"examples = {result.examples}: expected 1 to {MAX_EXAMPLES}")
    _check_metrics(result.metrics)
    entries = open_file(run.path / file)
    masks = unpack_mask_update(run.table, entries, run.load_masks(mask_before))
    run.wire.check(entries, masks)
    digest = mask_digest(masks)
    if result.mask_digest != digest:
        raise PayloadError(f"mask_digest = {result.mask_digest!r}: the mask sent has {digest!r}")
    run.save_masks(masks, digest)
    return Received(
        result.assignment_id, result.examples, digest, file, density_under(run.table, masks), result.metrics
    )


def density_under(table: TensorTable, masks: Masks) -> float:
    """Return the kept share of the prunable weights; of a model without any, 1."""
    prunable = [spec for spec in table if spec.prunable]
    kept = sum(packed_masks.count(masks[s.name]) if s.name in masks else s.numel for s in prunable)
    return kept / sum(spec.numel for spec in prunable) if prunable else 1.0


def _check_metrics(metrics: pb.ClientMetrics) -> None:
    for phase in ("downloaded", "personalised"):
        if not metrics.HasField(phase):
            raise PayloadError(f"metrics.{phase}: missing")
    _check_number("train_loss", metrics.train_loss)
    _check_number("seconds", metrics.seconds)
    for phase in ("validation", "downloaded", "personalised"):
        for field, value in getattr(metrics, phase).ListFields():
            _check_number(f"{phase}.{field.name}", value, most=_MOST.get(field.name, 1))


def _check_number(name: str, value: float, *, most: float = math.inf) -> None:
    if not (math.isfinite(value) and 0 <= value <= most):
        raise PayloadError(f"metrics.{name} = {value}: expected a finite number from 0 to {most}")
