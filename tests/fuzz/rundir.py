"""Targets: what reads a run directory that came from elsewhere, and what reads an upload into one's own."""

import io
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from inspect import unwrap
from pathlib import Path
from random import Random

import click

from lotteryfl.commands.inspect import export, status
from lotteryfl.commands.verify import verify_run
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.common.wire.framing import deserializer
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.resultcheck import check_result
from lotteryfl.server.store.assignments import AssignmentId
from lotteryfl.server.store.rundir import RunDirectory
from lotteryfl.server.store.runfiles import result_file
from tests.fuzz.damage import TABLES, Kind, damage, do_damage, new_damage
from tests.fuzz.folder import folder
from tests.fuzz.mutate import join, mutate_bytes, mutate_file, mutate_messages, split
from tests.fuzz.runs import LiveRun, finished, interrupted

MOST_DAMAGES = 16

_SHOWN = io.StringIO()
"""One for all: click remembers every stream that it has ever written to."""


# -- a run directory: which, whose ticket, and the damages, each after its length


def run_directory(data: bytes) -> None:
    """`verify`, `status` and `export` answer or say in a line why not; what is sound can be shown and exported."""
    options = data[0] if data else 0
    live = _live(options)
    try:
        for message in split(data[1:])[:MOST_DAMAGES]:
            do_damage(live, message.ljust(6, b"\0"))
        _look(live.path, client=options >> 1 & 3)
    finally:
        live.restore()


def _live(options: int) -> LiveRun:
    return interrupted()[0] if options & 1 else finished()


def _callback(command: click.Command) -> Callable[..., object]:
    assert command.callback is not None
    return command.callback


def _look(path: Path, client: int) -> None:
    out = folder() / "ticket.safetensors"
    refused: list[str] = []
    _SHOWN.seek(0)
    _SHOWN.truncate()
    with redirect_stdout(_SHOWN) as shown:
        for command in (
            lambda: verify_run(path),
            lambda: unwrap(_callback(status))(str(path), True, None, False, ChannelSecurity()),
            lambda: _callback(export)(path, client, False, None, out, False, False, False, ()),
        ):
            try:
                command()
            except LotteryFLError as error:
                refused.append(str(error))
    # What torch raises where memory is refused is a problem of the file to `verify`.
    assert "allocate memory" not in f"{shown.getvalue()} {refused}"
    assert not ("\nsound\n" in shown.getvalue() and refused), f"sound, but {refused}"


def run_directory_seeds() -> Iterable[bytes]:
    yield from (b"\0", b"\1")
    for number in range(len(finished().names)):
        yield b"\0" + join([damage(Kind.PATCH, number, (0, 0, 40), b"\1")])
    for number in range(len(interrupted()[0].names)):
        yield b"\1" + join([damage(Kind.CUT, number, (0, 1, 0))])
    for number in range(len(TABLES)):
        yield b"\2" + join([damage(Kind.LOOSEN, 0), damage(Kind.SET, number, (1, 0, 0), b"\3\1")])
        yield b"\1" + join([damage(Kind.DELETE, number, (0, 1, 0)), damage(Kind.ADD, number, (0, 0, 0), b"\1\2")])


def mutate_run_directory(data: bytes, random: Random) -> bytes:
    options, damages = data[:1] or b"\0", split(data[1:])
    if random.random() < 0.2:
        options = bytes((random.randrange(8),))
    if not damages or random.random() < 0.5:
        return options + join([*damages, new_damage(_live(options[0]), random)])
    return options + join(mutate_messages(damages, random, mutate_bytes))


# -- an upload: the message that announces it, and its file


def result(data: bytes) -> None:
    """What counts has the density of its mask, and its mask is there under its digest."""
    live, _, _ = interrupted()
    header, content = (*split(data), b"", b"")[:2]
    message = deserializer(pb.ResultPart)(header)
    if not isinstance(message, pb.ResultPart):
        return
    file = result_file(AssignmentId(2, 1, 1))
    (live.path / file).write_bytes(content)
    with RunDirectory(live.path, read_only=True) as run:
        assigned = run.database.assignments(2)[1]
        try:
            received = check_result(run, message.result, file, assigned)
            assert 0 <= received.density <= 1
            run.load_masks(received.mask_digest)
        finally:
            for mask in (live.path / "masks").iterdir():
                if str(mask.relative_to(live.path)) not in live.files:
                    mask.unlink()


def result_seeds() -> Iterable[bytes]:
    _, message, content = interrupted()
    yield join([pb.ResultPart(result=message).SerializeToString(), content])


def mutate_result(data: bytes, random: Random) -> bytes:
    header, content = (*split(data), b"", b"")[:2]
    if random.random() < 0.3:
        return join([mutate_bytes(header, random), content])
    return join([header, mutate_file(content, random)])
