"""Fuzzes one target in this process with Atheris: `onetarget TARGET [libFuzzer's options] [FOLDER | FILE ...]`."""

import shlex
import sys
from random import Random

import atheris

with atheris.instrument_imports(include=["lotteryfl"]):
    from tests.fuzz.targets import TARGETS

import torch

from tests.fuzz.guard import cap_memory, hold_timed

_CAP_EVERY = 256
"""Inputs after which the cap on memory is moved along with what the fuzzer itself has come to hold."""


def main(name: str, options: list[str]) -> None:
    target = TARGETS[name]
    seeds = list(target.seeds())
    inputs = 0

    def read(data: bytes) -> None:
        nonlocal inputs
        if inputs % _CAP_EVERY == 0:
            cap_memory()
        inputs += 1
        hold_timed(target.read, data)

    def mutate(data: bytes, most: int, number: int) -> bytes:
        random = Random(number)  # noqa: S311 - whoever fuzzes may know what comes
        if random.random() < 0.3:
            return bytes(atheris.Mutate(data, most))
        if random.random() < 0.02:
            data = random.choice(seeds)
        for _ in range(random.choice((1, 1, 2, 4))):
            data = target.mutate(data, random)
        return data[:most]

    torch.set_num_threads(1)
    for seed in seeds:  # what is made once is made before the memory is capped
        target.read(seed)
    # By what comes first libFuzzer starts its helpers, through a shell.
    atheris.Setup(
        [shlex.join((sys.executable, "-m", "tests.fuzz.onetarget", name)), *options], read, custom_mutator=mutate
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
