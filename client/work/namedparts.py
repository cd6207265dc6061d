"""The parts of what a client holds, as messages name them."""

from typing import Any

from torch.utils.data import Dataset

from lotteryfl.common.tasks import ClientData


def named_parts(
    task: str, client: int, data: ClientData, everybodys: Dataset[Any] | None
) -> list[tuple[str, Dataset[Any]]]:
    """Return every part of a client's data with its name, and the global test data, where there are some.

    Args:
        task: its name.
        client: whose data it is.
        data: its own.
        everybodys: the task's global test data.
    """
    who = f"client {client} of task {task}"
    own = [(f"{who}: training data", data.train), (f"{who}: validation data", data.validation)]
    own.append((f"{who}: test data", data.test))
    return own if everybodys is None else [*own, (f"task {task}: global test data", everybodys)]
