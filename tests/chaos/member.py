"""One process of a cluster: started, looked at, signalled, and started again with the same command."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.support.paths import ROOT


class Tail:
    """The lines that a file gets, each once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0

    def lines(self) -> Iterator[str]:
        """Yield the whole lines that have come since the last time."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if line.endswith(b"\n"):
                    self._read += len(line)
                    yield line.decode(errors="replace").rstrip()


class Member:
    """A `lotteryfl …` whose log is one file over all its starts."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[object],
        folder: Path,
        faults: Sequence[str] = (),
        *,
        module: str = "lotteryfl",
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        fault_log = folder / f"{name}.faults"
        self.said = Tail(self.log)
        self.faults = Tail(fault_log)
        self._command = [sys.executable, "-m", module, *map(str, arguments)]
        self._folder = folder
        self._env: Mapping[str, str] = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "LOTTERYFL_FAULTS": ",".join(faults),
            "LOTTERYFL_FAULTS_LOG": str(fault_log),
        }
        self.is_ready = False
        """Whether it has said since its start that it takes part."""
        self.is_late = False
        """Whether it is a coordinator that was started after the run's end."""
        self.start()

    def start(self) -> None:
        """Start it (again)."""
        self.is_ready = False
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    @property
    def is_stopped(self) -> bool:
        """Whether it stands still after a SIGSTOP, its own too."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] == "T"

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float) -> int:
        return self._process.wait(seconds)

    def kill(self) -> None:
        """Leave nothing behind."""
        self._process.kill()
        self._process.wait()
