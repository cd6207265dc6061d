"""The page's process as a browser knows it: answers, and streams of events."""

import json
import re
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx

from tests.support.processes import Process
from tests.support.waiting import DEADLINE


class Event(NamedTuple):
    """A server-sent event."""

    kind: str
    id: str
    data: Any


class Browser:
    """Looks at a page; what it asks for is JSON unless it says otherwise."""

    def __init__(self, address: str, **options: Any) -> None:
        """Set where the page is; options are those of httpx's client."""
        self.client = httpx.Client(base_url=address, timeout=DEADLINE, trust_env=False, **options)

    @classmethod
    def at(cls, process: Process, **options: Any) -> Self:
        """Look at the page that a process says it shows."""
        return cls(address_of(process).partition("/enter")[0], **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()

    def get(self, path: str, **parameters: Any) -> Any:
        """Return an answer."""
        response = self.client.get(path, params=parameters)
        assert response.status_code == 200, response.text
        return response.json()

    def refused(self, path: str, status: int, **options: Any) -> str:
        """Return why a request is refused."""
        response = self.client.request(options.pop("method", "GET"), path, **options)
        assert response.status_code == status, response.text
        return str(response.json()["error"])

    def events(self, run: str = "run", after: str = "", last: str = "") -> Iterator[Event]:
        """Yield what a stream brings, until it is closed."""
        headers = {"Last-Event-ID": last} if last else {}
        parameters = {"after": after} if after else {}
        with self.client.stream("GET", f"/api/runs/{run}/stream", headers=headers, params=parameters) as response:
            assert response.status_code == 200
            fields: dict[str, str] = {}
            for line in response.iter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                    continue
                if "data" in fields:
                    yield Event(fields["event"], fields["id"], json.loads(fields["data"]))
                fields = {}


def address_of(process: Process) -> str:
    """Return where a process says that its page is."""
    return process.said(r"^page: (\S+)$")[1]


def next_of(events: Iterator[Event], kind: str) -> Event:
    """Return the next event of a kind."""
    return next(event for event in events if event.kind == kind)


def cursor_round(event: Event) -> int:
    """Return which round a viewer knows with an event."""
    found = re.fullmatch(r"[0-9a-f]{8}\.(\d+)\.\d+", event.id)
    assert found
    return int(found[1])
