"""Every strategy gives the same bits with workers of its own as in one process."""

from pathlib import Path
from typing import Any

import pytest

from lotteryfl.server.results.verify import verify
from lotteryfl.server.strategies import STRATEGIES
from tests.support.runs import Expect, Start, Write, assert_same_bits

QUICK = ("lotteryfl",)

DIGITS: dict[str, Any] = {
    "seed": 5,
    "rounds": 3,
    "clients": 4,
    "clients_per_round": 3,
    "task": {"name": "digits", "model": "mlp"},
    "partition": {"kind": "n-class", "classes_per_client": 2, "examples_per_class": 5},
    "training": {"epochs": 2, "batch_size": 8, "lr": 0.1},
    "strategy": {
        "prune_rate": 0.4,
        "target_density": 0.5,
        "accuracy_threshold": 0.0,
        "readjust_every": 1,
        "personal_rate": 0.2,
        "min_mask_change": 0.001,
        "jump_start_epochs": 2,
    },
}
WIRE_DTYPES = {"balanced-ticket": "bfloat16", "ssfl": "float16"}  # measures in float32 all the same
PERSONAL = {"lg-fedavg": ["*.bias"], "fedselect": ["*.bias"], "fedbn": ["*.bias"], "one-ticket": ["fc3.*"]}


@pytest.mark.parametrize(
    "strategy", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in STRATEGIES]
)
def test_workers_and_one_process_give_the_same_bits(
    strategy: str, tmp_path: Path, start: Start, write: Write, expect: Expect
) -> None:
    personal, wire_dtype = PERSONAL.get(strategy, []), WIRE_DTYPES.get(strategy, "float32")
    path = write(DIGITS, strategy={"name": strategy, "personal": personal}, wire_dtype=wire_dtype)
    run = start("run", path, "--workers", 2, "--run-dir", "run")
    assert run.exit_code() == 0, run.stderr
    expected = expect(path)
    assert_same_bits(tmp_path / "run", expected)
    method = STRATEGIES[strategy]
    assert (expected["density"]["mean"] < 1) == (method.prunes and not method.sends_changes)
    assert verify(tmp_path / "run").problems == 0
