"""A coordinator for other machines' workers, or together with workers of its own."""

import asyncio
from collections.abc import Sequence

from lotteryfl.display import RunDisplay
from lotteryfl.running.localworkers import LocalWorkers
from lotteryfl.server.rpc.endpoint import Endpoint
from lotteryfl.server.rpc.server import CoordinatorServer
from lotteryfl.server.store.rundir import RunDirectory

_LATE_SECONDS = 60.0


async def serve_at(run: RunDirectory, endpoint: Endpoint, display: RunDisplay) -> None:
    """Drive a run with whatever workers come to the endpoint.

    A run that had finished before is still answered for, for a minute: workers that Compose or a scheduler started
    again together with the coordinator hear that it is over.

    Raises:
        LotteryFLError: the address cannot be listened at or not be secured, or the run failed.
    """
    server = CoordinatorServer(run, display.show)
    async with server.listening(endpoint) as port:
        host, _, given = endpoint.address.rpartition(":")
        display.note(f"listening at {host}:{port if given == '0' else given}")
        if run.state == "finished":
            display.note(f"the run had finished: workers are told so for {_LATE_SECONDS:g} s")
            await asyncio.sleep(_LATE_SECONDS)
        await server.rounds.run()


async def run_locally(run: RunDirectory, workers: int, device: str, tasks: Sequence[str], display: RunDisplay) -> None:
    """Drive a run with worker processes on this machine.

    Raises:
        LotteryFLError: the run failed, or all its workers ended before it.
    """
    server = CoordinatorServer(run, display.show)
    local = LocalWorkers(run.path / "logs")
    await server.rounds.take_back_all("the run was started anew")
    async with server.listening(Endpoint("127.0.0.1:0")) as port:
        arguments = [f"--coordinator=127.0.0.1:{port}", f"--device={device}"]
        arguments += [f"--data-dir={run.experiment.task.data_dir}"]
        arguments += [f"--task={task}" for task in tasks]
        async with local.started(workers, arguments):
            rounds = asyncio.create_task(server.rounds.run())
            ended = asyncio.create_task(local.all_ended())
            try:
                await asyncio.wait((rounds, ended), return_when=asyncio.FIRST_COMPLETED)
                if not rounds.done():
                    await server.rounds.fail(f"no worker is left: {ended.result()}")
                    await asyncio.wait((rounds,))
            finally:
                rounds.cancel()
                ended.cancel()
        await rounds  # which may have failed; its workers know, and have left by themselves
