"""What a run says of its settings: where rewinding undoes more than local training brings back."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from lotteryfl.display import RunDisplay
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.results.finaltable import final_table
from lotteryfl.server.store.rundb.database import Database
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.status import status_of
from tests.support.bench import simulated, tiny_experiment
from tests.support.scored import MAE, scored

ADVICE = (
    "for 5 rounds accuracy has been worse after local training than before it, in the last 0.250 after 0.500: pruning "
    "takes weights back to where they began, and training.epochs = 1 does not make up for it; set strategy.rewind = "
    "'none', or train longer"
)


def told(run: RunDirectory) -> str:
    """What status and final table both say."""
    said = status_of(run).advice
    assert ("advice: " in final_table(run)) == bool(said)
    assert final_table(run).endswith(f"\n\nadvice: {said}") or not said
    return said


def set_scores(database: Database, downloaded: float, personalised: float, where: str = "true") -> None:
    for phase, value in (("downloaded", downloaded), ("personalised", personalised)):
        database.select(f"UPDATE metrics SET accuracy = {value} WHERE phase = '{phase}' AND {where}")  # noqa: S608
        database.select(f"UPDATE measures SET value = {value} WHERE phase = '{phase}' AND name = 'mae'")  # noqa: S608


@pytest.mark.parametrize("rewind", ["initial", "everything", "none"])
def test_rewinding_that_makes_clients_worse_is_named(tmp_path: Path, rewind: str) -> None:
    experiment = tiny_experiment(rounds=6, strategy={"rewind": rewind, "target_density": 0.05})
    with simulated(tmp_path / "run", experiment) as run:
        set_scores(run.database, 0.5, 0.25)
        assert told(run) == ("" if rewind == "none" else ADVICE)
        set_scores(run.database, 0.25, 0.25, "round = 4")
        assert told(run) == "", "one of the five was no worse"


def test_rewinding_is_not_named_where_nobody_prunes_any_more(tmp_path: Path) -> None:
    with simulated(tmp_path / "run", tiny_experiment(rounds=9)) as run:
        set_scores(run.database, 0.5, 0.25)
        assert told(run) == ""
        run.database.select("UPDATE results SET density = 0.9 WHERE round = 5")
        assert told(run).startswith("for 5 rounds accuracy has been worse")


def test_less_may_be_better(tmp_path: Path) -> None:
    run = scored(tmp_path / "run", MAE, rounds=5).run
    set_scores(run.database, 2.5, 3.0)
    assert told(run).startswith(
        "for 5 rounds mae has been worse after local training than before it, in the last 3 aft"
    )
    set_scores(run.database, 3.0, 2.5)
    assert told(run) == ""
    run.close()


def test_a_few_rounds_say_nothing(tmp_path: Path) -> None:
    with simulated(tmp_path / "run", tiny_experiment(rounds=4)) as run:
        set_scores(run.database, 0.5, 0.25)
        assert told(run) == ""


def test_a_log_has_it_once() -> None:
    file = io.StringIO()
    with RunDisplay(Console(file=file)) as display:
        for _ in range(3):
            display.show(pb.RunStatus(rounds=9, advice="set this"))
    assert file.getvalue() == "advice: set this\n"
