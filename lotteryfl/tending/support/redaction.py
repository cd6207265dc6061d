"""Text as it may leave this machine: without secrets, places on it, and names of machines and people.

What is known by name is replaced by that; what looks like a secret goes whatever it is. A text too much is lost sooner
than a secret told.
"""

import getpass
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lotteryfl.common.security import secretnames
from lotteryfl.common.text import printable

GONE = "<withheld>"

_NOBODYS = ("", "root", "localhost")

_RULES = (
    (re.compile(r"-----BEGIN.*?(-----END[^-]*-----|\Z)", re.DOTALL), GONE),
    (re.compile(r"(?i)\b(bearer|basic)\s+\S+"), rf"\1 {GONE}"),
    (
        re.compile(
            rf"(?i)([\w-]*(?:{secretnames.WORDS}|passphrase|authorization)[\w-]*"
            r"[\"']?\s*[=:]\s*)(\"[^\"]*\"?|'[^']*'?|\S+)"
        ),
        rf"\1{GONE}",
    ),
    (re.compile(r"\b([a-z][a-z0-9+.-]*://)[^/\s\"'<>]+", re.IGNORECASE), r"\1<host>"),
    (re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+"), "<mail>"),
    (re.compile(r"\b\d{1,3}(\.\d{1,3}){3}\b"), "<address>"),
    (
        re.compile(
            r"(?<![\w:])(?:(?:[0-9a-f]{1,4}:){4,7}[0-9a-f]{1,4}|[0-9a-f:]*::[0-9a-f:]*[0-9a-f])(?![\w:])", re.IGNORECASE
        ),
        "<address>",
    ),
    (re.compile(r"(?<![\w/.-])[A-Za-z0-9](?:[\w-]*\.)+[\w-]+(?=:\d{2,5}\b)"), "<host>"),
    (re.compile(r"([\"'])(?:~|\.{1,2})?/(?:[^\"'/\n]+/)*([^\"'/\n]+)\1"), r"\1…/\2\1"),
    (re.compile(r"(?<![\w.<>])(?:~|\.{1,2})?/(?:[^\s/\"'`,;:()<>]+/)+(?=[^\s/\"'`,;:()<>])"), "…/"),
    (re.compile(r"(?<![\w.<>])[A-Za-z]:\\(?:[^\s\\\"']+\\)+"), "…/"),
    (re.compile(r"[A-Za-z0-9_+=-]{32,}|[A-Za-z0-9+/_=-]{48,}"), GONE),
)
"""In this order: what a text is replaced by is left alone by those that come later."""


class Redactor:
    """Takes out of texts what is nobody else's business, the same everywhere."""

    def __init__(self, workers: Iterable[str], places: Iterable[Path], *, is_private: bool) -> None:
        """Take note of who is to have another name.

        Args:
            workers: names of workers, without their incarnations.
            places: folders that are not to be named, as a run's.
            is_private: what clients' errors say is not to be told, but the type of the error.
        """
        self._is_private = is_private
        self._workers = {name: f"w{number}" for number, name in enumerate(sorted(set(workers) - {""}), start=1)}
        names = dict.fromkeys((os.uname().nodename, os.uname().nodename.partition(".")[0]), "<machine>")
        with suppress(OSError, KeyError):  # a user without a name
            names[getpass.getuser()] = "<user>"
        names = {name: other for name, other in names.items() if name not in _NOBODYS} | self._workers
        here = {str(place.absolute()) for place in (Path.home(), Path.cwd(), *places)} - {"/"}
        self._places = sorted(here, key=len, reverse=True)
        self._names = [
            (re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w-])(:[0-9a-f]{{32}})?"), other)
            for name, other in sorted(names.items(), key=lambda each: -len(each[0]))
        ]

    def worker(self, worker: str) -> str:
        """Return the name by which a worker, with or without its incarnation, is called in the bundle."""
        return self._workers.get(worker.rpartition(":")[0] or worker, self._workers.get(worker, ""))

    def text(self, text: str) -> str:
        """Return what may be told of a line."""
        for place in self._places:
            text = text.replace(place, "…")
        for name, other in self._names:
            text = name.sub(other, text)
        for pattern, instead in _RULES:
            text = pattern.sub(instead, text)
        return printable(text)

    def message(self, text: str) -> str:
        """Return what may be told of why something failed: where clients are private, the type of the error alone."""
        if not (self._is_private and text):
            return self.text(text)
        kind = re.search(r"\b[A-Z]\w*(Error|Exception|Exit|Interrupt)\b", text)
        return f"{GONE}: {kind[0]}" if kind else GONE

    def lines(self, text: str) -> str:
        """Return what may be told of many lines; what goes over several of them goes whole."""
        whole = _RULES[0][0].sub(GONE, text)
        return "".join(f"{self.text(line)}\n" for line in whole.splitlines())
