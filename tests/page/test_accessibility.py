"""axe-core finds no serious fault: in light, in dark, on a narrow screen, with a client opened, with several runs."""

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import expect

from tests.page.browser import Viewer, needs_browser
from tests.page.conftest import Look

pytestmark = needs_browser

LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "narrow": {"viewport": {"width": 360, "height": 800}},
}


def faults(viewer: Viewer) -> list[str]:
    """Return what axe calls serious or critical: the rule, and the first elements that break it."""
    options = {"preload": False}  # or it fetches style sheets anew, which no policy allows it
    found = Axe().run(viewer.page, options=options).response["violations"]
    return [
        f"{fault['id']}: {[node['html'][:120] for node in fault['nodes'][:3]]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("how", ["light", *(pytest.param(how, marks=pytest.mark.slow) for how in ("dark", "narrow"))])
def test_a_run(how: str, finished: str, look: Look) -> None:
    viewer = look(f"{finished}runs/first", **LOOKS[how])
    for section in ("timeline", "clients", "overlap", "experiment"):
        viewer.page.locator(f"#{section}").scroll_into_view_if_needed()
    viewer.shows("#overlap-note", "12 clients")
    expect(viewer.page.locator("#clients tbody tr")).to_have_count(12)
    viewer.page.get_by_text("Density as a table").click()
    assert faults(viewer) == []
    viewer.page.get_by_role("button", name="Client 3: open").click()
    viewer.shows("dialog", "Served by")
    assert faults(viewer) == []


def test_several_runs(finished: str, look: Look) -> None:
    viewer = look(finished)
    viewer.shows("#charts .legend", "second")
    assert faults(viewer) == []
