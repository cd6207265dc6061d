"""`lotteryfl status`: workers and clients, from a directory and from afar; again and again; as JSON."""

import json
import re
from pathlib import Path

from lotteryfl.protos import lotteryfl_pb2 as pb
from tests.support.coordinatorthread import CoordinatorThread
from tests.support.handworker import HandWorker
from tests.support.looking import status as status_of
from tests.support.processes import free_port
from tests.support.runs import Coordinate, Start, Write
from tests.support.waiting import DEADLINE


def clients_of(server: CoordinatorThread, **request: int) -> pb.Clients:
    page: pb.Clients = server.stub.GetClients(pb.GetClientsRequest(**request), timeout=DEADLINE)
    return page


def test_workers_and_clients_are_told_from_afar_and_clients_alike_from_the_directory(
    server: CoordinatorThread, start: Start
) -> None:
    worker = HandWorker(server, "gpu-7")
    done = worker.work()
    worker.submit(done.messages())
    client = int(re.sub(r"r1-c(\d+)-a1", r"\1", done.result.assignment_id))
    held = worker.poll()[0].assignment.client
    afar = start("status", server.address, "--clients")
    here = start("status", server.run.path, "--clients")
    assert (afar.exit_code(), here.exit_code()) == (0, 0), afar.stderr + here.stderr
    machine = r"^  gpu-7 \(cpu\) was heard of \d+ s ago$\n    holds every client$"
    assert re.search(machine, afar.stdout, re.MULTILINE), afar.stdout
    assert re.search(rf"^    client {held}.*; for \d+ s, its lease ends in \d+ s$", afar.stdout, re.MULTILINE)
    assert "gpu-7 (cpu)" not in here.stdout
    table = afar.stdout.partition("clients by their last results (accuracy ")[2]
    assert table
    assert here.stdout.endswith(table)
    row = next(line.split() for line in table.splitlines()[2:] if line.split()[0] == str(client))
    scores = done.result.metrics
    assert row[1:5] == [
        "1",
        f"{scores.downloaded.accuracy:.3f}",
        f"{scores.personalised.accuracy:.3f}",
        f"{scores.density:.3f}",
    ]
    assert row[5] == done.result.mask_digest[:8]
    assert row[-1] == "gpu-7"


def test_as_json_it_is_the_status_with_more_keys_where_more_is_known(server: CoordinatorThread, start: Start) -> None:
    HandWorker(server, "gpu-7")
    afar = start("status", server.address, "--json", "--clients")
    here = start("status", server.run.path, "--json")
    assert (afar.exit_code(), here.exit_code()) == (0, 0), afar.stderr + here.stderr
    found, plain = json.loads(afar.stdout), json.loads(here.stdout)
    assert found.keys() - plain.keys() == {"fleet", "clients_now"}
    assert found["state"] == plain["state"] == "RUNNING"
    assert [each["machine"]["worker"] for each in found["fleet"]["workers"]] == ["gpu-7"]
    assert [each["client"] for each in found["clients_now"]["clients"]] == [0, 1, 2, 3]


def test_it_is_said_again_until_the_run_has_ended(server: CoordinatorThread, start: Start) -> None:
    watch = start("status", server.run.path, "--watch=0.1")
    lines = start("status", server.run.path, "--watch", "0.1", "--json")
    watch.said("^rounds: 0 of 3 committed$")
    lines.said('"state": "RUNNING"')
    for _ in HandWorker(server).finish():
        pass
    assert server.ended() == ""
    assert (watch.exit_code(), lines.exit_code()) == (0, 0), watch.stderr + lines.stderr
    pictures = watch.stdout.split("\n\n")
    assert len(pictures) > 1
    assert pictures[0].startswith("lotteryfl, 4 clients: running")
    assert pictures[-1].startswith("lotteryfl, 4 clients: finished")
    states = [json.loads(line)["state"] for line in lines.stdout.splitlines()]
    assert set(states[:-1]) == {"RUNNING"}
    assert states[-1] == "FINISHED"


def test_a_coordinator_that_is_not_there_is_one_line(start: Start) -> None:
    status = start("status", f"127.0.0.1:{free_port()}", "--watch", "--clients")
    assert status.exit_code() == 1
    assert "cannot be reached" in status.error_line


def test_clients_rounds_and_events_come_by_the_page(coordinate: Coordinate, write: Write) -> None:
    server = coordinate(write(rounds=14))
    worker = HandWorker(server)
    replies = worker.finish()
    while status_of(server).round < 12:
        next(replies)
    whole = clients_of(server)
    assert (len(whole.clients), whole.next, whole.withheld) == (4, 0, False)
    first = clients_of(server, most=3)
    assert (list(first.clients), first.next) == (list(whole.clients[:3]), 3)
    assert list(clients_of(server, first=3, most=1000).clients) == list(whole.clients[3:])
    assert not clients_of(server, first=4).clients
    assert {client.worker for client in whole.clients} == {"hand"}
    rounds: list[pb.RoundSummary] = []
    after = 0
    while page := server.stub.GetRounds(pb.GetRoundsRequest(after=after), timeout=DEADLINE).rounds:
        assert len(page) <= 10
        rounds += page
        after = page[-1].round
    assert [each.round for each in rounds] == list(range(1, status_of(server).last.round + 1))
    assert rounds[-1] == status_of(server).last
    events = server.stub.GetEvents(pb.GetEventsRequest(), timeout=DEADLINE).events
    assert [event.kind for event in events] == ["started", "joined"]
    later = pb.GetEventsRequest(after=events[0].id)
    assert list(server.stub.GetEvents(later, timeout=DEADLINE).events) == list(events[1:])
    assert list(server.stub.GetEvents(pb.GetEventsRequest(most=1), timeout=DEADLINE).events) == list(events[-1:])
    assert not server.stub.GetEvents(pb.GetEventsRequest(after=2**64 - 1), timeout=DEADLINE).events
    assert status_of(server).seconds_left >= 0


def test_where_privacy_is_promised_single_clients_are_the_directorys(
    tmp_path: Path, coordinate: Coordinate, write: Write, start: Start
) -> None:
    private = {"clip_norm": 1.0, "noise": "server", "noise_multiplier": 1.0, "delta": 1e-3}
    server = coordinate(
        write(strategy={"name": "fedavg"}, aggregation={"weighting": "equal"}, privacy=private, clients_per_round=4)
    )
    worker = HandWorker(server, "gpu-7")
    worker.submit(worker.work().messages())
    page = clients_of(server)
    assert page.withheld
    (done,) = (client for client in page.clients if client.round)
    assert done.worker == "gpu-7"
    for field in ("downloaded", "personalised", "density"):
        assert not done.HasField(field)
    afar, here = start("status", server.address, "--clients"), start("status", server.run.path, "--clients")
    assert (afar.exit_code(), here.exit_code()) == (0, 0)
    assert "scores, densities and masks are withheld: the run promises privacy" in afar.stdout
    assert "withheld" not in here.stdout
    row = rf"^ +{done.client} +1 +{{}} +{{}} +{{}} +{{}} .* gpu-7$"
    assert re.search(row.format("-", "-", "-", "-"), afar.stdout, re.MULTILINE), afar.stdout
    number = r"\d\.\d{3}"
    assert re.search(row.format(number, number, number, "dense"), here.stdout, re.MULTILINE), here.stdout
