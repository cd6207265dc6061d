"""What payloads and files of a run take at which density, by the codecs that its own go through."""

from collections.abc import Mapping

from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.packedmasks import Masks
from lotteryfl.common.pruning.magnitude import Weight, masks_without_smallest
from lotteryfl.common.tensors.file import open_file
from lotteryfl.common.tensors.stream import TensorStream
from lotteryfl.common.wire.maskrule import comes_whole
from lotteryfl.common.wire.payload import mask_tensors, pack_mask_update, prunable_weights
from lotteryfl.common.wire.strategytensor import filled
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.rundir import RunDirectory


class Sizes:
    """Sizes for one model: of θ_0, where as many of the smallest weights are pruned as a density says."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._tensors: Mapping[str, Tensor] = open_file(run.model_path(0)) | filled(run.table.added)
        self.prunable, _ = prunable_weights(run.table, {})
        """Weights that can be pruned."""
        self._masks: dict[int, Masks] = {}
        self._found: dict[tuple[object, ...], int] = {}

    def down(self, density: float, plan: pb.Plan) -> int:
        """Return the bytes of what an assignment starts from."""
        key = ("down", self._kept(density), plan.owns_unkept)
        if key not in self._found:
            entries = self._run.wire.pack(self._tensors, self._masks_of(density), own=plan.owns_unkept)
            self._found[key] = TensorStream(entries).size
        return self._found[key]

    def up(self, before: float, after: float, plan: pb.Plan) -> int:
        """Return the bytes of a result, which are those of a ticket's file too.

        Args:
            before: density of the mask that the work began under.
            after: of the mask that it came to.
            plan: what was done.
        """
        shape = plan.owns_unkept, plan.lossless, comes_whole(plan), *plan.sends
        key = ("up", self._kept(before), self._kept(after), *shape)
        if key not in self._found:
            old = {} if comes_whole(plan) else self._masks_of(before)
            masks = self._masks_of(min(after, before) if old else after)
            entries = self._run.wire.of_result(plan).pack(self._tensors, masks, own=plan.owns_unkept)
            update = pack_mask_update(masks, old, self._run.experiment.mask_coding)
            self._found[key] = TensorStream(entries | update).size
        return self._found[key]

    def mask(self, density: float) -> int:
        """Return the bytes of a mask's file; 0: a dense client's, which has none."""
        key = ("mask", self._kept(density))
        if key not in self._found:
            masks = self._masks_of(density)
            self._found[key] = TensorStream(mask_tensors(masks)).size if masks else 0
        return self._found[key]

    def _kept(self, density: float) -> int:
        return round(density * self.prunable)

    def _masks_of(self, density: float) -> Masks:
        kept = self._kept(density)
        if kept not in self._masks:
            self._masks[kept] = self._made(self.prunable - kept)
        return self._masks[kept]

    def _made(self, pruned: int) -> Masks:
        if not pruned:
            return {}
        names = [spec.name for spec in self._run.table if spec.prunable]
        masks = masks_without_smallest([Weight(self._tensors[name], None, 0) for name in names], pruned)
        return {name: packedmasks.pack(mask) for name, mask in zip(names, masks, strict=True)}
