"""Options of the commands that run something, for a page about it."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from lotteryfl.common.commandline import given
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.tls import TLSFiles
from lotteryfl.dashboard.extra import require_extra

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class PageWanted:
    """Whether a page is shown beside a run, and where."""

    address: str | None
    open: bool

    def options(
        self, tls: TLSFiles | None = None, tokens: Path | None = None, revoked: Path | None = None
    ) -> list[str]:
        """Return the options of `lotteryfl dashboard` that show it; none: no page is wanted.

        Args:
            tls: what the coordinator's own address is secured with; None: there is no such thing, and the page is for
                this machine.
            tokens: the file of tokens by which callers show who they are.
            revoked: the file of callers' certificates that do not count any more.

        Raises:
            LotteryFLError: the page cannot be shown there.
        """
        if self.address is None:
            if self.open:
                raise LotteryFLError("--open: opens the page of --dashboard HOST:PORT")
            return []
        require_extra()
        from lotteryfl.dashboard.access import PageEndpoint

        endpoint = PageEndpoint.of(self.address, tls or TLSFiles(), tokens, revoked)
        if tls is None and not endpoint.is_open:
            raise LotteryFLError(
                f"--dashboard {self.address}: other machines can reach it: expected a loopback address, as "
                "127.0.0.1:8080; or show it apart: lotteryfl dashboard DIR --listen HOST:PORT --tls-cert … --tls-key …"
            )
        endpoint.check()
        return [*endpoint.options(), *given(open=self.open)]


def page_options(command: F) -> F:
    """Give a command --dashboard and --open, as its parameter `page`."""

    @functools.wraps(command)
    def wrapped(*args: Any, dashboard: str | None, open_: bool, **options: Any) -> object:
        return command(*args, page=PageWanted(dashboard, open_), **options)

    for decorator in (
        click.option("--open", "open_", is_flag=True, help="Open that page in a browser here."),
        click.option("--dashboard", metavar="HOST:PORT", help="Show a page about the run there; it only looks."),
    ):
        wrapped = decorator(wrapped)
    return wrapped  # type: ignore[return-value]
