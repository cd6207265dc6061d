"""What the forms of `lotteryfl export` take at inference, file and time: `python -m benchmarks.exports [MODEL ...]`."""

import gzip
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor, nn

from benchmarks.harness import Spread, interleaved, seconds
from lotteryfl.common.models import create_model
from lotteryfl.common.pruning.parameters import copy_model
from lotteryfl.common.pruning.prune import density, make_permanent, prune_fixed_amount
from lotteryfl.common.pruning.rows import prune_rows
from lotteryfl.common.pruning.structured.resizing import load_structured, smaller
from lotteryfl.common.tensors.file import save

DENSITY = 0.1


@dataclass(frozen=True)
class Case:
    """A model, and what is measured of it."""

    dataset: str
    model: str
    shape: tuple[int, ...]
    """Of an image."""
    images: int = 256
    """At a time."""
    repeats: int = 30


FULL = {
    "lenet-300-100": Case("mnist", "lenet-300-100", (1, 28, 28)),
    "CNN for CIFAR-10": Case("cifar10", "cnn", (3, 32, 32)),
    "VGG-11": Case("cifar10", "vgg11", (3, 32, 32), images=4, repeats=7),
    "ResNet-18": Case("cifar10", "resnet18", (3, 32, 32), images=4, repeats=7),
}
QUICK = replace(FULL["lenet-300-100"], images=2, repeats=1)
"""Shows that it works, and nothing else."""


@dataclass(frozen=True)
class Outcome:
    """One form of a model."""

    values: int
    file: int
    compressed: int
    """The file, by gzip."""
    seconds: Spread
    """Of a batch on one core, without gradients."""


def main() -> None:
    """Measure, print."""
    columns = ["model, images in a batch", "form", "values", "bytes of the file", "by gzip", "ms for a batch"]
    rows = []
    for name in sys.argv[1:] or FULL:
        for form, found in measured(FULL[name]).items():
            sizes = [f"{size:,}" for size in (found.values, found.file, found.compressed)]
            least = min(found.seconds.values)  # what else the machine does only adds
            rows.append([f"{name}, {FULL[name].images}", form, *sizes, f"{least * 1e3:.2f}"])
    print(tabulate(rows, columns, tablefmt="github", disable_numparse=True))


def measured(case: Case) -> dict[str, Outcome]:
    """Return what each form takes; all are timed in turn."""
    torch.set_num_threads(1)
    models = forms(case)
    images = torch.randn(case.images, *case.shape)
    with torch.no_grad():
        times = interleaved(
            case.repeats,
            **{name: seconds(partial(model, _fitting(images, model))) for name, model in models.items()},
        )
    return {name: Outcome(_values(model), *_sizes(model.state_dict()), times[name]) for name, model in models.items()}


def forms(case: Case) -> dict[str, nn.Module]:
    """Return a model dense, and pruned to the same density weight by weight and row by row, as they are exported."""
    torch.manual_seed(0)
    dense = create_model(case.dataset, case.model).eval()
    for name, tensor in (*dense.named_parameters(), *dense.named_buffers()):
        if tensor.dim() == 1 and "var" not in name:
            nn.init.normal_(tensor, std=0.05)  # a trained model's biases and norms are not 0
    weights, rows = copy_model(dense), copy_model(dense)
    prune_fixed_amount(weights, 1 - DENSITY, verbose=False)
    while density(rows) > DENSITY:
        prune_rows(rows, 0.1)
    for model in (weights, rows):
        make_permanent(model)
    small = copy_model(dense)
    load_structured(small, smaller(rows, (torch.randn(2, *case.shape),), {}).tensors)
    return {
        "dense": dense,
        "weights pruned": weights,
        "rows pruned": rows,
        "rows pruned, --structured": small,
        "dense, --half": copy_model(dense).half(),
        "rows pruned, --structured --half": copy_model(small).half(),
    }


def _fitting(images: Tensor, model: nn.Module) -> Tensor:
    return images.to(next(model.parameters()).dtype)


def _values(model: nn.Module) -> int:
    return sum(tensor.numel() for tensor in model.state_dict().values())


def _sizes(tensors: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return the bytes of the file of a state dict, and of it by gzip."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save(path, tensors)
        content = path.read_bytes()
    return len(content), len(gzip.compress(content))


if __name__ == "__main__":
    main()
