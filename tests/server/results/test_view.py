"""A run directory as tables and tensors, against the database and the files."""

import sys
from pathlib import Path

import pytest
import torch
from pandas.testing import assert_frame_equal

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.packedmasks import unpack
from lotteryfl.server.results.summary import summarise
from lotteryfl.server.results.view import open_run
from lotteryfl.server.rounds.work import Step
from lotteryfl.server.store.summaries import client_summaries
from tests.support.bench import Bench, TinyTask, simulated, tiny_experiment


@pytest.fixture
def path(tmp_path: Path) -> Path:
    simulated(tmp_path / "run", tiny_experiment(clients_per_round=4)).close()
    return tmp_path / "run"


def test_tables_are_those_of_the_database(path: Path) -> None:
    with open_run(path) as run, simulated(path.parent / "same", tiny_experiment(clients_per_round=4)) as same:
        metrics, assignments, summary = run.metrics(), run.assignments(), run.summary()
        tables = run.to_pandas()
        for table, expected in zip(tables, (run.rounds(), run.clients(), assignments), strict=True):
            assert_frame_equal(table, expected)
        assert summary == summarise(same)
        clients = client_summaries(same.database, 3)
    assert len(metrics) == 3 * 4 * 2 + len(metrics[metrics["phase"] == "validation"])
    last = metrics[(metrics["round"] == 3) & (metrics["phase"] == "personalised")]
    assert last["client"].tolist() == [0, 1, 2, 3]
    assert last["accuracy"].tolist() == [client.score_personalised for client in clients]
    assert last["density"].tolist() == [client.density for client in clients]
    assert len(assignments) == 12
    assert assignments["bytes_up"].sum() == summary["bytes"]["up"]
    assert (assignments["done_at"] >= assignments["leased_at"]).all()
    assert str(assignments["done_at"].dt.tz) == "UTC"


def test_clients_are_those_of_the_last_results(tmp_path: Path) -> None:
    with simulated(tmp_path / "run", tiny_experiment(clients=5)) as run, open_run(tmp_path / "run") as view:
        last = client_summaries(run.database, 3)
        clients, assignments = view.clients(), view.assignments()
    assert clients["client"].tolist() == [0, 1, 2, 3, 4]
    assert clients["last_round"].tolist() == [3] * 5, "the last measuring is of every client"
    assert clients["rounds"].tolist() == assignments.groupby("client").size().tolist()
    assert clients["missed"].tolist() == [0] * 5
    assert clients["examples"].tolist() == [8, 9, 10, 11, 12]
    for column in ("score_downloaded", "score_personalised", "density", "bytes_down", "bytes_up"):
        assert clients[column].tolist() == [getattr(client, column) for client in last]


def test_clients_without_a_result_are_there_and_those_who_sat_a_round_out(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "run", tiny_experiment(), TinyTask())
    worker = bench.register()
    work = bench.take(worker)
    bench.submit(worker, bench.do(work))
    bench.coordinator.leave(worker, "gone", told_to_stop=True)
    while bench.coordinator.advance() is not Step.COMMIT:  # until the round's deadline
        bench.now += 5.0
    bench.commit()
    bench.close()
    with open_run(tmp_path / "run") as view:
        clients = view.clients().set_index("client")
    assert clients["rounds"].sum() == 1
    assert clients["last_round"].dropna().to_dict() == {work.assignment.client: 1}
    assert clients["missed"].sum() == 2
    assert clients.loc[clients["missed"] > 0, "score_personalised"].isna().all()


def test_a_view_sees_what_somebody_has_done_since_it_was_opened(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "run", tiny_experiment(), TinyTask())
    bench.close()
    with open_run(tmp_path / "run") as view:
        assert len(view.rounds()) == 0
        bench.restart().finish().close()
        assert view.rounds()["round"].tolist() == [1, 2, 3]
        assert view.status().state == view.status().FINISHED


def test_masks_and_tickets_go_together(path: Path) -> None:
    with open_run(path) as run:
        directory = run._run
        for row in directory.database.clients():
            masks, ticket = run.masks(row.client), run.ticket(row.client)
            assert {name: mask.shape for name, mask in masks.items()} == {"0.weight": (12, 6), "2.weight": (3, 12)}
            stored = directory.load_masks(row.mask)
            for name, mask in masks.items():
                assert torch.equal(mask, unpack(stored[name], mask.shape))
                assert not ticket[name][~mask].any()
            kept = sum(int(mask.sum()) for mask in masks.values())
            assert kept / 108 == pytest.approx(row.density)
        for ask in (run.masks, run.ticket):
            with pytest.raises(LotteryFLError, match="client 4: the run's clients are 0 to 3"):
                ask(4)


def test_a_dense_client_has_no_mask(tmp_path: Path) -> None:
    simulated(tmp_path / "run", tiny_experiment(strategy={"name": "fedavg"})).close()
    with open_run(tmp_path / "run") as run:
        assert run.masks(0) == {}


def test_without_pandas_the_remedy_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with open_run(path) as run, pytest.raises(LotteryFLError, match=r"pip install 'lotteryfl\[notebook\]'"):
        run.metrics()
