"""The page's addresses, and what each answers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.dashboard.access import COOKIE, SESSION_SECONDS, Access
from lotteryfl.dashboard.answers import NO_STORE, answer, as_json, number, one_of, parameter, refusal
from lotteryfl.dashboard.catalogue import Catalogue
from lotteryfl.dashboard.guard import Guard
from lotteryfl.dashboard.reading import clients, events
from lotteryfl.dashboard.reading.masks import read_overlap
from lotteryfl.dashboard.reading.oneclient import read_client
from lotteryfl.dashboard.reading.settings import experiment_of
from lotteryfl.dashboard.reading.thinning import series
from lotteryfl.dashboard.reading.timeline import MOST_ROUNDS, read_timeline
from lotteryfl.dashboard.statics import static_files
from lotteryfl.dashboard.stream import Cursor, cursor_of, list_stream, run_stream
from lotteryfl.dashboard.watched import WatchedRun

MOST_STREAMS = 256
"""Viewers at once that are told what is new; the others may look all the same."""

_MOST_SIDE_BY_SIDE = 32
_USUAL_POINTS = 1000
_POINTS = number(16, 4000)
_ROUND = number(0, 2**31 - 1)
_ID = number(-(2**62), 2**62)

# Not a redirect: after a link of another site a browser would not send the cookie, which is of the same site alone.
_ENTERED = (
    '<!doctype html><title>lotteryfl</title><meta http-equiv="refresh" content="0; url=/"><a href="/">lotteryfl</a>'
)


class Page:
    """Answers what browsers ask for."""

    def __init__(self, catalogue: Catalogue, access: Access, closing: asyncio.Event) -> None:
        """Set what is shown.

        Args:
            catalogue: the runs.
            access: who may look.
            closing: is set when the process is about to end.
        """
        self._catalogue = catalogue
        self._access = access
        self._closing = closing
        self._static = static_files()
        self._streams = 0

    def app(self) -> Guard:
        """Return what a server serves."""
        run = "/api/runs/{run}"
        routes = [
            Route("/", self._index),
            Route("/runs/{run}", self._index),
            Route("/static/{path:path}", self._file),
            Route("/favicon.ico", self._nothing),
            Route("/healthz", self._health),
            Route("/enter", self._enter),
            Route("/api/runs", self._runs),
            Route("/api/series", self._side_by_side),
            Route("/api/stream", self._list_stream),
            Route(run, self._overview),
            Route(f"{run}/series", self._series),
            Route(f"{run}/workers", self._workers),
            Route(f"{run}/events", self._events),
            Route(f"{run}/clients", self._clients),
            Route(f"{run}/clients/{{client}}", self._client),
            Route(f"{run}/timeline", self._timeline),
            Route(f"{run}/overlap", self._overlap),
            Route(f"{run}/experiment", self._experiment),
            Route(f"{run}/stream", self._run_stream),
        ]
        handlers: Mapping[Any, Callable[[Request, Any], Any]] = {
            HTTPException: _as_refusal,
            LotteryFLError: _as_unreadable,
        }
        return Guard(Starlette(routes=routes, exception_handlers=handlers), self._access)

    # -- pages

    async def _index(self, request: Request) -> Response:
        if "run" in request.path_params:
            self._run(request)
        return self._static["index.html"].response(request)

    async def _file(self, request: Request) -> Response:
        found = self._static.get(request.path_params["path"])
        return found.response(request) if found else refusal(404, "no such file")

    async def _nothing(self, _request: Request) -> Response:
        return Response(status_code=204)

    async def _health(self, _request: Request) -> Response:
        return answer({"ok": True})

    async def _enter(self, request: Request) -> Response:
        if request.method != "GET":  # who looks whether a link leads anywhere does not use it up
            return answer({})
        cookie = self._access.enter(request.query_params.get("link", ""))
        if cookie is None:
            return refusal(403, "the link was used already, or is another one: start the page again for a new one")
        response = HTMLResponse(_ENTERED, headers=NO_STORE)
        response.set_cookie(COOKIE, cookie, SESSION_SECONDS, secure=True, httponly=True, samesite="strict")
        return response

    # -- all runs

    async def _runs(self, _request: Request) -> Response:
        return answer(await self._catalogue.listing())

    async def _side_by_side(self, request: Request) -> Response:
        names = request.query_params.getlist("run")
        if not 0 < len(names) <= _MOST_SIDE_BY_SIDE:
            raise HTTPException(400, f"run: expected 1 to {_MOST_SIDE_BY_SIDE} of them")
        points, found = parameter(request, "points", _POINTS, _USUAL_POINTS), {}
        for name in names:
            snapshot = await self._named(name).snapshot()
            found[name] = series(snapshot.rounds, points)
        return answer({"runs": found})

    # -- one run

    async def _overview(self, request: Request) -> Response:
        run = self._run(request)
        points = parameter(request, "points", _POINTS, _USUAL_POINTS)
        snapshot = await run.snapshot()
        last = await run.ask(("events", events.Wanted()), lambda record: events.page(record.database, events.Wanted()))
        rest = {
            "name": run.name,
            "title": run.title,
            "run_id": snapshot.run_id,
            "cursor": str(cursor_of(run, snapshot)),
            "series": series(snapshot.rounds, points),
            "events": last,
        }
        known = as_json(rest)[:-1]
        return answer(b'%b,"status":%b,"fleet":%b}' % (known, run.status(snapshot), run.fleet(snapshot)))

    async def _series(self, request: Request) -> Response:
        snapshot = await self._run(request).snapshot()
        points = parameter(request, "points", _POINTS, _USUAL_POINTS)
        first, last = parameter(request, "from", _ROUND, 1), parameter(request, "to", _ROUND, None)
        return answer(series(snapshot.rounds, points, first, last))

    async def _workers(self, request: Request) -> Response:
        run = self._run(request)
        return answer(run.fleet(await run.snapshot()))

    async def _events(self, request: Request) -> Response:
        query = request.query_params
        before, client = parameter(request, "before", _ID, None), parameter(request, "client", _ROUND, None)
        wanted = events.Wanted(
            before=before,
            limit=parameter(request, "limit", number(1, events.MOST_AT_ONCE), 200),
            kinds=tuple(query.getlist("kind"))[:50],
            worker=query.get("worker", ""),
            client=client,
        )
        return answer(await self._run(request).ask(("events", wanted), lambda run: events.page(run.database, wanted)))

    async def _clients(self, request: Request) -> Response:
        query, bounds = request.query_params, {}
        for name in ("low", "high"):
            try:
                bounds[name] = [clients.bound(text) for text in query.getlist(name)]
            except ValueError as error:
                raise HTTPException(400, f"{name}: expected COLUMN:NUMBER, as density:0.3") from error
        wanted = clients.Wanted(
            sort=parameter(request, "sort", one_of(*clients.COLUMNS), "client"),
            descending=parameter(request, "order", one_of("asc", "desc"), "asc") == "desc",
            offset=parameter(request, "offset", _ROUND, 0),
            limit=parameter(request, "limit", number(1, clients.MOST_AT_ONCE), 500),
            find=query.get("find", ""),
            state=query.get("state", ""),
            worker=query.get("worker", ""),
            **bounds,
        )
        return answer(clients.page(await self._run(request).ask("clients", clients.read_clients), wanted))

    async def _client(self, request: Request) -> Response:
        run, given = self._run(request), request.path_params["client"]
        rows = await run.ask("clients", clients.read_clients)
        try:
            client = number(0, len(rows) - 1)(given)
        except ValueError as error:
            raise HTTPException(404, f"client {given[:80]}: the run has 0 to {len(rows) - 1}") from error
        return answer(await run.ask(("client", client), lambda record: read_client(record, rows[client])))

    async def _timeline(self, request: Request) -> Response:
        round_ = parameter(request, "round", _ROUND, None)
        rounds = parameter(request, "rounds", number(1, MOST_ROUNDS), None)
        run = self._run(request)
        found = await run.ask(
            ("timeline", round_, rounds), lambda record: read_timeline(record.database, round_, rounds)
        )
        if round_ is not None and not found["rounds"]:
            raise HTTPException(404, f"round {round_}: there is none")
        return answer(found)

    async def _overlap(self, request: Request) -> Response:
        run = self._run(request)
        snapshot = await run.snapshot()
        return answer(await run.ask_of(("overlap", snapshot.rounds.last), "overlap", read_overlap))

    async def _experiment(self, request: Request) -> Response:
        return answer(await self._run(request).ask("experiment", experiment_of))

    # -- what is new

    async def _run_stream(self, request: Request) -> Response:
        run = self._run(request)
        known = request.headers.get("last-event-id") or request.query_params.get("after")
        return self._streaming(request, run_stream(run, Cursor.parse(known), self._closing))

    async def _list_stream(self, request: Request) -> Response:
        return self._streaming(request, list_stream(self._catalogue, self._closing))

    def _streaming(self, request: Request, events: AsyncIterator[bytes]) -> Response:
        if request.method == "HEAD":  # whose answer has an end
            return Response(media_type="text/event-stream", headers=NO_STORE)
        if self._streams >= MOST_STREAMS:
            return refusal(503, f"{MOST_STREAMS} others look on already", {"Retry-After": "30"})
        headers = {**NO_STORE, "X-Accel-Buffering": "no"}
        return StreamingResponse(self._counted(events), media_type="text/event-stream", headers=headers)

    async def _counted(self, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self._streams += 1
        try:
            async for event in events:
                yield event
        finally:
            self._streams -= 1

    # -- which run

    def _run(self, request: Request) -> WatchedRun:
        return self._named(request.path_params["run"])

    def _named(self, name: str) -> WatchedRun:
        run = self._catalogue.get(name)
        if run is None:
            raise HTTPException(404, f"no run is called {name[:80]!r} here")
        return run


async def _as_refusal(_request: Request, error: HTTPException) -> Response:
    return refusal(error.status_code, error.detail)


async def _as_unreadable(_request: Request, error: LotteryFLError) -> Response:
    return refusal(503, " ".join(str(error).split()))
