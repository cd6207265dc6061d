"""What goes out with assignments is what the files say; what all get alike is made once."""

import asyncio
from collections.abc import Callable

import pytest

from lotteryfl.common.wire.framing import Payload
from lotteryfl.server.rounds.outgoing import assignment_payload
from lotteryfl.server.rpc.downloads import Downloads
from tests.support.bench import Bench, tiny_experiment

Drive = Callable[..., Bench]


def content(payload: Payload) -> bytes:
    return b"".join(payload)


def test_all_get_the_dense_model_that_was_made_once(drive: Drive) -> None:
    bench = drive(tiny_experiment(strategy={"name": "fedavg"}))
    works = [bench.take(bench.register(name)) for name in ("a", "b", "c")]

    async def together() -> list[Payload]:
        downloads = Downloads(bench.run)
        first = await asyncio.gather(*(downloads.payload(work) for work in works[:2]))
        return [*first, await downloads.payload(works[2])]

    payloads = asyncio.run(together())
    assert payloads[0] is payloads[1] is payloads[2]
    expected = assignment_payload(bench.run, works[0])
    for _ in range(2):
        assert content(payloads[0]) == content(expected)
        assert (payloads[0].size, payloads[0].trailer) == (expected.size, expected.trailer)


def test_who_has_a_mask_gets_its_own(drive: Drive) -> None:
    bench = drive(tiny_experiment(clients_per_round=4))
    bench.do_all(bench.register())
    bench.commit()
    works = [bench.take(bench.register(name)) for name in ("a", "b")]
    assert works[0].row.mask

    async def each() -> list[Payload]:
        downloads = Downloads(bench.run)
        return [await downloads.payload(work) for work in works]

    for work, payload in zip(works, asyncio.run(each()), strict=True):
        assert content(payload) == content(assignment_payload(bench.run, work))


def test_what_could_not_be_read_is_read_for_the_next(drive: Drive) -> None:
    bench = drive(tiny_experiment(strategy={"name": "fedavg"}))
    work = bench.take(bench.register())
    file = bench.run.path / work.source
    away = file.with_suffix(".away")

    async def lost_and_found() -> Payload:
        downloads = Downloads(bench.run)
        file.rename(away)
        with pytest.raises(FileNotFoundError):
            await downloads.payload(work)
        away.rename(file)
        return await downloads.payload(work)

    assert content(asyncio.run(lost_and_found())) == content(assignment_payload(bench.run, work))
