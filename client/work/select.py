"""Which weights a client makes its own: those that its training moved most."""

from collections.abc import Mapping

import torch
from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.packedmasks import Masks, PackedMask
from lotteryfl.common.wire.table import TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb


def select_own(
    table: TensorTable,
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    shared: Masks,
    select: pb.Plan.Select,
) -> dict[str, PackedMask]:
    """Return the masks of what stays shared: without the shared weights that have moved most.

    The inverse of magnitude pruning (Tamirisa et al. 2024, "FedSelect", section 4.2), with one threshold over
    all prunable tensors.

    Args:
        table: of the model.
        before: the model as downloaded, by plain name.
        after: the model as trained.
        shared: masks of what is shared by now; a tensor without one is shared whole.
        select: how many go over, and how many the client may own.
    """
    specs = [spec for spec in table if spec.prunable]
    kept = [
        packedmasks.unpack(shared[spec.name], (spec.numel,))
        if spec.name in shared
        else torch.ones(spec.numel, dtype=torch.bool)
        for spec in specs
    ]
    total = sum(spec.numel for spec in specs)
    owned = total - sum(int(mask.sum()) for mask in kept)
    count = min(round(select.rate * total), round(select.limit * total) - owned)
    if count <= 0:
        return dict(shared)
    moves = [
        (after[spec.name] - before[spec.name]).abs().reshape(-1).cpu().float().masked_fill_(~mask, -1)
        for spec, mask in zip(specs, kept, strict=True)
    ]
    stays = torch.cat(kept)
    stays[torch.cat(moves).topk(count).indices] = False
    parts = torch.split(stays, [spec.numel for spec in specs])
    return {spec.name: packedmasks.pack(part) for spec, part in zip(specs, parts, strict=True)}
