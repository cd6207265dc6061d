"""Fuzzes targets, one after the other: `make fuzz`; --keep makes what was found the corpus that the tests replay."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from tests.fuzz.targets import CORPUS, TARGETS

WORK = Path("build/fuzz")
"""What is found grows in a folder of it for each target."""

LONGEST = 1 << 14
"""Bytes of an input."""

MEMORY = Path("/dev/shm")  # noqa: S108 - for folders of our own in it
"""Where the files of targets are, if the system has it: on a disk they would take most of the time."""

HANG_SECONDS = 30
"""Longest that an input takes by the clock; by processor time see `guard`."""


def fuzz(name: str, seconds: float) -> None:
    """Fuzz a target for so long from all that is known, and print what came of it."""
    report = _run(name, f"-max_total_time={max(1, round(seconds))}", *_folders(name))
    ((inputs, edges, features, corpus, memory),) = re.findall(
        r"^#(\d+)\s+DONE\s+cov: (\d+) ft: (\d+) corp: (\d+)/.* rss: (\d+)Mb", report, re.MULTILINE
    )
    click.echo(f"{name:16}{inputs:>10} inputs, {edges} edges, {features} features, corpus of {corpus}, {memory} MiB")


def keep(name: str) -> None:
    """Replace a target's kept corpus by the fewest of all known inputs that cover as much."""
    with tempfile.TemporaryDirectory(dir=CORPUS) as fewest:
        _run(name, "-merge=1", fewest, *_folders(name))
        for file in (CORPUS / name).iterdir():
            file.unlink()
        for file in Path(fewest).iterdir():
            file.rename(CORPUS / name / file.name)


def _folders(name: str) -> list[str]:
    """Return where a target's inputs are; new ones go into the first."""
    found, kept = WORK / name / "corpus", CORPUS / name
    for folder in (found, kept):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds()):
        (found / f"seed-{number}").write_bytes(seed)
    return [str(found), str(kept)]


def _run(name: str, *options: str) -> str:
    """Run libFuzzer on a target; return what it has to say.

    Raises:
        SystemExit: it has found something.
    """
    one = [sys.executable, "-m", "tests.fuzz.onetarget", name]
    limits = [f"-max_len={LONGEST}", f"-timeout={HANG_SECONDS}", f"-artifact_prefix={WORK / name}/"]
    # libFuzzer ends its process without a word to Python: what it leaves goes with this folder.
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        environment = os.environ | {"TMPDIR": folder}
        done = subprocess.run(
            [*one, *limits, *options], env=environment, capture_output=True, text=True, errors="replace"
        )
    if done.returncode:
        said = (done.stdout + done.stderr)[-5000:]
        sys.exit(
            f"{said}\n{name}: found something; the input is in {WORK / name}, to be tried with: {' '.join(one)} FILE"
        )
    return done.stderr


@click.command()
@click.argument("targets", nargs=-1, type=click.Choice(list(TARGETS)))
@click.option("--seconds", default=60.0, help="For all targets together.")
@click.option("--keep", "keeping", is_flag=True, help="Shrink what was found into the kept corpus.")
def main(targets: tuple[str, ...], seconds: float, keeping: bool) -> None:
    """Fuzz the targets, or all."""
    chosen = targets or tuple(TARGETS)
    for name in chosen:
        if keeping:
            keep(name)
        else:
            fuzz(name, seconds / len(chosen))


if __name__ == "__main__":
    main()
