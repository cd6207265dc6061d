"""Which files a run directory may have: one from somebody else is data, and leads nowhere out of itself."""

import re
from pathlib import Path

from lotteryfl.common.errors import PayloadError
from lotteryfl.common.names import Digest, FileName
from lotteryfl.common.text import quoted
from lotteryfl.common.wire.payload import is_digest
from lotteryfl.server.store.assignments import AssignmentId

_TENSORS = re.compile(
    r"models/round-\d{4,9}\.safetensors|results/r\d{1,9}-c\d{1,9}-a\d{1,9}(\.\d{1,9})?\.safetensors", re.ASCII
)


def model_file(round_: int) -> FileName:
    """Return the global model's file after a round, relative to the run directory."""
    return FileName(f"models/round-{round_:04d}.safetensors")


def optimizer_file(round_: int) -> FileName:
    """Return the file of the server optimizer's state after a round, relative to the run directory."""
    return FileName(f"models/optimizer-{round_:04d}.safetensors")


def come_up_file(round_: int) -> FileName:
    """Return the file of what only came up in a round, there while it is concluded."""
    return FileName(f"models/up-{round_:04d}.safetensors")


def result_file(id_: AssignmentId, upload: int | None = None) -> FileName:
    """Return the file of a result, relative to the run directory; of one of its uploads, where there may be several."""
    return FileName(f"results/{id_}{'' if upload is None else f'.{upload}'}.safetensors")


def is_tensor_file(name: str) -> bool:
    """Tell whether `model_file` or `result_file` gave this name."""
    return _TENSORS.fullmatch(name) is not None


def tensor_file(run: Path, name: FileName) -> Path:
    """Return the path of a file that run.db names.

    Raises:
        PayloadError: it is not a name that a run gives to its models and results.
    """
    if not is_tensor_file(name):
        raise PayloadError(f"{quoted(name)}: expected the name of a file in models/ or results/")
    return run / name


def mask_file(run: Path, digest: Digest) -> Path:
    """Return the path of the mask with this digest.

    Raises:
        PayloadError: it is not a digest.
    """
    if not is_digest(digest):
        raise PayloadError(f"mask {quoted(digest)}: expected to be named by 64 hexadecimal digits")
    return run / "masks" / f"{digest}.safetensors"
