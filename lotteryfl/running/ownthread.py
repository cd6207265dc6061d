"""A coroutine as the whole of a function: on a thread of its own, since the caller's may have a loop running."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")

_Begun = Future[tuple[asyncio.AbstractEventLoop, "asyncio.Task[object] | None"]]


def run_on_own_thread(work: Coroutine[object, object, T]) -> T:
    """Run a coroutine to its end and return what it returns; as from a notebook, where a loop is running.

    Raises:
        KeyboardInterrupt: Ctrl-C has cancelled it.
    """
    begun: _Begun = Future()

    async def whole() -> T:
        begun.set_result((asyncio.get_running_loop(), asyncio.current_task()))
        return await work

    with ThreadPoolExecutor(1, "lotteryfl") as pool:
        ended = pool.submit(copy_context().run, asyncio.run, whole())
        try:
            return ended.result()
        except KeyboardInterrupt:
            loop, task = begun.result()
            if task is not None:
                with suppress(RuntimeError):  # it has ended by itself meanwhile, and its loop with it
                    loop.call_soon_threadsafe(task.cancel)
            raise
