"""A small model of a file system that loses power: it follows what is done in a folder, and knows what a cut may leave.

What POSIX promises, and no more, as if there were no journal:

- A name that was made, moved or removed is on disk when its folder has been synced. Before, it may be lost or not, each
  independently of the others, whatever their order; a rename alone is never torn into its halves.
- Content is on disk when the file has been synced. Before, it may be there, be empty, or be zeros from its middle on.
- What stands in a folder whose own name is lost is lost with it.

SQLite writes run.db in C, where nobody looks on. It is taken at its word: in WAL mode with `synchronous = FULL` what is
committed when COMMIT returns is on disk, with the WAL's name (it syncs the folder of a WAL that it makes), and what is
not is ignored. So a database is at every moment as it lies there, with its WAL and without the shared memory beside it;
and once something was committed to it, its own name is on disk. That SQLite thereby syncs the names of other files too
is not relied on.
"""

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple
from unittest.mock import patch

Tree = dict[str, bytes | None]
"""What is in a folder, by path relative to it: files, and folders (None)."""

Fate = Literal["whole", "empty", "torn"]
_FATES: tuple[Fate, ...] = ("whole", "empty", "torn")

_DATABASES = ("run.db", ".run.db.part")
_BESIDE = ("-wal", "-journal", "-shm")
"""What SQLite calls the files that it keeps beside one."""

_MOST_AT_ONCE = 8
_SAMPLES = 30


@dataclass(eq=False)
class Node:
    """A file or a folder, whatever its name."""

    path: Path
    """Where it is, or was last."""
    number: int
    """Its inode's."""
    is_folder: bool
    is_synced: bool = False
    """Whether a file's content is on disk."""
    kept: bytes | None = None
    """The content of a file that has no name any more."""

    def content(self) -> bytes:
        return self.path.read_bytes() if self.kept is None else self.kept

    @property
    def is_database(self) -> bool:
        return self.path.name in _DATABASES


Change = dict[Path, Node | None]
"""What names stand for after one step; None: nothing."""


class Cut(NamedTuple):
    """One way in which it may go."""

    kept: tuple[bool, ...]
    """Of the steps that are not on disk, in order: is it there afterwards?"""
    fates: Mapping[Node, Fate]
    """What becomes of the contents that are not on disk."""


class Disk:
    """What is done below a folder, and what of it is on disk."""

    def __init__(self, root: Path, after_step: Callable[[str], None] = lambda _: None) -> None:
        """Begin with what is there, all of it on disk.

        Args:
            root: the folder; its own name is on disk.
            after_step: is told of everything that was done, when it is done.
        """
        self.root = root.resolve()
        self.lock = threading.RLock()
        """Held while something is done: who has it holds all threads up before they go on from a sync."""
        self._after_step = after_step
        self._on_disk: dict[Path, Node] = {}
        self._waiting: list[Change] = []
        for path in (self.root, *self.root.rglob("*")):
            if path.name.endswith(_BESIDE):
                continue
            self._on_disk[path] = Node(path, path.stat().st_ino, path.is_dir(), is_synced=True)
        self._now = dict(self._on_disk)

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Follow what the process does in the block, in any thread."""
        names = ("open", "mkdir", "rmdir", "rename", "replace", "unlink", "remove", "fsync", "pwrite")
        with ExitStack() as stack:
            for name in names:
                stack.enter_context(patch.object(os, name, self._following(getattr(os, name), name)))
            yield

    # -- what is done

    def _following(self, real: Callable[..., Any], name: str) -> Callable[..., Any]:
        note = getattr(self, f"_{'replace' if name == 'rename' else 'unlink' if name in ('remove', 'rmdir') else name}")

        def do(*arguments: Any, **named: Any) -> Any:
            if name == "fsync":
                result = real(*arguments)  # may take its time; what counts is that nobody goes on from it
                with self.lock:
                    note(*arguments)
                return result
            with self.lock:
                return note(real, *arguments, **named)

        return do

    def _open(
        self, real: Callable[..., int], path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
    ) -> int:
        descriptor = real(path, flags, mode, dir_fd=dir_fd)
        where = self._where(path, dir_fd)
        if where is not None and flags & os.O_CREAT and where not in self._now:
            self._made(Node(where, os.fstat(descriptor).st_ino, is_folder=False))
        elif where in self._now and flags & (os.O_WRONLY | os.O_RDWR):
            self._now[where].is_synced = False
        return descriptor

    def _pwrite(self, real: Callable[..., int], descriptor: int, *arguments: Any) -> int:
        written = real(descriptor, *arguments)
        if (node := self._node(descriptor)) is not None:
            node.is_synced = False
        return written

    def _mkdir(self, real: Callable[..., None], path: Any, *arguments: Any, **named: Any) -> None:
        real(path, *arguments, **named)
        where = self._where(path, named.get("dir_fd"))
        if where is not None:
            self._made(Node(where, where.stat().st_ino, is_folder=True))

    def _replace(self, real: Callable[..., None], source: Any, target: Any) -> None:
        before, after = self._where(source), self._where(target)
        replaced = None if after is None else self._now.get(after)
        if replaced is not None:
            replaced.kept = replaced.content()
        real(source, target)
        if before is not None and after is not None:
            node = self._now[before]
            node.path = after
            self._done(f"{before.name} renamed", {before: None, after: node})

    def _unlink(self, real: Callable[..., None], path: Any, *, dir_fd: int | None = None) -> None:
        where = self._where(path, dir_fd)
        node = self._now.get(where) if where is not None else None
        content = node.content() if node is not None and not node.is_folder else None
        real(path, dir_fd=dir_fd)
        if node is not None:
            node.kept = content
            self._done(f"{node.path.name} removed", {node.path: None})

    def _fsync(self, descriptor: int) -> None:
        node = self._node(descriptor)
        if node is None:
            return
        if node.is_folder:
            self._settle(lambda path: path.parent == node.path)
        node.is_synced = True
        self._after_step(f"{node.path.name} synced")

    def _made(self, node: Node) -> None:
        self._done(f"{node.path.name} made", {node.path: node})

    def _done(self, what: str, change: Change) -> None:
        _apply(change, self._now)
        self._waiting.append(change)
        self._after_step(what)

    def _settle(self, is_meant: Callable[[Path], bool]) -> None:
        """Put on disk what was done to these names."""
        for change in self._waiting:
            settled = {path: node for path, node in change.items() if is_meant(path)}
            _apply(settled, self._on_disk)
            for path in settled:
                del change[path]
        self._waiting = [change for change in self._waiting if change]

    def _where(self, path: Any, folder: int | None = None) -> Path | None:
        """Return which path below the root is meant, if one is."""
        if isinstance(path, int):
            return None
        base = Path.cwd()
        if folder is not None:
            node = self._node(folder)
            if node is None:
                return None
            base = node.path
        where = Path(os.path.abspath(base / os.fsdecode(path)))  # noqa: PTH100 - a link would not be followed
        return where if self.root in where.parents else None

    def _node(self, descriptor: int) -> Node | None:
        number = os.fstat(descriptor).st_ino
        return next((node for node in self._now.values() if node.number == number), None)

    # -- what may be left

    def cuts(self, random: Random) -> Iterator[Cut]:
        """Yield every way in which a power cut may go now; of many, each loss alone, all but it, and a sample."""
        self._settle(self._has_been_committed_to)
        unsynced = list(self._unsynced())
        steps = len(self._waiting)
        options: list[Sequence[Any]] = [(True, False)] * steps + [_FATES] * len(unsynced)
        for chosen in product(*options) if len(options) <= _MOST_AT_ONCE else _some(options, random):
            yield Cut(chosen[:steps], dict(zip(unsynced, chosen[steps:], strict=True)))

    def any_cut(self, random: Random) -> Cut:
        """Return one of them."""
        self._settle(self._has_been_committed_to)
        kept = tuple(random.random() < 0.5 for _ in self._waiting)
        return Cut(kept, {node: random.choice(_FATES) for node in self._unsynced()})

    def left_by(self, cut: Cut) -> Tree:
        """Return what is there after a power cut."""
        names = dict(self._on_disk)
        for change, is_kept in zip(self._waiting, cut.kept, strict=True):
            if is_kept:
                _apply(change, names)
        tree: Tree = {}
        folders = {self.root}
        for path in sorted(names):
            node = names[path]
            if path.parent in folders:
                tree |= self._what_is_left(path, node, cut)
                if node.is_folder:
                    folders.add(path)
        return tree

    def _what_is_left(self, path: Path, node: Node, cut: Cut) -> Tree:
        name = str(path.relative_to(self.root))
        if node.is_folder:
            return {name: None}
        content = node.content()
        if node.is_database:
            beside = ((f"{name}{end}", Path(f"{node.path}{end}")) for end in _BESIDE[:2])
            return {name: content, **{its: file.read_bytes() for its, file in beside if file.exists()}}
        fate = "whole" if node.is_synced else cut.fates[node]
        middle = len(content) // 2
        return {name: {"whole": content, "empty": b"", "torn": content[:middle] + bytes(len(content) - middle)}[fate]}

    def _unsynced(self) -> Iterator[Node]:
        nodes = {*self._on_disk.values(), *(node for change in self._waiting for node in change.values() if node)}
        unsynced = (node for node in nodes if not (node.is_synced or node.is_folder or node.is_database))
        yield from sorted(unsynced, key=lambda node: node.path)

    def _has_been_committed_to(self, path: Path) -> bool:
        """Tell whether a name is a database's, by which it was made and not moved to, and something is in it."""
        node = self._now.get(path)
        made = any(set(change) == {path} and change[path] is node for change in self._waiting)
        return node is not None and node.is_database and made and node.path.stat().st_size > 0


def write(tree: Tree, target: Path) -> None:
    """Put what a power cut left into a folder, in place of what is there."""
    if target.exists():
        shutil.rmtree(target)
    target.mkdir()
    for name, content in tree.items():
        if content is None:
            (target / name).mkdir()
        else:
            (target / name).write_bytes(content)


def _apply(change: Change, names: dict[Path, Node]) -> None:
    for path, node in change.items():
        if node is None:
            names.pop(path, None)
        else:
            names[path] = node


def _some(options: Sequence[Sequence[Any]], random: Random) -> Iterator[tuple[Any, ...]]:
    """Yield choices: the first or the last option of each alone, as they are lost one after the other, and others."""
    first, last = tuple(each[0] for each in options), tuple(each[-1] for each in options)
    for place in range(len(options) + 1):
        after = place + 1
        yield from (first[:place] + last[place:], last[:place] + first[place:])
        yield from (first[:place] + last[place:after] + first[after:], last[:place] + first[place:after] + last[after:])
    for _ in range(_SAMPLES):
        yield tuple(random.choice(each) for each in options)
