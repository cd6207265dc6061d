"""A launch from its start to its end, in a place that does what the test says."""

import asyncio
from pathlib import Path
from typing import ClassVar

import pytest

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.launching import following
from lotteryfl.launching.folder import LaunchFolder
from lotteryfl.launching.following import bring_up, follow, take_down
from lotteryfl.launching.launcher import Launcher, Looking, Request, Stage, Standing
from lotteryfl.launching.settings import LaunchSettings
from lotteryfl.running.owncode import OwnCode

RUNNING, WELL = Standing(Stage.RUNNING), Standing(Stage.ENDED)


class Place(Launcher):
    """Launches nothing; the run that is looked at has finished."""

    kind: ClassVar[str] = "place"

    def __init__(self, run_dir: Path, *standings: Standing | str, fails: tuple[str, ...] = ()) -> None:
        folder = LaunchFolder(run_dir)
        self.notes: list[str] = []
        super().__init__(Request(run_dir, run_dir, (), OwnCode(), LaunchSettings(), folder), self.notes.append)
        self.calls: list[str] = []
        self._standings = list(standings)
        self._fails = fails

    def _do(self, what: str) -> None:
        self.calls.append(what)
        if what in self._fails:
            raise LotteryFLError(f"{what} has failed")

    def check(self) -> None:
        self._do("check")

    def rendered(self) -> dict[str, str]:
        return {}

    async def up(self) -> None:
        self._do("up")

    async def standing(self) -> Standing:
        standing = self._standings.pop(0)
        if isinstance(standing, str):
            raise LotteryFLError(standing)
        return standing

    def looking(self) -> Looking:
        return Looking(str(self.request.run_dir))

    async def bring_back(self) -> None:
        self._do("bring back")

    async def down(self) -> None:
        self._do("down")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "SECONDS", 0.0)


def test_what_is_launched_is_followed_brought_back_and_taken_down(finished_run: Path) -> None:
    place, told = Place(finished_run, Standing(Stage.WAITING, "a queue"), RUNNING, WELL), list[str]()

    async def whole() -> None:
        await bring_up(place, lambda: None)
        assert place.request.folder.is_up
        await follow(place, told.append)

    asyncio.run(whole())
    assert place.calls == ["check", "up", "bring back", "down"]
    assert not place.request.folder.is_up
    assert place.notes[0] == "waiting: a queue"
    assert f"lotteryfl watch {finished_run}" in place.notes[1]
    assert told[0].startswith("round 1/")
    assert told[-1] == "the run has finished"


def test_who_cannot_say_where_it_stands_is_asked_again(finished_run: Path) -> None:
    place = Place(finished_run, "busy", "busy", WELL)
    asyncio.run(follow(place, lambda _: None))
    assert place.notes == ["busy; asking again"]


def test_a_run_that_has_failed_is_taken_down_and_said_why(finished_run: Path) -> None:
    place = Place(finished_run, Standing(Stage.ENDED, "no room on the disk", 1))
    with pytest.raises(LotteryFLError, match="no room on the disk"):
        asyncio.run(follow(place, lambda _: None))
    assert place.calls == ["down"]


def test_a_run_that_left_clients_out_is_brought_back_too(finished_run: Path) -> None:
    place = Place(finished_run, Standing(Stage.ENDED, code=3))
    assert asyncio.run(follow(place, lambda _: None)).code == 3
    assert place.calls == ["bring back", "down"]


def test_what_cannot_be_brought_back_stays_where_it_is(finished_run: Path) -> None:
    place = Place(finished_run, WELL, fails=("bring back",))

    async def whole() -> None:
        await bring_up(place, lambda: None)
        await follow(place, lambda _: None)

    with pytest.raises(LotteryFLError, match="bring back has failed"):
        asyncio.run(whole())
    assert place.calls == ["check", "up", "bring back"]
    assert place.request.folder.is_up


def test_what_comes_up_half_is_taken_away_and_what_went_wrong_first_is_said(finished_run: Path) -> None:
    place = Place(finished_run, fails=("up", "down"))
    with pytest.raises(LotteryFLError, match="up has failed"):
        asyncio.run(bring_up(place, lambda: None))
    assert place.calls == ["check", "up", "down"]
    assert place.request.folder.is_up  # something may be left: --down tries again
    again = Place(finished_run)
    asyncio.run(take_down(again))
    assert not again.request.folder.is_up
