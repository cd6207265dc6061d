"""A model's table with a tensor of every kind, and values and masks for it."""

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from lotteryfl.common import packedmasks
from lotteryfl.common.packedmasks import Masks, PackedMask
from lotteryfl.common.tensors.file import parse
from lotteryfl.common.wire.table import TensorSpec, TensorTable
from tests.support.tensorfiles import encode

TABLE = TensorTable(
    (
        TensorSpec("a.weight", torch.float32, (3, 5), "parameter", prunable=True),
        TensorSpec("b.bias", torch.float32, (3,), "parameter", prunable=False),
        TensorSpec("c.weight", torch.bfloat16, (2, 2, 2), "parameter", prunable=True),
        TensorSpec("d.steps", torch.int64, (), "buffer", prunable=False),
        TensorSpec("e.flags", torch.bool, (2,), "buffer", prunable=False),
        TensorSpec("f.weight", torch.float64, (0, 4), "parameter", prunable=True),
    )
)
densities = st.sampled_from([0.0, 0.3, 0.8, 1.0])
seeds = st.integers(0, 2**32 - 1)


def model_tensors(seed: int = 0) -> dict[str, Tensor]:
    random = np.random.default_rng(seed)
    return {spec.name: torch.from_numpy(random.normal(0, 9, spec.shape)).to(spec.dtype) for spec in TABLE}


def model_masks(
    density: float, seed: int = 0, names: tuple[str, ...] = ("a.weight", "c.weight", "f.weight")
) -> dict[str, PackedMask]:
    random = np.random.default_rng(seed)
    return {name: packedmasks.pack(torch.from_numpy(random.random(TABLE[name].shape) < density)) for name in names}


def fewer(old: Masks, density: float, seed: int) -> dict[str, PackedMask]:
    return {name: old[name] & packed for name, packed in model_masks(density, seed, tuple(old)).items()}


def over_the_wire(entries: dict[str, Tensor]) -> dict[str, Tensor]:
    return parse(encode(entries), "payload")


KEEP_SEVEN = {"a.weight": packedmasks.pack(torch.arange(15) % 2)}
