"""A real Slurm on this machine: munged, slurmctld and the slurmd of two nodes, all of them in one folder."""

import getpass
import os
import re
import shutil
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.processes import free_port
from tests.support.waiting import DEADLINE, until

NODES = ("n1", "n2")
TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
_PATH = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
"""Daemons are not on everybody's."""
MISSING = ", ".join(tool for tool in TOOLS if shutil.which(tool, path=_PATH) is None)
"""What a test cannot do without and this machine has not; empty: nothing."""

_KEY_BYTES = 1024
_ENDS_SECONDS = 30.0
_CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=10
MinJobAge=300
"""


class Cluster:
    """Two nodes of 4 CPUs each, in the partition `batch`, and in `urgent`, whose jobs preempt those of the other.

    However few cores the machine has: what a node offers is what its configuration says.
    """

    def __init__(self, folder: Path) -> None:
        """Prepare; nothing is started yet.

        Args:
            folder: of all keys, sockets, spools and logs; its path is short, for a socket's has 107 characters.
        """
        self.folder = folder
        self.env = {"SLURM_CONF": str(folder / "slurm.conf")}
        """What the tools find this cluster by, and no other."""

    def __enter__(self) -> Self:
        self._write()
        with ExitStack() as stack:
            folder, configuration = self.folder, self.env["SLURM_CONF"]
            self._start(
                stack,
                "munged",
                *("--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={folder}/munge.key"),
                *(f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log"),
                f"--seed-file={folder}/munged.seed",
            )
            until((folder / "munge.socket").exists)
            self._start(stack, "slurmctld", "-D", "-f", configuration)
            for node in NODES:
                self._start(stack, "slurmd", "-D", "-N", node, "-f", configuration)
            until(lambda: {self.state(node) for node in NODES} == {"IDLE"})
            self._running = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.clear()
        finally:
            self._running.close()

    def clear(self) -> None:
        """Wait until no job is left and both nodes are idle."""
        self.ask("scancel", f"--user={getpass.getuser()}")
        for node in NODES:
            if self.state(node) not in ("IDLE", "ALLOCATED", "MIXED", "COMPLETING"):
                self.ask("scontrol", "update", f"NodeName={node}", "State=RESUME")
        until(lambda: not self.ask("squeue", "--noheader"))
        until(lambda: {self.state(node) for node in NODES} == {"IDLE"})

    def job(self, name: str) -> str:
        """Wait until a job of this name is there; return its number."""
        found = ""

        def is_there() -> bool:
            nonlocal found
            found = self.ask("squeue", "--noheader", "--states=all", f"--name={name}", "--format=%A").partition("\n")[0]
            return bool(found)

        until(is_there)
        return found

    def field(self, job: str, field: str) -> str:
        """Return what Slurm has of a job, in scontrol's word for it."""
        found = re.search(rf"\b{field}=(\S*)", self.ask("scontrol", "show", "job", job))
        return found[1] if found else ""

    def begin_again(self, job: str) -> None:
        """Have a requeued job begin now, not in the two minutes' time that Slurm gives nodes to recover."""
        until(lambda: self.field(job, "JobState") == "PENDING")
        self.ask("scontrol", "update", f"JobId={job}", "StartTime=now")

    def ask(self, *command: str) -> str:
        """Return what one of Slurm's tools says; nothing while nobody answers."""
        done = subprocess.run(
            command, env=os.environ | self.env, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        return done.stdout.strip()

    def state(self, node: str) -> str:
        """Return a node's state as sinfo has it."""
        return self.ask("sinfo", "--noheader", f"--nodes={node}", "--partition=batch", "--format=%T").upper()

    def _write(self) -> None:
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir(mode=0o755)
        self.folder.chmod(0o755)  # who asks has to come to the socket
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(_KEY_BYTES))
        host = socket.gethostname()
        text = _CONFIGURATION.format(host=host, port=free_port(), user=getpass.getuser(), folder=self.folder)
        for node in NODES:
            text += f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs=4 State=UNKNOWN\n"
        for name, tier in (("batch", 1), ("urgent", 2)):
            default = "YES" if name == "batch" else "NO"
            text += f"PartitionName={name} Nodes=ALL Default={default} PriorityTier={tier} MaxTime=INFINITE State=UP\n"
        Path(self.env["SLURM_CONF"]).write_text(text)

    def _start(self, stack: ExitStack, name: str, *arguments: str) -> None:
        command = (shutil.which(name, path=_PATH) or name, *arguments)
        log = stack.enter_context((self.folder / f"{name}.out").open("ab"))
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | self.env, start_new_session=True
        )

        def end() -> None:
            process.terminate()
            try:
                process.wait(_ENDS_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

        stack.callback(end)
