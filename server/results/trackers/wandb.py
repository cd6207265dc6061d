"""Weights & Biases: a run of a project, whose step is the round."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lotteryfl.server.results.trackers.figures import Figures, Final, RunCard
from lotteryfl.server.results.trackers.onefeed import OneFeed
from lotteryfl.server.results.trackers.tracker import Tracker

if TYPE_CHECKING:
    import wandb

_SHARED_AFTER = "shared_after"
"""The axis of the shared model's figures: the round after which it was so."""


class WeightsAndBiases(Tracker):
    """A run in a group called after the task.

    The service takes no step twice. Offline nobody can be asked which it has: the last one is remembered beside the
    run's logs, so that at most one that a kill has interrupted is written twice, with the same step and values.
    """

    kind = "wandb"
    module = "wandb"

    def __init__(self, run: RunCard, where: str, feed: OneFeed) -> None:
        super().__init__(run, where, feed)
        self._logged: wandb.Run | None = None
        self._next = 0

    @classmethod
    def usual_place(cls, path: Path) -> str:  # noqa: ARG003 - the same for all
        """A project."""
        return "lotteryfl"

    def connect(self) -> None:
        """Begin the run, or take it up."""
        import wandb

        self._logged = wandb.init(
            project=self._where,
            id=self._run.identity,
            resume="allow",
            name=self._run.name,
            group=self._run.task,
            config=dict(self._run.settings),
            # Of this process there is nothing to tell: what it prints, its machine, the folder that it stands in.
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                save_code=False,
                x_disable_stats=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
                init_timeout=20,
            ),
        )
        self._logged.define_metric("*", step_metric="round")
        self._next = self._feed.remembered + 1 if self._logged.offline else self._logged.step

    def send(self, rounds: Sequence[Figures]) -> None:
        """Log a row a round."""
        if self._logged is None:
            return
        for figures in rounds:
            if figures.round < self._next:
                continue
            row: dict[str, float] = {"round": figures.round}
            for step, values in figures.steps.items():
                row |= values
                if step != figures.round:
                    row[_SHARED_AFTER] = step
                    for name in values:
                        self._logged.define_metric(name, step_metric=_SHARED_AFTER)
            self._logged.log(row, step=figures.round, commit=True)
            self._feed.remember(figures.round)
            self._next = figures.round + 1

    def finish(self, state: str, final: Final | None, last: Figures | None) -> None:  # noqa: ARG002
        """Log what the run came to, and wait until all is away."""
        if self._logged is None:
            return
        if final is not None:
            self._logged.summary.update(
                {f"final/{name}": value for name, value in {**final.numbers, **final.words}.items()}
            )
        self._logged.finish(exit_code=0 if state == "finished" else 1)
        self._logged = None
