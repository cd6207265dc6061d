"""Which weights a client makes its own: those that moved most, of those that it still shares."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from lotteryfl.client.work.select import select_own
from lotteryfl.common import packedmasks
from lotteryfl.common.wire.table import TensorSpec, TensorTable
from lotteryfl.protos import lotteryfl_pb2 as pb

TABLE = TensorTable(
    (
        TensorSpec("a", torch.float32, (4, 5), "parameter", prunable=True),
        TensorSpec("b", torch.float32, (9,), "parameter", prunable=False),
        TensorSpec("c", torch.bfloat16, (2, 10), "parameter", prunable=True),
    )
)


@given(st.integers(0, 999), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_those_that_moved_most_go_over(seed: int, already: float, rate: float, limit: float) -> None:
    generator = torch.Generator().manual_seed(seed)

    def tensors() -> dict[str, torch.Tensor]:
        return {spec.name: torch.randn(spec.shape, generator=generator).to(spec.dtype) for spec in TABLE}

    before, after = tensors(), tensors()
    keep = {name: torch.rand(TABLE[name].shape, generator=generator) >= already for name in ("a", "c")}
    shared = {name: packedmasks.pack(mask) for name, mask in keep.items()}
    new = select_own(TABLE, before, after, shared, pb.Plan.Select(rate=rate, limit=limit))
    was = torch.cat([keep[name].flatten() for name in ("a", "c")])
    stays = torch.cat([packedmasks.unpack(new[name], (20,)) for name in ("a", "c")])
    owned = int((~was).sum())
    assert not bool((stays & ~was).any())
    assert int((~stays).sum()) == owned + max(0, min(round(rate * 40), round(limit * 40) - owned))
    moved = torch.cat([(after[name] - before[name]).abs().flatten().float() for name in ("a", "c")])
    taken = was & ~stays
    if taken.any() and stays.any():
        assert moved[taken].min() >= moved[stays].max()


def test_with_nothing_to_take_masks_stay_what_they_are() -> None:
    tensors = {spec.name: torch.zeros(spec.shape, dtype=spec.dtype) for spec in TABLE}
    assert select_own(TABLE, tensors, tensors, {}, pb.Plan.Select(rate=0.0, limit=1.0)) == {}
    shared = {"a": packedmasks.pack(torch.arange(20) < 5), "c": packedmasks.pack(torch.ones(20))}
    assert select_own(TABLE, tensors, tensors, shared, pb.Plan.Select(rate=0.5, limit=0.2)) == shared
