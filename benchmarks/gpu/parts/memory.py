"""Memory that runs out: it is named, the work goes back, and the process works on."""

from collections.abc import Iterator

import torch

from benchmarks.gpu.row import Row, check
from benchmarks.gpu.runs import Setting, experiment, simulated
from lotteryfl.common.errors import LotteryFLError

SECONDS = 20.0

_GIB = 2
"""That this process may take of the card: enough for the model, and not for a batch."""


def rows(setting: Setting) -> Iterator[Row]:
    """Train one batch that does not fit, then one that does."""
    device = torch.device(setting.device)
    if device.type != "cuda":
        yield Row("memory that runs out", "not run: the device has no memory of its own")
        return
    total, place = torch.cuda.get_device_properties(device).total_memory, device.index or 0
    torch.cuda.set_per_process_memory_fraction(min(1.0, _GIB * 2**30 / total), place)
    large = experiment("resnet18", 2000, rounds=1, clients=1, clients_per_round=1, training={"batch_size": 2000})
    try:
        simulated(setting, large)
        yield check("a batch that does not fit", False, "it was trained")
    except LotteryFLError as error:
        said = str(error)
        yield check("a batch that does not fit is named in one line", "memory" in said and "\n" not in said, said)
    simulated(setting, experiment("resnet18", 40, rounds=1, clients=1, clients_per_round=1))
    yield check("the same process works on", True)
