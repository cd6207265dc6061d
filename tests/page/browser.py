"""A browser that looks at the page, and notes what a reader would not see: errors, and calls to anybody else."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, sync_playwright
from playwright.sync_api import expect as expect_of

from tests.support.waiting import DEADLINE

_PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

needs_browser = pytest.mark.skipif(_PROGRAM is None, reason="no Chromium on the PATH: `make test-page` installs it")

WAIT = DEADLINE * 1000
"""Milliseconds for whatever must come to be seen."""

expect_of.set_options(timeout=WAIT)


@contextmanager
def launched() -> Iterator[Browser]:
    """Start a browser; none of its own sandbox where root runs it, which it refuses."""
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_PROGRAM, args=options)
        try:
            yield browser
        finally:
            browser.close()


class Viewer:
    """One reader of the page."""

    def __init__(self, browser: Browser, url: str, *, may_end: bool = False, **options: Any) -> None:
        """Open the page.

        Args:
            browser: in which.
            url: where it is.
            may_end: its server ends while it is looked at: the browser's own complaints of that are none of ours.
            options: of the browser's context.
        """
        self.url = url
        self._may_end = may_end
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        self._context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self._context.set_default_timeout(WAIT)
        self.page: Page = self._context.new_page()
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._requested)
        self.page.goto(url)

    def close(self) -> None:
        self._context.close()

    def shows(self, selector: str, text: str | None = None) -> Locator:
        """Wait until the page shows an element, with that text in it."""
        found = self.page.locator(selector)
        if text is not None:
            found = found.filter(has_text=text)
        expect_of(found.first).to_be_visible()
        return found.first

    def rows(self, selector: str) -> list[list[str]]:
        """Return what the rows of a table say now."""
        script = "rows => rows.map(row => [...row.cells].map(cell => cell.innerText))"
        rows: list[list[str]] = self.page.locator(f"{selector} tbody tr").evaluate_all(script)
        return rows

    def column(self, selector: str, column: int) -> list[str]:
        """Return what one column of a table says now."""
        return [row[column] for row in self.rows(selector)]

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not (self._may_end and "net::ERR_" in message.text):
            self.errors.append(message.text)

    def _requested(self, request: Request) -> None:
        if not request.url.startswith(self.url.split("/runs/")[0].removesuffix("index.html").rstrip("/") + "/"):
            self.elsewhere.append(request.url)
