"""Which devices `--device` and `--devices` may name, and where workers are placed."""

import asyncio
import os
import re
import socket
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from lotteryfl.commands.work import work
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.running.device import Place, Seen, choose_device, places, spread
from lotteryfl.running.deviceworkers import name_of_all
from lotteryfl.running.localworkers import LocalWorkers

NONE, CARDS = Seen("", 0), Seen("cuda", 4, "0,1,2,3")
SLICES = Seen("cuda", 1, "MIG-a,MIG-b")
OURS = f"{socket.gethostname()}-{os.getpid()}"


def test_the_cpu_is_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("text", ["meta", "cpu,", "", "cuda:99", "tpu"])
def test_a_device_that_nothing_can_be_computed_on_is_named(text: str) -> None:
    with pytest.raises(LotteryFLError, match=rf"^--device {text}: cannot be used here: .+$"):
        choose_device(text)


@pytest.mark.parametrize(
    ("text", "there", "expected"),
    [
        ("all", NONE, ["cpu"]),
        ("all", CARDS, ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]),
        ("cuda", CARDS, ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]),
        ("cuda:0,2", CARDS, ["cuda:0", "cuda:2"]),
        ("cuda:1-2,1", CARDS, ["cuda:1", "cuda:2"]),
        ("cpu", CARDS, ["cpu"]),
        ("all", Seen("mps", 1), ["mps:0"]),
        ("xpu:1", Seen("xpu", 2), ["xpu:1"]),
    ],
)
def test_devices_are_those_that_torch_sees(text: str, there: Seen, expected: list[str]) -> None:
    found = places(text, there)
    assert [place.device for place in found] == expected
    assert [place.name for place in found] == [device.replace(":", "") for device in expected]
    assert not any(place.environment for place in found)


def test_every_slice_of_a_card_is_given_to_a_process_of_its_own() -> None:
    """A process sees one alone, as the first: so torch counts one, whatever is named."""
    variable = "CUDA_VISIBLE_DEVICES"
    first, second = Place("cuda:0", "cuda0", {variable: "MIG-a"}), Place("cuda:0", "cuda1", {variable: "MIG-b"})
    assert places("all", SLICES) == [first, second]
    assert places("cuda:1", SLICES) == [second]
    assert spread("auto", SLICES) == [first, second]


@pytest.mark.parametrize(
    ("text", "there", "message"),
    [
        ("cuda:4", CARDS, "number 4 is not there: torch sees 4 of cuda, from cuda:0 on here"),
        ("cuda:2", SLICES, "number 2 is not there: torch sees 2 of cuda, from cuda:0 on here"),
        ("cuda:0", NONE, "torch sees no accelerator here"),
        ("xpu", CARDS, "torch sees 4 of cuda, from cuda:0 on here"),
        ("", NONE, "torch sees no accelerator here"),
        ("cuda:", CARDS, "expected numbers, as cuda:0,2 or cuda:0-3: got ''"),
        ("cuda:x", CARDS, "expected numbers, as cuda:0,2 or cuda:0-3: got 'x'"),
    ],
)
def test_devices_that_are_not_there_are_named(text: str, there: Seen, message: str) -> None:
    with pytest.raises(LotteryFLError, match=rf"^--devices {text}: {re.escape(message)}$"):
        places(text, there)


def test_one_device_for_all_is_one_for_all() -> None:
    assert spread("cuda:1", CARDS) == [Place("cuda:1", "cuda1")]
    assert spread("auto", NONE) == [Place("cpu", "cpu")]


def test_the_workers_of_a_run_are_spread_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here each says only what it was started with."""
    says = "print(sys.orig_argv[-1], os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True)"
    (tmp_path / "sitecustomize.py").write_text(f"import os, sys\n{says}\nos._exit(2)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    local = LocalWorkers(tmp_path / "logs", lambda: 1, lambda _: None)

    async def until_all_have_ended() -> None:
        async with local.started(3, [], places("all", SLICES)):
            await local.all_ended()

    asyncio.run(until_all_have_ended())
    said = [(tmp_path / f"logs/worker-{number}.log").read_text() for number in (1, 2, 3)]
    assert said == ["--device=cuda:0 MIG-a\n", "--device=cuda:0 MIG-b\n", "--device=cuda:0 MIG-a\n"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--devices=cpu", "--device=cpu"), "--device: expected it without --devices"),
        (("--devices=cpu", "--per-device=0"), "'0': expected auto or a number from 1 on"),
        (("--devices=cpu", "--per-device=many"), "'many': expected auto or a number from 1 on"),
        (("--per-device=2",), "--per-device: expected it with --devices"),
    ],
)
def test_options_that_do_not_fit_are_named(options: tuple[str, ...], message: str) -> None:
    done = CliRunner().invoke(work, ["--coordinator=127.0.0.1:1", *options])
    assert done.exit_code == 2
    assert message in done.output


@pytest.mark.parametrize(
    ("name", "token", "expected"),
    [
        ("", "", OURS),
        ("", "gpus.secret", f"gpus/{OURS}"),
        ("gpus/", "gpus.secret", f"gpus/{OURS}"),
        ("gpus/a", "gpus.secret", "gpus/a"),
        ("a", "", "a"),
    ],
    ids=["of the host", "of a token", "to be completed", "of a token, named", "named"],  # the host's is each process's
)
def test_the_workers_of_two_hosts_with_one_token_go_by_different_names(name: str, token: str, expected: str) -> None:
    assert name_of_all(name, ChannelSecurity(token=token)) == expected
