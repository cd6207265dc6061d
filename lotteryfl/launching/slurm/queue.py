"""What Slurm's own tools are asked, and how their answers are read."""

import asyncio
import hashlib
import os
import pwd
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.text import printable
from lotteryfl.running.environment import inherited

TOOLS = ("sbatch", "squeue", "scancel")

_SECONDS = 60.0
_GONE_SECONDS = 90.0
"""How long jobs that were cancelled may take to end: Slurm kills them after its KillWait."""
_LOOK_SECONDS = 0.5
_FIELDS = ("JobArrayID", "State", "Reason", "exit_code")
_RUNNING = {"RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING"}
_WAITING = {
    *("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "RESIZING"),
    *("SPECIAL_EXIT", "STOPPED", "SUSPENDED"),
}
_UNKNOWN = "Invalid job id"


class Job(NamedTuple):
    """One job, or one of an array."""

    id: str
    """As 12, or 12_3; of an array that waits as a whole 12_[1-8]."""
    state: str
    """In Slurm's word for it, as PENDING."""
    reason: str
    """Why it is in that state, in Slurm's word; '': it does not say."""
    code: int
    """Its exit code, once it has ended; below 0, the signal that ended it."""

    @property
    def waits(self) -> bool:
        """Whether it has not begun, or is to begin again."""
        return self.state in _WAITING

    @property
    def is_running(self) -> bool:
        """Whether it has begun and not ended."""
        return self.state in _RUNNING

    @property
    def described(self) -> str:
        """What is said of it in a line."""
        reason = f" ({self.reason})" if self.reason else ""
        code = "" if self.waits or self.is_running else f", exit code {self.code}"
        return printable(f"job {self.id} is {self.state}{reason}{code}")


def job_name(run_dir: Path) -> str:
    """Return the name of a launch's jobs, which no other of the user's have."""
    own = hashlib.sha256(f"{socket.gethostname()}:{run_dir}".encode()).hexdigest()[:8]
    return f"lotteryfl-{re.sub('[^A-Za-z0-9._-]', '-', run_dir.name)[:64]}-{own}"


async def submit(script: Path) -> str:
    """Submit a script; return the job's number.

    Raises:
        LotteryFLError: sbatch says why not.
    """
    said = await _asked("sbatch", "--parsable", str(script))
    number = said.strip().partition(";")[0]  # after it comes the cluster's name, where there are several
    if not number.isdecimal():
        raise LotteryFLError(f"sbatch: {printable(said.strip()[:200])!r}: expected a job's number")
    return number


async def jobs_of(number: str) -> list[Job]:
    """Return a job, or those of an array, also some minutes after their end; none: Slurm knows nothing of them.

    Raises:
        LotteryFLError: it cannot be asked now.
    """
    form = ",".join(f"{field}:|" for field in _FIELDS)
    try:
        said = await _asked("squeue", "--noheader", "--array", "--states=all", f"--jobs={number}", f"--Format={form}")
    except LotteryFLError as error:
        if _UNKNOWN not in str(error):
            raise
        said = ""
    jobs = [_job(line.split("|")) for line in said.splitlines() if line.count("|") >= len(_FIELDS)]
    return jobs or await _ended_jobs_of(number)


async def _ended_jobs_of(number: str) -> list[Job]:
    """Return what accounting knows of jobs that squeue has forgotten; nothing where there is no accounting."""
    form = "--format=JobID,State,Reason,ExitCode"
    try:
        said = await _asked("sacct", "--noheader", "--allocations", "--parsable2", f"--jobs={number}", form)
    except LotteryFLError:
        return []
    return [_job(line.split("|")) for line in said.splitlines() if line.count("|") >= len(_FIELDS) - 1]


async def cancel(name: str, number: str | None) -> None:
    """Cancel all jobs of a name, which are the user's own, and wait until they have ended.

    Args:
        name: nobody else's jobs have it.
        number: of them; None: perhaps they were never submitted.

    Raises:
        LotteryFLError: they cannot be cancelled, or do not end.
    """
    by_hand = f"take them away with: scancel --name={name}"
    try:
        await _asked("scancel", f"--name={name}", f"--user={_me()}")
    except LotteryFLError as error:
        raise LotteryFLError(f"{error}; {by_hand}") from error
    clock = asyncio.get_running_loop().time
    deadline = clock() + _GONE_SECONDS
    while await _asked("squeue", "--noheader", f"--name={name}", f"--user={_me()}", "--format=%i"):
        if clock() > deadline:
            raise LotteryFLError(f"job {number or name}: has not ended {_GONE_SECONDS:g} s after scancel; {by_hand}")
        await asyncio.sleep(_LOOK_SECONDS)


def _me() -> str:
    """Return this user's name, whatever the environment says."""
    return pwd.getpwuid(os.getuid()).pw_name


def _job(fields: Sequence[str]) -> Job:
    number, state, reason, code = (field.strip() for field in fields[: len(_FIELDS)])
    word = state.partition(" ")[0]  # CANCELLED by 1000
    return Job(number, word, "" if reason in ("None", "(null)") else reason, _exit_code(code))


def _exit_code(said: str) -> int:
    """Return the exit code that squeue writes as wait() has it, and sacct as CODE:SIGNAL."""
    code, colon, number = said.partition(":")
    try:
        if not colon:
            return os.waitstatus_to_exitcode(int(code))
        return -int(number) if int(number) else int(code)
    except ValueError:
        return 1


async def _asked(*command: str) -> str:
    """Return what a tool says.

    Raises:
        LotteryFLError: it is not there, does not answer, or says that it will not.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=inherited(),  # a job has all of it, and is somebody else to the coordinator
            start_new_session=True,  # a Ctrl-C is ours to handle
        )
    except OSError as error:
        raise LotteryFLError(f"{command[0]}: cannot be called: {error.strerror or error}") from error
    try:
        said, complaint = await asyncio.wait_for(process.communicate(), _SECONDS)
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise LotteryFLError(f"{command[0]}: has not answered within {_SECONDS:g} s") from error
    if process.returncode:
        lines = complaint.decode(errors="replace").split("\n")
        why = "; ".join(line.strip() for line in lines if line.strip())
        raise LotteryFLError(f"{command[0]}: {printable(why[:500]) or f'exit code {process.returncode}'}")
    return said.decode(errors="replace")
