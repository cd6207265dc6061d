"""The models of the experiments, by data set and architecture."""

from typing import TYPE_CHECKING

from lotteryfl.common.lazy import front

if TYPE_CHECKING:
    from lotteryfl.common.models.catalogue import (
        DATASETS,
        FEATURES,
        IMAGES,
        SEQUENCES,
        Architectures,
        architectures,
        create_model,
    )

__all__ = ["DATASETS", "FEATURES", "IMAGES", "SEQUENCES", "Architectures", "architectures", "create_model"]

__getattr__, __dir__ = front(__name__, dict.fromkeys(__all__, "catalogue"))
