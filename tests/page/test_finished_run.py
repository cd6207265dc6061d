"""What readers of finished runs do: read, sort, filter, open a client, compare; by keys, in colours of their own."""

import re

from playwright.sync_api import expect

from tests.page.browser import needs_browser
from tests.page.conftest import Look

pytestmark = needs_browser


def test_the_curves_are_there_as_tables_too(finished: str, look: Look) -> None:
    viewer = look(f"{finished}runs/first")
    viewer.shows("#state", "finished")
    viewer.shows("#tiles", "4 of 4")
    viewer.page.get_by_text("Score: accuracy as a table").click()
    expect(viewer.page.locator(".chart details[open] tbody tr")).to_have_count(5)  # the last one measures all
    assert viewer.column(".chart details[open]", 0) == ["1", "2", "3", "4", "5"]
    viewer.page.get_by_role("button", name="Bytes sent").click()
    sent = viewer.shows(".chart details[open] tbody tr:last-child td:first-child", "kB").inner_text()
    assert sent in viewer.page.locator("#tiles").inner_text()


def test_clients_are_sorted_filtered_and_opened_by_keys(finished: str, look: Look) -> None:
    viewer = look(f"{finished}runs/first")
    page = viewer.page
    expect(page.locator("#clients tbody tr")).to_have_count(12)
    page.get_by_role("button", name="Downloaded", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#clients th[aria-sort=descending]")).to_have_text(re.compile("Downloaded"))
    expect(page.locator("#clients tbody th").first).not_to_have_text("0")
    scores = [float(score.removesuffix(" %")) for score in viewer.column("#clients", 2)]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) > 1
    page.get_by_label("Find").fill("11")
    expect(page.locator("#clients tbody tr")).to_have_count(1)
    viewer.shows("#clients-count", "1 of 12 clients")
    page.get_by_role("button", name="Client 11: open").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Client 11")
    expect(dialog.get_by_role("region", name="Mask by layer").locator("tbody tr")).to_have_text(
        [re.compile(r"0\.weight.*72"), re.compile(r"2\.weight.*36")]
    )
    expect(dialog.get_by_role("region", name="History").locator("tbody tr")).to_have_count(5)
    expect(dialog.get_by_role("region", name="Served by").locator("tbody tr")).to_have_count(1)
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("dialog", name="Client 10")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Client 11: open")).to_be_focused()


def test_the_time_line_the_overlap_and_the_experiment_are_shown(finished: str, look: Look) -> None:
    viewer = look(f"{finished}runs/first")
    page = viewer.page
    page.locator("#timeline").scroll_into_view_if_needed()
    page.get_by_label("Round before").click()
    viewer.shows("#timeline-note", "round 5, 12 assignments")
    expect(page.locator("#lanes rect")).to_have_count(12)
    page.locator("#overlap").scroll_into_view_if_needed()
    viewer.shows("#overlap-note", "12 clients with a mask")
    page.get_by_text("Overlap as a table").click()
    expect(page.locator("#overlap details tbody tr")).to_have_count(12)
    page.get_by_label("changed keys only").check()
    viewer.shows("#settings tr", "prune_rate")
    expect(page.locator("#settings tr", has_text="momentum")).to_have_count(0)


def test_runs_lie_over_one_another(finished: str, look: Look) -> None:
    viewer = look(finished)
    page = viewer.page
    expect(page.locator("#overview tbody tr")).to_have_count(2)
    assert sorted(viewer.column("#overview", 0)) == ["first", "second"]
    legend = page.get_by_role("group", name="Lines of Score")
    expect(legend.get_by_role("button")).to_have_count(2)
    page.get_by_label("Draw second").uncheck()
    expect(legend.get_by_role("button")).to_have_text([re.compile("first")])
    page.get_by_role("link", name="second").click()
    viewer.shows("h1", "second")
    page.get_by_label("Run", exact=True).select_option("All runs")
    viewer.shows("h1", "All runs")


def test_the_colours_that_were_chosen_are_kept(finished: str, look: Look) -> None:
    viewer = look(f"{finished}runs/first", color_scheme="light")
    page = viewer.page
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    for theme in ("light", "dark"):
        page.get_by_role("button", name="Theme").click()
        expect(page.locator("#theme")).to_have_text(f"Theme: {theme}")
    dark = page.evaluate(background)
    page.reload()
    expect(page.locator("#theme")).to_have_text("Theme: dark")
    assert page.evaluate(background) == dark != light


def test_nothing_is_wider_than_the_window(finished: str, look: Look) -> None:
    viewer = look(f"{finished}runs/first")
    for section in ("timeline", "clients", "overlap", "experiment"):
        viewer.page.locator(f"#{section}").scroll_into_view_if_needed()
    viewer.shows("#overlap-note", "12 clients")
    for width in (360, 1280):
        viewer.page.set_viewport_size({"width": width, "height": 800})
        assert viewer.page.evaluate("document.documentElement.scrollWidth") <= width
    cut = "tables => tables.filter(table => table.scrollWidth > table.clientWidth).map(table => table.ariaLabel)"
    assert viewer.page.locator(".scroll").evaluate_all(cut) == [], "scrolled in themselves: in a narrow window alone"
