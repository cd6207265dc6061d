"""Tasks: a model and every client's data, built in or the user's own."""

from typing import TYPE_CHECKING

from lotteryfl.common.lazy import front

if TYPE_CHECKING:
    from lotteryfl.common.tasks.base import ClientData, Task
    from lotteryfl.common.tasks.builtin import BuiltInTask
    from lotteryfl.common.tasks.placeless import without_places
    from lotteryfl.common.tasks.registry import BUILT_IN, load_task, own_sources

__all__ = ["BUILT_IN", "BuiltInTask", "ClientData", "Task", "load_task", "own_sources", "without_places"]

__getattr__, __dir__ = front(
    __name__,
    {
        "BUILT_IN": "registry",
        "BuiltInTask": "builtin",
        "ClientData": "base",
        "Task": "base",
        "load_task": "registry",
        "own_sources": "registry",
        "without_places": "placeless",
    },
)
