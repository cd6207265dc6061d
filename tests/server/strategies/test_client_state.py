"""What a strategy is told of a client: of its last result, by look-ups that grow neither with clients nor the past."""

import re
from pathlib import Path
from typing import Any

import pytest

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.wire.clientresult import ClientResult, Evaluated
from lotteryfl.protos import lotteryfl_pb2 as pb
from lotteryfl.server.rounds.coordinator import Coordinator
from lotteryfl.server.store.rundb import history
from lotteryfl.server.strategies import STRATEGIES
from lotteryfl.server.strategies.base import ClientState
from lotteryfl.server.strategies.fedavg import FedAvg
from lotteryfl.server.strategies.lotteryfl import LotteryFL
from tests.support.bench import Bench, TinyTask, create, tiny_experiment
from tests.support.playing import play
from tests.support.scored import MAE, scored

pytestmark = pytest.mark.usefixtures("own_strategies")


class Noting(LotteryFL):
    """Keeps what it was told, by round and client."""

    name = "noting"

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        self.told = {**getattr(self, "told", {}), (round_, client.client): (client.last, client.rounds)}
        if client.last is None:
            assert (client.metrics, client.examples) == (None, None)
        else:
            assert (client.metrics, client.examples) == (client.last.metrics, client.last.examples)
        return super().plan(round_, client)


class ByWorker(FedAvg):
    name = "by-worker"

    def plan(self, round_: int, client: ClientState) -> pb.Plan:
        self.workers = {**getattr(self, "workers", {}), (round_, client.client): client.worker}
        return super().plan(round_, client)


class Attending(ByWorker):
    name = "attending-by-worker"
    attends = True


@pytest.fixture
def own(own_strategies: None) -> None:
    del own_strategies
    STRATEGIES.update({cls.name: cls for cls in (Noting, ByWorker, Attending)})


def settings(name: str, **changes: Any) -> dict[str, Any]:
    return {"strategy": {"name": name}, "clients": 3, "clients_per_round": 3, "rounds": 3, **changes}


def evaluated(found: pb.Evaluation) -> Evaluated:
    return Evaluated(found.examples, found.accuracy, found.loss, found.accuracy)


@pytest.mark.usefixtures("own")
def test_it_is_told_of_the_last_result_as_it_came(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "run", tiny_experiment(**settings("noting")), TinyTask())
    strategy = bench.coordinator.strategy
    assert isinstance(strategy, Noting)
    assert strategy.told == {(1, client): (None, ()) for client in range(3)}
    sent: dict[tuple[int, int], pb.Result] = {}
    for number in (1, 2):
        worker = bench.register()
        while work := bench.coordinator.lease(worker):
            answer = bench.do(work)
            sent[number, work.row.client] = answer.result
            bench.submit(worker, answer)
        bench.commit()
    for number, client in ((2, 0), (2, 2), (3, 1)):
        last, rounds = strategy.told[number, client]
        result = sent[number - 1, client]
        assert rounds == tuple(range(1, number))
        assert (last.round, last.client, last.examples) == (number - 1, client, 8 + client)
        assert last.density == result.metrics.density < 1
        assert last.metrics.downloaded == evaluated(result.metrics.downloaded)
        assert last.metrics.personalised == evaluated(result.metrics.personalised)
        assert last.metrics.validation == evaluated(result.metrics.validation)
        assert last.metrics.train_loss == result.metrics.train_loss > 0
    bench.close()


def test_of_an_objective_of_ones_own_it_is_told_the_score_and_no_accuracy(tmp_path: Path) -> None:
    bench = scored(tmp_path / "run", MAE, rounds=1)
    database = bench.run.database
    found = history.last_result(database, 0, hides_loss=False)
    assert found is not None
    query = "SELECT value FROM measures WHERE (round, client, phase, name) = (?, 0, 'downloaded', 'mae')"
    ((mae,),) = database.select(query, found.round).fetchall()
    assert (found.metrics.downloaded.score, found.metrics.downloaded.accuracy) == (mae, None)
    assert mae > 0
    bench.close()


def test_what_privacy_keeps_back_nobody_is_told(tmp_path: Path) -> None:
    experiment = tiny_experiment(**settings("fedavg"), privacy={"dp_sgd": True})
    bench = play(Bench(tmp_path / "run", experiment, TinyTask()))
    hides_loss = experiment.privacy.hides_loss
    for result in history.results_of_round(bench.run.database, 1, hides_loss=hides_loss):
        assert result.metrics.train_loss is None
        assert result.metrics.personalised.loss > 0
    bench.close()


@pytest.mark.usefixtures("own")
def test_only_who_says_so_goes_by_workers(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "attends", tiny_experiment(**settings("attending-by-worker")), TinyTask())
    first, second = bench.register("first", clients={0, 1}), bench.register("second", clients={2})
    assert bench.coordinator.advance().name == "OFFER"
    for worker in (first, second):
        bench.do_all(worker)
    bench.commit()
    strategy = bench.coordinator.strategy
    assert isinstance(strategy, ByWorker)
    assert [strategy.workers[2, client] for client in range(3)] == ["first", "first", "second"]
    assert [strategy.workers[1, client] for client in range(3)] == ["", "", ""]
    bench.close()
    with (
        create(tmp_path / "does not", tiny_experiment(**settings("by-worker")), TinyTask()) as run,
        pytest.raises(ExperimentError, match=r"'by-worker': goes by the worker of client 0, .* says attends = True"),
    ):
        Coordinator(run)


def test_each_look_up_goes_by_an_index(tmp_path: Path) -> None:
    """No table is scanned, and nothing sorted: the rows that are read are those of the answer."""
    bench = play(Bench(tmp_path / "run", tiny_experiment(**settings("lotteryfl")), TinyTask()), rounds=2)
    database = bench.run.database
    asked: list[str] = []
    database.select("SELECT 1").connection.set_trace_callback(asked.append)
    last = history.last_result(database, 1, hides_loss=False)
    assert (history.rounds_of(database, 1), history.last_worker(database, 1)) == ([1, 2], "w")
    assert len(history.results_of_round(database, 2, hides_loss=False)) == 3
    database.select("SELECT 1").connection.set_trace_callback(None)
    assert isinstance(last, ClientResult)
    queries = [query for query in asked if query != "SELECT 1"]
    assert len(queries) == 4
    for query in queries:
        for *_, step in database.select(f"EXPLAIN QUERY PLAN {query}"):
            assert not re.search("SCAN|TEMP B-TREE", step), (query, step)
    bench.close()
