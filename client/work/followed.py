"""What comes of the assignments that are worked on at once, whoever has them: a worker, or a run in one process."""

from collections.abc import Sequence

from lotteryfl.client.work.assignment import AssignmentRunner
from lotteryfl.client.work.handover import Outcome, Ready
from lotteryfl.common.errors import ClientError, PayloadError
from lotteryfl.common.training.loop import OnStep
from lotteryfl.protos import lotteryfl_pb2 as pb


def followed(
    runner: AssignmentRunner, members: Sequence[tuple[pb.Assignment, Ready]], on_step: OnStep | None = None
) -> list[Outcome | ClientError | PayloadError]:
    """Follow the plan of an assignment that is by itself, or those of one stack.

    Args:
        runner: follows them.
        members: with what each starts from; of a stack those that are here.
        on_step: as for `AssignmentRunner.follow`.

    Returns:
        What each comes to, or why it comes to nothing.

    Raises:
        ExperimentError: the model, or the data, cannot be stacked.
    """
    if members[0][0].HasField("stack"):
        return runner.follow_stacked(members, on_step)
    try:
        return [members[0][1].context.run(runner.follow, *members[0], on_step)]
    except (ClientError, PayloadError) as error:  # the client's, or like a result that is refused
        return [error]
