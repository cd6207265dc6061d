"""The scripts that are submitted: everything a job does, to be read, kept and submitted by hand too.

What a user wrote as a value is one word in them; the lines of `setup` are code and meant to be.
"""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from lotteryfl.launching.launcher import Request
from lotteryfl.launching.shell import called, prepared

WORKER = "worker"
"""The name in the certificate of all workers."""

_JOB_PORTS = 20000, 10000
"""The first, and how many: below those that connections get by themselves."""

_HEAD = """\
# The coordinator and its workers as one job of Slurm; requeued or submitted again, the run goes on where it stood.
# By hand: mkdir -p {logs} && chmod 700 {launch} && sbatch THIS_FILE"""

_ARRAY_HEAD = "# Workers of a coordinator that runs elsewhere: each job of the array joins it when it begins."

_CERTIFICATES = """\
rm -f "$launch/certs/coordinator/tls.crt" # of another node, where the job may have been
rm -f "$launch/address" "$launch/alone" "$launch/ended"
{certs} --coordinator "$host" || exit
echo "$host:$port" >"$launch/address\""""

_SIGNALS = """\
interrupted= over=
trap 'interrupted=1' TERM # Slurm has told all of the job
trap 'interrupted=1 over=1; scancel --signal=TERM "$SLURM_JOB_ID"' USR1 # the time is nearly over: to the workers"""

_BOTH = """\
{serve} &
coordinator=$!
{{
  {work} || echo "not every worker ended well: see $launch/logs" >&2
  sleep {grace} # if the run has ended, so has the coordinator, or is about to
  kill "$coordinator" 2>/dev/null && : >"$launch/alone"
}} &
while :; do
  interrupted=
  wait "$coordinator"
  code=$?
  [ -n "$interrupted" ] || break
done"""

_ENDS = """\
if [ -n "$over" ] && [ "$code" -eq {interrupted} ]; then
  {over}
elif [ -e "$launch/alone" ] && [ "$code" -eq {interrupted} ]; then
  echo "lotteryfl: no worker is left: their logs are in $launch/logs; submitted again, the run goes on" >&2
  code=1
fi
[ "$code" -eq {interrupted} ] || rm -rf "$launch/certs" # stopped from outside it may go on
echo "$code" >"$launch/ended"
exit "$code\""""

_REQUEUES = """\
echo "the time limit is near: the job waits again for its turn, and the run goes on where it stands" >&2
  scontrol requeue "$SLURM_JOB_ID" && sleep 300 # by which Slurm has ended this script"""

_STOPS = 'echo "lotteryfl: the time limit is near: submitted again, the run goes on where it stands" >&2'

_WORKS = """\
over=
trap 'over=1; scancel --signal=TERM "$SLURM_JOB_ID"' USR1 # the time is nearly over: workers hand back what they have
{work} &
workers=$!
wait "$workers"
code=$?
if [ -n "$over" ]; then
  wait "$workers"
  {over}
fi
exit "$code\""""

_GRACE_SECONDS = 10
_INTERRUPTED = 130


def job_script(request: Request, name: str) -> str:
    """Return the script of a job that has the coordinator on its first node, and workers on all of them."""
    settings = request.settings.slurm
    launch = request.folder.path
    first, count = _JOB_PORTS
    names = ["--worker", WORKER, "--observer", "observer"]
    certs = _program(request, ["certs", "--out", str(launch / "certs"), *names])
    files = _tls("coordinator")
    serve = _program(request, ["serve", *request.serve_arguments, "--allow-missing"])
    over = _REQUEUES if settings.requeue else _STOPS
    parts = [
        _shebang(request),
        _HEAD.format(logs=shlex.quote(str(request.folder.logs)), launch=shlex.quote(str(launch))),
        *_directives(request, name, "job-%j.log"),
        "",
        *_begin(request),
        "host=$(hostname)",
        f"port={settings.port or f'$(({first} + SLURM_JOB_ID % {count}))'}",
        _CERTIFICATES.format(certs=certs),
        "",
        _SIGNALS,
        _BOTH.format(
            serve=f'{serve} --listen "0.0.0.0:$port" {files}',
            work=_work(request, '"$host:$port"'),
            grace=_GRACE_SECONDS,
        ),
        _ENDS.format(over=over, interrupted=_INTERRUPTED),
    ]
    return "\n".join(parts) + "\n"


def array_script(request: Request, name: str, address: str) -> str:
    """Return the script of the jobs of workers that join a coordinator at HOST:PORT."""
    settings = request.settings.slurm
    over = 'scontrol requeue "$SLURM_JOB_ID" && sleep 300 # by which Slurm has ended this script'
    at_once = f"%{settings.at_once}" if settings.at_once else ""
    parts = [
        _shebang(request),
        _ARRAY_HEAD,
        *_directives(request, name, "workers-%A_%a.log"),
        f"#SBATCH --array=1-{settings.array}{at_once}",
        "",
        *_begin(request),
        "",
        _WORKS.format(work=_work(request, shlex.quote(address)), over=over if settings.requeue else ":"),
    ]
    return "\n".join(parts) + "\n"


def _shebang(request: Request) -> str:
    """Return the first line; only a login shell is sure to know `module`."""
    return "#!/bin/bash -l" if request.settings.slurm.modules else "#!/bin/bash"


def _directives(request: Request, name: str, log: str) -> Iterator[str]:
    """Return the lines that sbatch reads."""
    settings = request.settings.slurm
    # A % in its own place is Slurm's; any other is doubled.
    logs = str(request.folder.logs).replace("%", "%%")
    options = {
        "job-name": name,
        "output": f"{logs}/{log}",
        "open-mode": "append",
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "time": settings.time,
        "nodes": settings.nodes,
        "ntasks-per-node": 1,
        "gpus-per-node": settings.gpus_per_node if settings.has_cards else "",
        "cpus-per-task": settings.cpus_per_task or "",
        "mem": settings.mem,
        "constraint": settings.constraint,
        "signal": f"B:USR1@{settings.stop_seconds}",
    }
    for key, value in options.items():
        if value != "":
            yield f"#SBATCH {shlex.quote(f'--{key}={value}')}"
    yield "#SBATCH --no-kill"
    yield f"#SBATCH --{'requeue' if settings.requeue else 'no-requeue'}"
    for line in settings.lines:
        yield f"#SBATCH {line}"


def _begin(request: Request) -> Iterator[str]:
    """Return what comes before the program is called."""
    modules = request.settings.slurm.modules
    yield f"launch={shlex.quote(str(request.folder.path))}"
    if modules:
        yield f"module load {shlex.join(modules)}"
    yield from prepared(request.settings)
    yield "set -u"  # what comes before may be others' code


def _work(request: Request, address: str) -> str:
    """Return what works on every node of the job; `address` is a word of the shell."""
    settings = request.settings.slurm
    work = _program(request, ["work", f"--name={WORKER}/", *request.work_arguments()])
    steps = [
        *("srun", f"--ntasks={settings.nodes}", "--ntasks-per-node=1", "--no-kill", "--kill-on-bad-exit=0", "--wait=0"),
        *([f"--cpus-per-task={settings.cpus_per_task}"] if settings.cpus_per_task else ()),
    ]
    return f"{' '.join(steps)} {work} --coordinator {address} {_tls(WORKER)}"


def _tls(name: str) -> str:
    folder = f'"$launch/certs/{name}'
    return f'--tls-cert {folder}/tls.crt" --tls-key {folder}/tls.key" --tls-ca {folder}/ca.crt"'


def _program(request: Request, arguments: Sequence[str]) -> str:
    """Return the call of the program, in its container if there is one."""
    call = called(request.settings, arguments)
    settings = request.settings.slurm
    if not settings.container:
        return call
    binds = [*_needed(request), *settings.binds]
    words = [
        *(settings.container_program, "exec"),
        *(["--nv"] if settings.has_cards else ()),
        *(word for bind in binds for word in ("--bind", bind)),
        settings.container,
    ]
    return f"{shlex.join(words)} {call}"


def _needed(request: Request) -> list[str]:
    """Return the folders that the program needs: of the run, of its source and the user's files, of the data."""
    files = [request.source, *map(Path, (*request.own.tasks, *request.own.strategies, *request.own.local))]
    folders = [request.run_dir.parent, *(file.absolute().parent for file in files if file.exists())]
    data = [request.settings.data_dir] if request.settings.data_dir else []
    return list(dict.fromkeys([*map(str, folders), *data]))
