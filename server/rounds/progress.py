"""Whether a run still gets better: which global model was the best, and when there is no use in going on."""

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
    if not (settings.keeps_best or settings.patience):
        return ""
    summaries = round_summaries(run.database, round_)
    if not summaries:  # none but new clients was left in the last round
        return ""
    scores = scores_of(summaries[0], run.score)
    downloaded = _is_best(run, "best_downloaded", scores.downloaded)
    personalised = _is_best(run, "best_personalised", scores.personalised)
    if settings.keeps_best and downloaded and aggregates:
        run.database.put("best_round", str(run.model_round))
        run.database.put("best_digest", run.model_digest)
    in_vain = 0 if downloaded or personalised else int(run.database.get("rounds_in_vain", "0")) + 1
    run.database.put("rounds_in_vain", str(in_vain))
    if not settings.patience or in_vain < settings.patience or round_ >= run.experiment.rounds:
        return ""
    run.database.put("ended_early", str(round_))
    return f"no better {run.score.name} for {settings.patience} rounds (evaluation.patience): only the last is left"


def _is_best(run: RunDirectory, key: str, found: float) -> bool:
    """Tell whether a score is better than all before, and then put it on record."""
    before = run.database.get(key)
    is_best = not before or run.score.rank(found) > run.score.rank(float(before))
    if is_best:
        run.database.put(key, repr(found))
    return is_best
