"""Whether a result that has come in may count."""

import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from lotteryfl.common.errors import PayloadError
from lotteryfl.common.names import FileName
from lotteryfl.common.telemetry.tracing import span
from lotteryfl.common.tensors.file import open_file
from lotteryfl.common.text import quoted
from lotteryfl.common.wire.clientmetrics import check_metrics
from lotteryfl.common.wire.maskrule import comes_whole
from lotteryfl.common.wire.payload import mask_density, mask_digest, unpack_mask_update
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.aggregation.changes import unmoved
from lotteryfl.server.aggregation.update import Update, share_within, update_norm
from lotteryfl.server.rounds.plancheck import check_plan
from lotteryfl.server.store.rundb.rows import AssignmentRow, Received
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.strategies import create_strategy


class Arrival(NamedTuple):
    """A result that has come in, and what its check has found: `Coordinator.settle` does the rest."""

    result: pb.Result
    """The message that announced it."""
    file: FileName
    """Where its tensors are, in the run directory; '': they have not come whole."""
    finding: Received | PayloadError | FileNotFoundError
    """What may count; what is wrong with it; or which file is gone that it needs, as its round has ended meanwhile."""

    def settle_files(self, run: RunDirectory, *, counts: bool) -> None:
        """Keep the files of a result that counts, and drop another's."""
        if isinstance(self.finding, Received):
            run.settle_masks(self.finding.mask_digest, counts=counts)
        if self.file and not counts:
            (run.path / self.file).unlink(missing_ok=True)


def examine(
    run: RunDirectory, result: pb.Result, file: FileName, assigned: AssignmentRow, path: Path | None = None
) -> Arrival:
    """Check a result, in one piece, for `Coordinator.settle`.

    Touches files only and takes long: it may run beside the coordinator's thread.

    Args:
        run: the run directory.
        result: its header.
        file: its tensors in the run directory.
        assigned: what its worker was told to do, as `Coordinator.wanted` says.
        path: where the file is now; None: under its name.
    """
    try:
        with span("check"):
            return Arrival(result, file, check_result(run, result, file, assigned, path))
    except (PayloadError, FileNotFoundError) as error:
        return Arrival(result, file, error)


def check_result(
    run: RunDirectory, result: pb.Result, file: FileName, assigned: AssignmentRow, path: Path | None = None
) -> Received:
    """Check a result whole before it may count, and keep its new mask.

    Args:
        run: the run directory.
        result: its header.
        file: its tensors in the run directory.
        assigned: what its worker was told to do.
        path: where the file is now; None: under its name.

    Raises:
        PayloadError: naming what is wrong with it.
    """
    most = run.experiment.checks.max_examples
    if not 1 <= result.examples <= most:
        raise PayloadError(f"examples = {result.examples}: expected 1 to {most}")
    globally, shared = run.experiment.measures_globally(assigned.round), assigned.plan.measure_shared
    check_metrics(result.metrics, globally=globally, score=run.score, shared=shared)
    entries, before = open_file(path or run.tensor_path(file), "the payload"), run.load_masks(assigned.mask)
    known = {} if comes_whole(assigned.plan) else before
    masks = unpack_mask_update(run.table, entries, known, run.experiment.mask_coding)
    run.wire.of_result(assigned.plan).check(entries, masks, own=assigned.plan.owns_unkept)
    digest = mask_digest(masks)
    if result.mask_digest != digest:
        raise PayloadError(f"mask_digest = {quoted(result.mask_digest)}: the mask sent has {digest!r}")
    check_plan(run.table, assigned.plan, before, masks, result.metrics, run.score)
    scale = _scale(run, Update(assigned.client, result.examples, masks, entries, before=before), assigned)
    density = mask_density(run.table, masks)
    run.save_masks(masks, digest)  # last: whoever gets the answer settles it
    return Received(result.assignment_id, result.examples, digest, file, density, result.metrics, scale)


def _scale(run: RunDirectory, update: Update, assigned: AssignmentRow) -> float:
    """Return which share of an update may be aggregated, by the bound of its norm.

    Results that no model is made of have none: those of the final round, measurements, and all where nothing is shared.
    """
    checks, privacy = run.experiment.checks, run.experiment.privacy
    bound = checks.max_update_norm
    # Workers clip to this, but narrow dtypes round, and the server's noise covers no more.
    covered = privacy.clip_norm if privacy.noise == "server" else 0.0
    if not (bound or covered) or assigned.round > run.experiment.rounds:
        return 1.0
    strategy = create_strategy(run.experiment)  # not for every result: it seeds the generators of the whole process
    if not (strategy.aggregates and strategy.trains(assigned.round)):
        return 1.0
    if strategy.counts_grown:
        update = replace(update, before=None)
    model, old = run.table.model, open_file(run.tensor_path(assigned.source))
    start = unmoved(model, old) if strategy.sends_changes else old
    norm = update_norm(model, start, update, strategy.personal(model))
    if (bound and norm > bound and checks.on_large_update == "refuse") or not math.isfinite(norm):
        what = f"checks.max_update_norm = {bound:g}" if bound else f"privacy.clip_norm = {covered:g}"
        raise PayloadError(f"its update has a norm of {norm:.6g}, expected at most {what}")
    return share_within(min(each for each in (bound, covered) if each), norm)
