"""The page's own files: those that are there when the process starts, and no others."""

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
    "png": "image/png",
    "woff2": "font/woff2",
}
_TEXT = "text/plain; charset=utf-8"


class StaticFile(NamedTuple):
    """One of them."""

    content: bytes
    type: str
    etag: str

    def response(self, request: Request) -> Response:
        """Return the answer to who asks for it: nothing, if that is what it has."""
        headers = {"Cache-Control": "no-cache", "ETag": self.etag}
        if request.headers.get("if-none-match") == self.etag:
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers=headers, media_type=self.type)


def static_files() -> Mapping[str, StaticFile]:
    """Return all of them, by their paths."""
    return dict(_read(files("lotteryfl.dashboard") / "static", ""))


def _read(folder: Traversable, path: str) -> list[tuple[str, StaticFile]]:
    found: list[tuple[str, StaticFile]] = []
    for each in folder.iterdir():
        name = f"{path}{each.name}"
        if each.is_dir():
            found += _read(each, f"{name}/")
        elif not each.name.startswith("."):
            content = each.read_bytes()
            kind = _TYPES.get(each.name.rpartition(".")[2], _TEXT)
            found.append((name, StaticFile(content, kind, f'"{hashlib.sha256(content).hexdigest()[:32]}"')))
    return found
