"""The run's score, and all else that a task's own objective measures, as queries of run.db."""

from lotteryfl.common.training.score import Score


def score_column(score: Score, metrics: str) -> str:
    """Return the SQL of a score.

    Args:
        score: of the run; its name is the query's parameter `:score`.
        metrics: what the query calls the row of the table `metrics` that it belongs to.
    """
    if not score.own or score.name == "loss":
        return f"{metrics}.{'loss' if score.own else 'accuracy'}"
    key = ", ".join(f"{metrics}.{column}" for column in ("round", "client", "phase"))
    return f"(SELECT value FROM measures s WHERE (s.round, s.client, s.phase, s.name) = ({key}, :score))"  # noqa: S608
