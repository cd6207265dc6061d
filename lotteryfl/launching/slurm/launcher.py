"""Launches a run as jobs of Slurm."""

import asyncio
import re
import shlex
import shutil
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from lotteryfl.common.commandline import given
from lotteryfl.common.disk.atomicfile import write_text
from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.security.tls import ChannelSecurity
from lotteryfl.common.telemetry.logs import last_error
from lotteryfl.launching.launcher import Launcher, Looking, Request, Stage, Standing
from lotteryfl.launching.ports import free_port
from lotteryfl.launching.slurm.here import CoordinatorHere
from lotteryfl.launching.slurm.queue import TOOLS, Job, cancel, job_name, jobs_of, submit
from lotteryfl.launching.slurm.scripts import WORKER, array_script, job_script

_ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}:[0-9]{1,5}")
_FORGOTTEN_SECONDS = 60.0
"""How long Slurm may say nothing of a job, or a coordinator be without workers, before that is the launch's end."""
_FILES = ("address", "alone", "ended", "pid", "lock", "job.sh", "coordinator.sh", "workers.sh")
"""What a launch has in its folder beside what all have."""


class SlurmLauncher(Launcher):
    """A job has the coordinator and its workers; or the coordinator is here, and an array of jobs its workers."""

    kind: ClassVar[str] = "slurm"

    def __init__(self, request: Request, note: Callable[[str], None]) -> None:
        """Set what is launched; nobody has asked Slurm yet."""
        super().__init__(request, note)
        self._settings = request.settings.slurm
        self._coordinator = CoordinatorHere(request.folder)
        self._asked = (float("-inf"), list[Job]())
        self._alone: float | None = None

    @property
    def _is_here(self) -> bool:
        """Whether the coordinator runs on this machine."""
        return self._settings.coordinator == "here"

    # -- before

    def check(self) -> None:
        """Check that Slurm's tools are here, and that the container is."""
        if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
            raise LotteryFLError(
                f"{', '.join(missing)}: not found: expected Slurm's tools on the PATH, on a login node"
            )
        if not str(self.request.run_dir).isprintable():  # a line break in a script's head would end its comment
            raise LotteryFLError(f"{str(self.request.run_dir)!r}: expected a path of printable characters")
        image = self._settings.container
        if image and "://" not in image and not Path(image).exists():
            raise LotteryFLError(f"slurm.container = {image!r}: is not there")

    def rendered(self) -> dict[str, str]:
        """Return the script that is submitted, and with the coordinator here the one that runs it."""
        if not self._is_here:
            return {"job.sh": job_script(self.request, self._name)}
        port = self._port or (self._settings.port or "PORT")
        return {"coordinator.sh": self._coordinator_script(port), "workers.sh": self._workers_script(port)}

    # -- its life

    async def up(self) -> None:
        """Submit the job, or start the coordinator here and submit the array of its workers."""
        folder = self.request.folder
        folder.note("name", [self._name])
        if not self._is_here:
            await self.submit("job.sh", job_script(self.request, self._name))
        else:
            port = self._settings.port or free_port("slurm.port")
            folder.note("port", [str(port)])
            await asyncio.to_thread(folder.make_certificates, [self._host], [WORKER])
            begin = self._written("coordinator.sh", self._coordinator_script(port))
            await self._coordinator.start(begin, port)
            await self.submit("workers.sh", self._workers_script(port))

    async def submit(self, name: str, text: str) -> None:
        """Submit a script, which is kept in the launch's folder, and put the job's number on record.

        Raises:
            LotteryFLError: sbatch says why not.
        """
        folder = self.request.folder
        number = await submit(self._written(name, text))
        folder.note("job", [number])
        self.note(f"job {number} is submitted; its logs: {folder.logs}")

    async def standing(self) -> Standing:
        """Ask Slurm, and with the coordinator here see whether that is running."""
        number = self._number
        if number is None:
            raise LotteryFLError(f"{self.request.folder.path}: no job was submitted: take it down with --down")
        if self._is_here and not self._coordinator.is_running():
            code = self._coordinator.code()
            why = self._coordinator.last_line() or f"the coordinator has ended with exit code {code}"
            return Standing(Stage.ENDED, f"{why} (log: {self._coordinator.log})", code)
        jobs = await self._jobs(number)
        if any(job.is_running for job in jobs):
            self._alone = None
            return Standing(Stage.RUNNING)
        if waiting := [job for job in jobs if job.waits]:
            self._alone = None
            return Standing(Stage.WAITING, waiting[0].described)
        return self._when_all_ended(number, jobs)

    def looking(self) -> Looking:
        """Return the run directory, or the coordinator in the job.

        While that writes a run directory, nobody reads it from another machine: SQLite's log cannot be shared so.
        """
        if self._is_here:
            return Looking(str(self.request.run_dir))
        file = self.request.folder.path / "address"
        with suppress(OSError, UnicodeDecodeError), file.open(encoding="ascii") as text:
            if _ADDRESS.fullmatch(address := text.read(512).strip()):
                return Looking(address, ChannelSecurity(self.request.folder.certificate("observer")))
        return Looking(str(file))

    async def down(self) -> None:
        """Cancel the jobs, wait until they have ended, and stop the coordinator if it is here."""
        for name in self.request.folder.started("name"):
            await cancel(name, self._number)
        if self._is_here:
            await self._coordinator.stop()
        for name in _FILES:
            (self.request.folder.path / name).unlink(missing_ok=True)

    # -- how jobs stand

    async def _jobs(self, number: str) -> Sequence[Job]:
        """Return the jobs as Slurm has them, which is asked no more often than it may be."""
        clock = asyncio.get_running_loop().time
        at, jobs = self._asked
        if clock() - at >= self._settings.ask_seconds:
            jobs = await jobs_of(number)
            self._asked = (clock(), jobs)
        return jobs

    def _when_all_ended(self, number: str, jobs: Sequence[Job]) -> Standing:
        """Return where it stands when no job runs and none waits."""
        if jobs and not self._is_here:
            (job, *_) = jobs
            log = self.request.folder.logs / f"job-{number}.log"
            why = f"{job.described}: {last_error(log) or 'it has not said why'} (log: {log})"
            return Standing(Stage.ENDED, why, 0 if job.state == "COMPLETED" else job.code or 1)
        # Slurm may have forgotten it, or the coordinator is about to end as its workers have.
        clock = asyncio.get_running_loop().time()
        self._alone = clock if self._alone is None else self._alone
        if clock - self._alone < _FORGOTTEN_SECONDS:
            return Standing(Stage.RUNNING)
        if self._is_here:
            last = jobs[-1].described if jobs else f"Slurm knows nothing of job {number} any more"
            return Standing(Stage.ENDED, f"no worker is left: {last}; their logs: {self.request.folder.logs}", 1)
        code = self._coordinator.code()
        return Standing(Stage.ENDED, f"Slurm knows nothing of job {number} any more, which ended with {code}", code)

    # -- what it is called, and where

    @property
    def _name(self) -> str:
        return job_name(self.request.run_dir)

    @property
    def _number(self) -> str | None:
        return next(iter(self.request.folder.started("job")), None) if self.request.folder.is_up else None

    @property
    def _port(self) -> int | None:
        found = self.request.folder.started("port") if self.request.folder.is_up else ()
        return int(found[0]) if found else None

    @property
    def _host(self) -> str:
        """Where nodes reach the coordinator that is here."""
        return self._settings.host or socket.gethostname()

    def _coordinator_script(self, port: int | str) -> str:
        tls = self.request.folder.certificate("coordinator").options()
        arguments = ["serve", *self.request.serve_arguments, *given(listen=f"0.0.0.0:{port}"), "--allow-missing", *tls]
        # Jobs that have not begun would look for a coordinator in vain.
        return self._coordinator.script(arguments, f"scancel --state=PENDING --name={shlex.quote(self._name)}")

    def _workers_script(self, port: int | str) -> str:
        return array_script(self.request, self._name, f"{self._host}:{port}")

    def _written(self, name: str, text: str) -> Path:
        """Write what is submitted into the launch's folder."""
        path = self.request.folder.path / name
        write_text(path, text)
        return path
