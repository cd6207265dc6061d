"""Who holds which examples."""

from typing import TYPE_CHECKING

from lotteryfl.common.lazy import front

if TYPE_CHECKING:
    from lotteryfl.common.tasks.partition.classes import IntArray, stratified_split
    from lotteryfl.common.tasks.partition.dealt import ClientIndices, Partition

__all__ = ["ClientIndices", "IntArray", "Partition", "stratified_split"]

__getattr__, __dir__ = front(
    __name__,
    {"ClientIndices": "dealt", "IntArray": "classes", "Partition": "dealt", "stratified_split": "classes"},
)
