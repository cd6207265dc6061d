"""The board in a browser: from a file, by the mouse and by keys, light and dark; a stranger's words do nothing."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from lotteryfl.board.entries import read_board
from lotteryfl.board.write import write_board
from lotteryfl.records import Record, record_of
from lotteryfl.records.marks import mark
from lotteryfl.running.scripts import simulate
from tests.page.browser import Viewer, needs_browser
from tests.page.conftest import Look
from tests.page.test_accessibility import LOOKS, faults
from tests.records.conftest import small_experiment
from tests.support.recorded import like, rival, write

pytestmark = needs_browser

HOSTILE = "<img src=x onerror=caught=1><script>caught=1</script>"
RIVALS = {"cheap": (0.5, 1_000_000), "good": (0.9, 8_000_000), "middle": (0.7, 3_000_000), HOSTILE: (0.6, 9_000_000)}


@pytest.fixture(scope="package")
def board(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the page of five settings is, one of a single seed and verified, one with a hostile name."""
    folder = tmp_path_factory.mktemp("board")
    simulate(small_experiment(), folder / "run").close()
    record: Record = record_of(folder / "run")
    found = {
        f"{number}-seed{seed}": rival(record, name, seed, score + 0.02 * seed, sent)
        for number, (name, (score, sent)) in enumerate(RIVALS.items())
        for seed in (0, 1)
    }
    found["real"] = like(record, {"experiment.partition": {"classes_per_client": 3}})
    mark(write(folder / "records", found) / "real.json", "run again")
    page = write_board(read_board([folder / "records"]), folder / "board")
    return page.as_uri()


def names(viewer: Viewer) -> list[str]:
    found: list[str] = viewer.page.locator(".race:first-of-type tbody:visible button.opens").all_inner_texts()
    return found


def test_a_file_is_sorted_filtered_and_opened_by_keys(board: str, look: Look) -> None:
    viewer = look(board)
    page = viewer.page
    assert names(viewer) == ["good", "middle", HOSTILE, "cheap"]
    expect(page.locator("th[aria-sort=descending]").first).to_have_text("Personalised")
    page.get_by_role("button", name="MB", exact=True).first.focus()
    page.keyboard.press("Enter")
    assert names(viewer) == [HOSTILE, "good", "middle", "cheap"]
    page.keyboard.press("Enter")
    assert names(viewer) == ["cheap", "middle", "good", HOSTILE]
    page.get_by_role("button", name="good").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="1-seed1")).to_be_visible()
    expect(page.locator(".dot.here")).to_have_count(2)  # in both pictures
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="1-seed1")).to_be_hidden()
    page.get_by_label("Find").fill("mid")
    assert names(viewer) == ["middle"]
    viewer.shows("#count", "1 of 5 settings")
    expect(page.locator(".dot:visible")).to_have_count(2)
    expect(page.locator(".name:visible")).to_have_text(["middle 0.5", "middle 0.5"])
    page.get_by_label("Find").fill("")
    page.get_by_label("verified only").check()
    viewer.shows("#count", "1 of 5 settings")
    viewer.shows(".badge.good", "run again")
    page.get_by_label("verified only").uncheck()
    page.get_by_label("Protocol").select_option(index=2)
    viewer.shows("#count", "1 of 5 settings")
    assert page.evaluate("window.caught") is None
    assert page.locator("img").count() == 0


def test_its_records_lie_beside_it(board: str, look: Look) -> None:
    viewer = look(board)
    page = viewer.page
    page.get_by_role("button", name="middle").click()
    found = page.get_by_role("link", name="2-seed0").evaluate("link => link.href")
    assert (Path(board.removeprefix("file://")).parent / "records" / "2-seed0.json").as_uri() == found


@pytest.mark.parametrize("how", ["dark", *(pytest.param(how, marks=pytest.mark.slow) for how in ("light", "narrow"))])
def test_axe_finds_no_serious_fault(how: str, board: str, look: Look) -> None:
    viewer = look(board, **LOOKS[how])
    viewer.page.get_by_role("button", name="good").click()
    assert faults(viewer) == []
    assert viewer.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_colours_that_were_chosen_are_kept(board: str, look: Look) -> None:
    viewer = look(board, color_scheme="light")
    page = viewer.page
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    for theme in ("light", "dark"):
        page.get_by_role("button", name="Theme").click()
        expect(page.locator("#theme")).to_have_text(f"Theme: {theme}")
    page.reload()
    expect(page.locator("#theme")).to_have_text(re.compile("dark"))
    assert page.evaluate(background) != light
    assert page.locator(".dot.best").first.evaluate("dot => getComputedStyle(dot).fill") == "rgb(86, 180, 233)"


def test_without_scripts_all_of_it_is_there(board: str, look: Look) -> None:
    viewer = look(board, java_script_enabled=False)
    expect(viewer.page.get_by_role("link", name="1-seed1")).to_be_visible()
    expect(viewer.page.locator(".controls")).to_be_hidden()
