"""A run that goes on beyond its last round: which can, and what becomes of that round."""

from collections.abc import Sequence

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.differences import first_difference
from lotteryfl.common.experiment.experiment import Experiment, changed
from lotteryfl.server.privacy.promise import check_privacy
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.strategies import create_strategy
from lotteryfl.server.strategies.base import ClientState, Strategy
from lotteryfl.server.strategies.support.asked import planned, sampled
from lotteryfl.server.strategies.support.tensors import check_same_tensors, names_of_own


def with_settings(run: RunDirectory, overrides: Sequence[str]) -> Experiment:
    """Return the experiment that `--set` makes of a run that is there: with more rounds than it has, or as it is.

    A longer one is for `store.extension.lengthen`.

    Raises:
        ExperimentError: another key differs, the run would be shorter, or it would not come to the bits of one that
            was begun with so many rounds.
    """
    wanted = changed(run.experiment, overrides)
    rounds = wanted.rounds
    if difference := first_difference(wanted.model_copy(update={"rounds": run.experiment.rounds}), run.experiment):
        raise ExperimentError(
            f"{run.path}: --set {difference.key} = {difference.found}: the run has {difference.expected}, and only its "
            "rounds can become more; for another experiment choose another --run-dir"
        )
    if rounds < run.experiment.rounds:
        committed = min(run.database.committed_rounds(), run.experiment.rounds)
        raise ExperimentError(
            f"{run.path}: --set rounds = {rounds}: the run has {run.experiment.rounds}, {committed} of them committed; "
            "expected no fewer"
        )
    if rounds > run.experiment.rounds:
        _check(run, create_strategy(run.experiment), create_strategy(wanted))
    return wanted


def _check(run: RunDirectory, old: Strategy, new: Strategy) -> None:
    """Check that what was done so far is what a run of more rounds would have done.

    Raises:
        ExperimentError: naming what depends on the number of rounds.
    """
    rounds, more, name = old.experiment.rounds, new.experiment.rounds, old.name
    what = f"{run.path}: --set rounds = {more}: the run has {rounds}, and "
    if old.experiment.privacy.is_promised:
        key = "dp_sgd" if old.experiment.privacy.dp_sgd else "noise"
        value = getattr(old.experiment.privacy, key)
        raise ExperimentError(f"{what}privacy.{key} = {value!r} promised its clients an ε that is of so many rounds")
    if old.experiment.training.depends_on_rounds:
        schedule = old.experiment.training.schedule
        raise ExperimentError(f"{what}training.schedule.kind = {schedule.kind!r} depends on how many there are")
    evaluation = old.experiment.evaluation
    if (evaluation.patience or evaluation.keeps_best) and run.database.committed_rounds() >= rounds:
        key = "patience" if evaluation.patience else "keep_best" if evaluation.keep_best else "keep"
        raise ExperimentError(
            f"{what}evaluation.{key} = {getattr(evaluation, key)!r} has looked at its last one; expected a run that "
            "has not come to it"
        )
    if early := run.database.ended_early():
        raise ExperimentError(f"{what}its training ended early, after round {early} (evaluation.patience)")
    for round_ in range(1, rounds + 1):
        if _schedule(old, round_) != _schedule(new, round_):
            raise ExperimentError(
                f"{what}strategy.name = {name!r} has another round {round_} where there are {more} of them: its "
                "schedule depends on their number"
            )
    check_privacy(new, run.table.model)
    check_same_tensors(new, run.model_table)
    has_personalised = run.database.committed_rounds() > rounds
    if has_personalised and (own := _own(run, old)):
        raise ExperimentError(
            f"{what}its clients have been personalised, which they go on from: {own}; expected a run that has not come "
            "to its last measuring"
        )


def _schedule(strategy: Strategy, round_: int) -> tuple[object, ...]:
    """Return what a strategy has in store for a round, whoever takes part."""
    everybody = range(strategy.experiment.participants) if strategy.attends else None
    return (
        sampled(strategy, round_, everybody),
        planned(strategy, round_, ClientState(0)),
        strategy.trains(round_),
        strategy.takes_best(round_),
        strategy.optimizes(round_),
    )


def _own(run: RunDirectory, strategy: Strategy) -> str:
    """Say what clients bring along from the last measuring, which fine-tunes them; '': nothing."""
    if not strategy.aggregates or strategy.owns_unkept:
        return f"strategy.name = {strategy.name!r}"
    if personal := sorted(names_of_own(strategy, run.table)):
        return f"{personal[0]!r} is each client's own"
    return ""
