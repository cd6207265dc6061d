"""torchvision beside a torch that was built without its operators: it imports once they are declared."""

import torch

_LIBRARY: list[torch.library.Library] = []
"""Declarations live as long as this."""


def declare() -> None:
    """Declare what torchvision looks for when it is imported, which transformers does where it is installed."""
    if not _LIBRARY:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARY.append(library)


def is_declared() -> bool:
    return bool(_LIBRARY)
