"""Who may hold which clients, and what a coordinator's address asks for."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.experiment import from_json
from lotteryfl.common.experiment.settings import AccessSettings
from lotteryfl.common.security.identity import Identity, Role
from lotteryfl.common.security.tls import SecurityError, TLSFiles
from lotteryfl.server.rpc.endpoint import Endpoint
from lotteryfl.server.security.access import AccessError, clients_held
from lotteryfl.server.security.certificates import Authority
from lotteryfl.server.security.tokens import add_token
from tests.support.bench import Bench, tiny_experiment

Drive = Callable[..., Bench]
ALICE, BOB = (Identity(name, Role.WORKER) for name in ("alice", "bob"))
ACCESS = AccessSettings(workers={"alice": "0-2,5"})


def test_nobody_named_means_everyone_for_all() -> None:
    for caller in (ALICE, None):
        for asked in (None, set(), {3, 4}):
            assert clients_held(AccessSettings(), caller, asked) == asked


def test_who_is_named_holds_what_the_experiment_says() -> None:
    assert clients_held(ACCESS, ALICE, None) == {0, 1, 2, 5}
    assert clients_held(ACCESS, ALICE, {1, 5}) == {1, 5}
    with pytest.raises(AccessError, match=r"^alice may hold clients 0-2,5, not 3-4,9$"):
        clients_held(ACCESS, ALICE, {1, 3, 4, 9})
    for asked in (None, set(), {0}):
        with pytest.raises(AccessError, match=r"^bob is not among the experiment's access\.workers$"):
            clients_held(ACCESS, BOB, asked)


def test_where_nobody_is_asked_names_prove_nothing() -> None:
    """As in `lotteryfl run`, whose workers are its own."""
    assert clients_held(ACCESS, None, None) is None


@pytest.mark.parametrize(
    ("workers", "error"),
    [
        ({"a": "0-x"}, "access.workers.a: '0-x': expected numbers and ranges, as in 0-9 or 0,3,7-9"),
        ({"a": "2-9"}, "access.workers.a = '2-9': the experiment's clients are 0 to 3"),
        ({"a:b": "0"}, "access.workers.a:b: name 'a:b': expected 1 to 256 printable"),
        ({"a": 3}, "access.workers.a = 3: input should be a valid string"),
    ],
)
def test_an_experiment_names_clients_that_there_are(workers: dict[str, object], error: str) -> None:
    with pytest.raises(ExperimentError) as raised:
        tiny_experiment(access={"workers": workers})
    assert error in str(raised.value)


def test_who_may_work_does_not_travel(drive: Drive) -> None:
    experiment = tiny_experiment(access={"workers": {"alice": "0-3"}})
    run = drive(experiment).run
    sent = run.experiment_for_workers()
    assert run.experiment.access == experiment.access
    assert "access" not in json.loads(sent)
    assert from_json(sent).access == AccessSettings()


# -- endpoints


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[TLSFiles, Path]:
    folder = tmp_path_factory.mktemp("files")
    Authority(folder).issue_to_coordinator(["h"], days=1)
    add_token(folder / "tokens", "a", Role.WORKER)
    own = folder / "coordinator"
    return TLSFiles(own / "tls.crt", own / "tls.key", own / "ca.crt"), folder / "tokens"


def test_this_machines_own_addresses_ask_for_nothing() -> None:
    assert Endpoint("localhost:0").check() == ""
    assert Endpoint("127.0.0.1:0").credentials() is None


def test_others_ask_for_tls_and_for_who_calls(files: tuple[TLSFiles, Path]) -> None:
    mutual, tokens = files
    alone = TLSFiles(mutual.cert, mutual.key)
    for endpoint in (Endpoint("0.0.0.0:0", mutual), Endpoint("0.0.0.0:0", alone, tokens)):
        assert endpoint.check() == ""
        assert endpoint.credentials() is not None
        assert len(endpoint.identify()) == 1
    for tls, missing in ((TLSFiles(), "calls are not encrypted"), (alone, "nobody is asked who they are")):
        with pytest.raises(SecurityError, match=f"0.0.0.0:0: other machines can reach it, and {missing}.*--insecure"):
            Endpoint("0.0.0.0:0", tls).check()
        assert missing in Endpoint("0.0.0.0:0", tls, insecure=True).check()


def test_settings_that_do_not_fit_together(files: tuple[TLSFiles, Path]) -> None:
    mutual, tokens = files
    with pytest.raises(SecurityError, match="--tls-ca: is of use only together with"):
        Endpoint("localhost:0", TLSFiles(ca=mutual.ca)).check()
    with pytest.raises(SecurityError, match="--tokens: tokens are sent over TLS alone"):
        Endpoint("localhost:0", tokens=tokens, insecure=True).check()
    with pytest.raises(SecurityError, match="none: cannot be read"):
        Endpoint("localhost:0", mutual, Path("none")).check()
    with pytest.raises(SecurityError, match=r"access\.workers says who may work, and nobody would be asked"):
        Endpoint("localhost:0").check_access(ACCESS)
    Endpoint("localhost:0", mutual).check_access(ACCESS)


def test_the_options_mean_the_same_endpoint() -> None:
    endpoint = Endpoint("h:1", TLSFiles(Path("c"), Path("k"), Path("a")), Path("t"), True, True, "h:2")
    assert endpoint.options() == [
        *("--listen=h:1", "--tls-cert=c", "--tls-key=k", "--tls-ca=a", "--tokens=t", "--health-listen=h:2"),
        *("--insecure", "--reflection"),
    ]
    assert Endpoint("h:1").options() == ["--listen=h:1"]
