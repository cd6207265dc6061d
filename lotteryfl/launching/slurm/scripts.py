"""The scripts that are submitted: everything a job does, to be read, kept and submitted by hand too."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lotteryfl.exitcodes import INTERRUPTED
from lotteryfl.launching.launcher import Request
from lotteryfl.launching.slurm.parts import begun, directives, program, shebang

if TYPE_CHECKING:
    from lotteryfl.comparing.cells import Cell

WORKER = "worker"
"""The name in the certificate of all workers."""

_JOB_PORTS = 20000, 10000
"""The first, and how many: below those that connections get by themselves."""

_HEAD = """\
# The coordinator and its workers as one job of Slurm; requeued or submitted again, the run goes on where it stood.
# By hand: mkdir -p {logs} && chmod 700 {launch} && sbatch THIS_FILE"""

_ARRAY_HEAD = "# Workers of a coordinator that runs elsewhere: each job of the array joins it when it begins."

_CELLS_HEAD = "# Runs of a comparison: each job of the array is one of them, and goes on where that stood."

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

_JOIN_AGAIN = 'scontrol requeue "$SLURM_JOB_ID" && sleep 300 # by which Slurm has ended this script'

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

_CELL = """\
interrupted= over=
trap 'interrupted=1' TERM # Slurm has told all of the job
trap 'interrupted=1 over=1; kill "$run"' USR1 # the time is nearly over
{run} "$@" {options} >>{log} 2>&1 &
run=$!
while :; do
  interrupted=
  wait "$run"
  code=$?
  [ -n "$interrupted" ] || break
done
if [ -n "$over" ] && [ "$code" -eq {interrupted} ]; then
  {over}
fi
exit "$code\""""

_GRACE_SECONDS = 10


def job_script(request: Request, name: str) -> str:
    """Return the script of a job that has the coordinator on its first node, and workers on all of them."""
    settings = request.settings.slurm
    launch = request.folder.path
    first, count = _JOB_PORTS
    names = ["--worker", WORKER, "--observer", "observer"]
    certs = program(request, ["certs", "--out", str(launch / "certs"), *names])
    files = _tls("coordinator")
    serve = program(request, ["serve", *request.serve_arguments, "--allow-missing"])
    over = _REQUEUES if settings.requeue else _STOPS
    parts = [
        shebang(request),
        _HEAD.format(logs=shlex.quote(str(request.folder.logs)), launch=shlex.quote(str(launch))),
        *directives(request, name, "job-%j.log"),
        "",
        *begun(request),
        "host=$(hostname)",
        f"port={settings.port or f'$(({first} + SLURM_JOB_ID % {count}))'}",
        _CERTIFICATES.format(certs=certs),
        "",
        _SIGNALS,
        _BOTH.format(
            serve=f'{serve} --listen "0.0.0.0:$port" {files}',
            work=_work(request, '"$host:$port"', "$SLURM_NODEID"),
            grace=_GRACE_SECONDS,
        ),
        _ENDS.format(over=over, interrupted=INTERRUPTED),
    ]
    return "\n".join(parts) + "\n"


def array_script(request: Request, name: str, address: str) -> str:
    """Return the script of the jobs of workers that join a coordinator at HOST:PORT."""
    settings = request.settings.slurm
    parts = [
        shebang(request),
        _ARRAY_HEAD,
        *directives(request, name, "workers-%A_%a.log"),
        _array(settings.array, settings.at_once),
        "",
        *begun(request),
        "",
        _WORKS.format(
            work=_work(request, shlex.quote(address), "$SLURM_ARRAY_TASK_ID-$SLURM_NODEID"),
            over=_JOIN_AGAIN if settings.requeue else ":",
        ),
    ]
    return "\n".join(parts) + "\n"


def cells_script(request: Request, name: str, cells: "Sequence[Cell]", verb: Sequence[str], at_once: int) -> str:
    """Return the script of an array that has a run of a comparison in each job.

    Args:
        request: with the comparison's folder in the place of a run directory.
        name: of the jobs.
        cells: in the array's order.
        verb: the command of each run and its options, as ("run", "--workers=2").
        at_once: so many at most at the same time; 0: as many as the cluster lets.
    """
    command, *options = verb
    cases = []
    for number, cell in enumerate(cells, start=1):
        words = [
            cell.source.absolute(),
            f"--run-dir={cell.path.absolute()}",
            *(f"--set={each}" for each in cell.overrides),
        ]
        cases.append(f"{number}) name={shlex.quote(cell.path.name)}; set -- {shlex.join(map(str, words))} ;;")
    parts = [
        shebang(request),
        _CELLS_HEAD,
        *directives(request, name, "job-%A_%a.log"),
        _array(len(cells), at_once),
        "",
        *begun(request),
        'case "$SLURM_ARRAY_TASK_ID" in',
        *cases,
        "esac",
        _CELL.format(
            run=program(request, [command]),
            options=shlex.join(options),
            log='"$launch/logs/$name.log"',
            over=_JOIN_AGAIN if request.settings.slurm.requeue else ":",
            interrupted=INTERRUPTED,
        ),
    ]
    return "\n".join(parts) + "\n"


def _array(jobs: int, at_once: int) -> str:
    return f"#SBATCH --array=1-{jobs}{f'%{at_once}' if at_once else ''}"


def _work(request: Request, address: str, suffix: str) -> str:
    """Return what works on every node of the job.

    Args:
        request: the launch.
        address: of the coordinator, a word of the shell.
        suffix: of each node's workers' names, as a shell there expands it. A job that begins again has the names that
            it had: what its workers could not hand back of what they had under work goes to others at once.
    """
    settings = request.settings.slurm
    work = program(request, ["work", *request.work_arguments()])
    steps = [
        *("srun", f"--ntasks={settings.nodes}", "--ntasks-per-node=1", "--no-kill", "--kill-on-bad-exit=0", "--wait=0"),
        *([f"--cpus-per-task={settings.cpus_per_task}"] if settings.cpus_per_task else ()),
    ]
    named = f"""sh -c 'exec "$@" --name "{WORKER}/{suffix}"' {WORKER}"""
    return f"{' '.join(steps)} {named} {work} --coordinator {address} {_tls(WORKER)}"


def _tls(name: str) -> str:
    folder = f'"$launch/certs/{name}'
    return f'--tls-cert {folder}/tls.crt" --tls-key {folder}/tls.key" --tls-ca {folder}/ca.crt"'
