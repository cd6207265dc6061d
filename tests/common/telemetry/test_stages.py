"""Stages are added up, also those that fail, and by several threads."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lotteryfl.common.telemetry.stages import Stages


def test_what_a_stage_takes_is_added_up() -> None:
    stages = Stages()
    assert stages.passed() == {}
    begin = time.monotonic()
    for _ in range(2):
        with stages.within("train"):
            time.sleep(0.01)  # what is measured
    with pytest.raises(ZeroDivisionError), stages.within("encode"):
        _ = 1 / 0
    passed = stages.passed()
    assert passed["train"].times == 2
    assert 0.02 <= passed["train"].seconds <= time.monotonic() - begin
    assert passed["encode"].times == 1


def test_threads_lose_nothing_of_each_other() -> None:
    stages = Stages()

    def pass_through(_: int) -> None:
        for _ in range(200):
            with stages.within("decode"):
                pass

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(pass_through, range(4)))
    assert stages.passed().keys() == {"decode"}
    assert stages.passed()["decode"].times == 800
