"""What the numbers of a run say against its settings. Imports no torch: `lotteryfl status` reads it."""

from lotteryfl.common.experiment.experiment import Experiment
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.summaries import round_summaries, scores_of

ROUNDS = 5
"""Rounds in a row of which all must say it: a few are bad by chance."""


def advice(database: Database, experiment: Experiment) -> str:
    """Say what to set otherwise, by the last rounds that trained; empty: nothing is known.

    Where local training makes pruned models worse that are rewound, it is the rewinding: what the clients have learned
    together is gone, and a few epochs do not bring it back.
    """
    last = database.ended_early() or min(database.last_round(), experiment.rounds)
    if last < ROUNDS:
        return ""
    summaries = round_summaries(database, last - ROUNDS + 1)[:ROUNDS]
    score = database.score
    both = [scores_of(summary, score) for summary in summaries]
    if not all(score.rank(each.personalised) < score.rank(each.downloaded) for each in both):
        return ""
    if summaries[-1].density >= summaries[0].density:  # nobody has pruned, and so nothing was taken back
        return ""
    if not any(row.plan.rewind != pb.Plan.NONE for row in database.assignments(last)):  # last, as they are many
        return ""
    downloaded, personalised = (format(value, score.digits) for value in both[-1])
    return (
        f"for {ROUNDS} rounds {score.name} has been worse after local training than before it, in the last "
        f"{personalised} after {downloaded}: pruning takes weights back to where they began, and training.epochs = "
        f"{experiment.training.epochs} does not make up for it; set strategy.rewind = 'none', or train longer"
    )
