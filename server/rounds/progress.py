"""Whether a run still gets better: which global model was the best, and when there is no use in going on."""

from lotteryfl.server.store.database import Database
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.summaries import round_summaries, scores_of


def note_progress(run: RunDirectory, round_: int, *, aggregates: bool) -> str:
    """Write down what a round that has just been committed says of its global model and of the run.

    To be called inside the round's transaction, while the run's model is still the one that its clients downloaded.

    Args:
        run: the run directory.
        round_: the round; the last one, in which every client is measured, judges the last model.
        aggregates: whether there is a global model at all.

    Returns:
        Why only the last round is left, if training ends early with this one; otherwise nothing.
    """
    settings = run.experiment.evaluation
    if settings.keep_best and aggregates:
        _note_best(run, round_)
    if not settings.patience or round_ >= run.experiment.rounds or _rounds_in_vain(run.database) < settings.patience:
        return ""
    run.database.put("ended_early", str(round_))
    return f"no better {run.score.name} for {settings.patience} rounds (evaluation.patience): only the last is left"


def _note_best(run: RunDirectory, round_: int) -> None:
    database, score = run.database, run.score
    (summary,) = round_summaries(database, round_)
    found, best = scores_of(summary, score).downloaded, database.get("best_score")
    if not best or score.rank(found) > score.rank(float(best)):
        database.put("best_score", repr(found))
        database.put("best_round", str(run.model_round))
        database.put("best_digest", run.model_digest)


def _rounds_in_vain(database: Database) -> int:
    """Return how many of the last rounds were no better than the best before them, by neither of their two scores."""
    score, bests, in_vain = database.score, [float("-inf")] * 2, 0
    for summary in round_summaries(database):
        ranks = [score.rank(value) for value in scores_of(summary, score)]
        in_vain = 0 if any(rank > best for rank, best in zip(ranks, bests, strict=True)) else in_vain + 1
        bests = [max(pair) for pair in zip(ranks, bests, strict=True)]
    return in_vain
