"""What operators call: the run is steered in the coordinator's thread, and who waits hears of it."""

from collections.abc import Callable

import grpc

from lotteryfl.common.security.identity import MAX_NAME
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.operating.steering import HERE, SteeringError
from lotteryfl.server.rpc.context import CALLER, Context
from lotteryfl.server.rpc.served import ServedRun


async def steer(served: ServedRun, request: pb.SteerRunRequest, context: Context) -> pb.SteerRunReply:
    """Do what an operator says of a run that goes on, and answer what came of it."""
    caller, coordinator = CALLER.get(), served.coordinator
    who, action = caller.name if caller else HERE, _actions(served, request).get(request.action)
    if action is None:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"action {request.action}: is none of this version's")
    if coordinator.is_over or served.driver is None:
        why = coordinator.reason or f"the run is {coordinator.state}"
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"there is nothing to steer: {why}")
    try:
        text = await served.call(action, who, request.reason)
    except SteeringError as error:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
    if request.action == pb.SteerRunRequest.STOP:
        served.driver.cancel()
    served.announce()
    return pb.SteerRunReply(text=text)


def _actions(served: ServedRun, request: pb.SteerRunRequest) -> dict[int, Callable[[str, str], str]]:
    """Return by action what does it, given who asks and why."""
    steering, worker = served.coordinator.steering, request.worker[:MAX_NAME]
    return {
        pb.SteerRunRequest.STOP: steering.stopped,
        pb.SteerRunRequest.PAUSE: steering.pause,
        pb.SteerRunRequest.RESUME: steering.resume,
        pb.SteerRunRequest.DRAIN: steering.drain,
        pb.SteerRunRequest.TAKE_BACK: lambda who, why: steering.readmit(worker, who, why),
    }
