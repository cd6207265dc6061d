"""Where a run stands that is driven, by the memory of its coordinator."""

from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.ledger import Ledger
from lotteryfl.server.rounds.told.attendance import Attendance
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.status import run_status


def status_of_open(run: RunDirectory, ledger: Ledger, attendance: Attendance) -> pb.RunStatus:
    """Return where a run stands; nothing is read of its directory.

    Args:
        run: the run directory.
        ledger: the state of the run, and its open round.
        attendance: who is there, and who is waited for.
    """
    assignments = ledger.round.assignments
    told = pb.RunStatus(
        reason=ledger.reason,
        assignments=len(assignments),
        results=assignments.count("done"),
        last=ledger.last,
        left_out=ledger.left_out,
        advice=ledger.advice,
        shared=ledger.shared,
        seconds_left=ledger.seconds_left,
    )
    return run_status(
        run,
        told,
        state=ledger.state,
        committed=ledger.committed,
        seen=attendance.seen(ledger.round),
        traffic=ledger.traffic,
        refusals=ledger.refusals,
    )
