"""A coroutine as the whole of a command: SIGINT and what stops a command cancel it."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import TypeVar

from lotteryfl.stopsignals import stop_signals

T = TypeVar("T")


def run_until_signal(work: Coroutine[object, object, T]) -> T:
    """Run a coroutine to its end and return what it returns.

    Raises:
        asyncio.CancelledError: a signal has cancelled it.
    """

    async def cancellable() -> T:
        task = asyncio.current_task()
        if task is not None:
            for number in (signal.SIGINT, *stop_signals()):
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await work

    return asyncio.run(cancellable())
