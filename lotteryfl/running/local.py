"""A coordinator for other machines' workers, or together with workers of its own."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.running.device import seen, spread
from lotteryfl.running.localworkers import LocalWorkers
from lotteryfl.running.owncode import OwnCode
from lotteryfl.running.page import ShownPage
from lotteryfl.server.rpc.endpoint import Endpoint
from lotteryfl.server.rpc.server import CoordinatorServer
from lotteryfl.server.store.rundb.steered import require_not_paused
from lotteryfl.server.store.rundir import RunDirectory

_LATE_SECONDS = 60.0


async def serve_at(
    run: RunDirectory,
    endpoint: Endpoint,
    show: Callable[[pb.RunStatus], None],
    note: Callable[[str], None],
    page: Sequence[str] = (),
) -> None:
    """Drive a run with whatever workers come to the endpoint.

    A run that had finished before is still answered for, for a minute: workers that Compose or a scheduler started
    again together with the coordinator hear that it is over.

    Args:
        run: the open run directory.
        endpoint: where to listen, and to whom.
        show: is called with the run's status whenever it may have changed.
        note: is told where it listens, and what is out of the ordinary.
        page: the options of a page about it; empty: none is shown.

    Raises:
        LotteryFLError: the address cannot be listened at or not be secured, or the run failed.
    """
    server, shown = _with_page(run, show, note, page)
    async with server.listening(endpoint) as port, shown:
        host, _, given = endpoint.address.rpartition(":")
        note(f"listening at {host}:{port if given == '0' else given}")
        _note_metrics(server, note)
        if run.state == "finished":
            note(f"the run had finished: workers are told so for {_LATE_SECONDS:g} s")
            await asyncio.sleep(_LATE_SECONDS)
        await server.rounds.run()


async def run_locally(
    run: RunDirectory,
    workers: int,
    device: str,
    own: OwnCode,
    show: Callable[[pb.RunStatus], None],
    note: Callable[[str], None],
    page: Sequence[str] = (),
    *,
    share_errors: bool = False,
    metrics: str = "",
) -> None:
    """Drive a run with worker processes on this machine.

    Args:
        run: the open run directory.
        workers: how many processes.
        device: as their `--device` takes it; auto: they are spread over the accelerators that torch sees.
        own: what they are told of the user's code.
        show: is called with the run's status whenever it may have changed.
        note: is told what is out of the ordinary.
        page: the options of a page about it; empty: none is shown.
        share_errors: as their `--share-errors`.
        metrics: HOST:PORT where Prometheus reads how the run goes, and at the ports after it what each worker does;
            empty: nowhere.

    Raises:
        LotteryFLError: the run failed, or all its workers ended before it.
    """
    require_not_paused(run.path, run.database)
    server, shown = _with_page(run, show, note, page)
    processes = LocalWorkers(run.path / "logs", lambda: server.rounds.number, note, metrics)
    await server.rounds.take_back_all("the run was started anew")
    async with server.listening(Endpoint("127.0.0.1:0", metrics=metrics)) as port, shown:
        _note_metrics(server, note)
        arguments = [f"--coordinator=127.0.0.1:{port}", f"--sharers={workers}"]
        arguments += [f"--data-dir={run.experiment.task.data_dir}"]
        if run.experiment.partition.file:
            arguments += [f"--index-file={run.experiment.partition.file}"]
        arguments += ["--share-errors"] * share_errors + own.options
        async with processes.started(workers, arguments, spread(device, seen())):
            rounds = asyncio.create_task(server.rounds.run())
            ended = asyncio.create_task(processes.all_ended())
            try:
                await asyncio.wait((rounds, ended), return_when=asyncio.FIRST_COMPLETED)
                if not rounds.done():
                    await server.rounds.fail(f"no worker is left: {ended.result()}")
                    await asyncio.wait((rounds,))
            finally:
                rounds.cancel()
                ended.cancel()
        await rounds  # which may have failed; its workers know, and have left by themselves


def _note_metrics(server: CoordinatorServer, note: Callable[[str], None]) -> None:
    if server.metrics:
        note(f"metrics at {server.metrics}")


def _with_page(
    run: RunDirectory, show: Callable[[pb.RunStatus], None], note: Callable[[str], None], options: Sequence[str]
) -> tuple[CoordinatorServer, AbstractAsyncContextManager[None]]:
    """Return what serves a run, and what shows a page about it meanwhile, if that has any options."""
    if not options:
        return CoordinatorServer(run, show), contextlib.nullcontext()

    def show_both(status: pb.RunStatus) -> None:
        page.show(status)
        show(status)

    server = CoordinatorServer(run, show_both)
    page = ShownPage(run.path, options, server.fleet, note)
    return server, page.shown()
