"""Bytes by assignment and in all, across flushes and restarts."""

from collections.abc import Callable

from lotteryfl.describe import describe_round
from lotteryfl.server.store.assignments import AssignmentId
from lotteryfl.server.store.traffic import Traffic
from tests.support.bench import Bench

Drive = Callable[..., Bench]


def test_bytes_add_up_by_client_whatever_the_attempt(drive: Drive) -> None:
    database = drive().run.database
    client, other = (row.client for row in database.assignments(1)[:2])
    traffic = Traffic(database)
    traffic.count(AssignmentId(1, client, 1), down=100, up=7)
    traffic.count(AssignmentId(1, client, 2), down=10)
    traffic.count(AssignmentId(1, other, 1), up=1)
    traffic.count(None, down=1000)
    assert (traffic.down, traffic.up) == (1110, 8)
    assert database.total_bytes() == (0, 0)
    for _ in range(2):  # the second has nothing left to write
        traffic.flush()
        assert database.total_bytes() == (110, 8)
    traffic.count(AssignmentId(1, client, 2), down=5)
    traffic.flush()
    assert database.total_bytes() == (115, 8)


def test_a_restart_goes_on_from_what_was_flushed(drive: Drive) -> None:
    bench = drive()
    traffic = Traffic(bench.run.database)
    traffic.count(AssignmentId(1, bench.run.database.assignments(1)[0].client, 1), down=100, up=7)
    traffic.count(None, down=1000)
    traffic.flush()
    again = Traffic(bench.restart().run.database)
    assert (again.down, again.up) == (1100, 7)
    again.count(None, down=1)
    again.flush()
    assert Traffic(bench.run.database).down == 1101


def test_a_committed_round_has_its_traffic_on_disk(drive: Drive) -> None:
    bench = drive()
    worker = bench.register()
    bench.do_all(worker)
    for row in bench.run.database.assignments(1):
        bench.coordinator.count_bytes(f"r1-c{row.client}-a1", down=10, up=1)
    bench.commit()
    assert bench.run.database.total_bytes() == (30, 3)
    assert (bench.coordinator.status().last.bytes_down, bench.coordinator.status().last.bytes_up) == (30, 3)
    bench.take(worker)
    row = next(row for row in bench.run.database.assignments(2) if row.state == "leased")
    bench.coordinator.count_bytes(f"r2-c{row.client}-a1", down=1000, up=100)
    bench.coordinator.count_bytes("", down=10_000)  # θ_0
    status = bench.coordinator.status()
    assert (status.bytes_down, status.bytes_up) == (11_030, 103)
    assert (status.last.round, status.last.bytes_down, status.last.bytes_up) == (1, 30, 3)
    assert ", in this round 30 bytes down, 3 bytes up" in describe_round(status)
    status = bench.restart().coordinator.status()
    assert (status.bytes_down, status.bytes_up) == (30, 3)
