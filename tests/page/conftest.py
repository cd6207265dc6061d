"""One browser for all tests of the page, and viewers in which nothing may have gone wrong when the test ends."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.integration.conftest import start, write
from tests.page.browser import Viewer, launched
from tests.support.bench import simulated, tiny_experiment
from tests.support.processes import Process

__all__ = ["start", "write"]

Look = Callable[..., Viewer]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with launched() as browser_:
        yield browser_


@pytest.fixture
def look(browser: Browser) -> Iterator[Look]:
    """Open the page: `look(url)`. In the end nobody else has been asked for anything, and nothing was complained of."""
    viewers: list[Viewer] = []

    def look_(url: str, **options: Any) -> Viewer:
        viewers.append(Viewer(browser, url, **options))
        return viewers[-1]

    yield look_
    for viewer in viewers:
        viewer.close()
    assert [(viewer.errors, viewer.elsewhere) for viewer in viewers] == [([], [])] * len(viewers)


@pytest.fixture(scope="package")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the page of two finished runs is, `first` and `second`, of 12 clients each."""
    folder = tmp_path_factory.mktemp("finished")
    for seed, name in enumerate(("first", "second")):
        simulated(folder / name, tiny_experiment(seed=seed, rounds=4, clients=12, clients_per_round=12)).close()
    page = Process("dashboard", folder, "--listen", "127.0.0.1:0", cwd=folder, env={})
    try:
        yield page.said(r"^page: (\S+)")[1]
    finally:
        page.end()
