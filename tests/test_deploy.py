"""The files that deploy LotteryFL name commands, ports and folders that exist, and fit together."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
import yaml

from common.cli import program

ROOT = Path(__file__).parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
KUBERNETES = list(yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text()))
DOCKERFILE = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and line[0].isupper()]


def parse(arguments: list[str]) -> dict[str, object]:
    """Return what the command line makes of `lotteryfl ARGUMENTS`; raises on what it does not know."""
    name, *rest = arguments
    command = program.get_command(click.Context(program), name)
    assert command is not None, f"no command {name}"
    return command.make_context(name, rest).params


def port(address: object) -> str:
    return str(address).rpartition(":")[2]


# -- the image


def test_image_installs_dependencies_before_it_sees_code():
    last_stage = DOCKERFILE[[i for i, line in enumerate(DOCKERFILE) if line.startswith("FROM")][-1] :]
    dependencies = next(i for i, line in enumerate(last_stage) if line.startswith("RUN python -c"))
    code = next(i for i, line in enumerate(last_stage) if line.startswith("COPY --from=wheel"))
    before = " ".join(line for line in last_stage[:dependencies] if line.startswith("COPY"))
    assert before == "COPY constraints.txt ./ COPY pyproject.toml ./"
    assert dependencies < code


def test_image_runs_the_installed_program_as_an_ordinary_user():
    user = DOCKERFILE.index("USER 1000")
    assert not any(line.startswith(("RUN", "COPY")) for line in DOCKERFILE[user:])
    entrypoint = next(line for line in DOCKERFILE if line.startswith("ENTRYPOINT")).removeprefix("ENTRYPOINT ")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert json.loads(entrypoint)[0] in scripts
    assert "STOPSIGNAL SIGINT" in DOCKERFILE


def test_image_builds_without_buildkit():
    assert "--mount" not in (ROOT / "Dockerfile").read_text()


def test_build_context_is_what_the_package_is_made_of():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in pyproject["tool"]["setuptools"]["packages"]["find"]["include"]}
    files = {pyproject["project"]["readme"], *pyproject["project"]["license-files"]}
    assert allowed == packages | files | {"pyproject.toml", "constraints.txt", "examples"}


# -- Compose


def test_compose_commands_fit_together():
    coordinator, worker = COMPOSE["coordinator"], COMPOSE["worker"]
    serve, work = parse(coordinator["command"]), parse(worker["command"])
    assert (ROOT / str(serve["source"])).is_file()
    assert work["coordinator"] == f"coordinator:{port(serve['listen'])}"
    assert worker["depends_on"] == {"coordinator": {"condition": "service_healthy"}}
    assert worker["scale"] == 3


def test_compose_keeps_the_run_directory_on_a_volume_of_the_user():
    (volume,) = COMPOSE["coordinator"]["volumes"]
    folder = volume.partition(":")[2]
    assert Path(str(parse(COMPOSE["coordinator"]["command"])["run_dir"])).parent == Path(folder)
    assert f"--owner=lotteryfl --group=lotteryfl {folder}\n" in (ROOT / "Dockerfile").read_text()


def test_compose_health_check_asks_the_coordinator():
    kind, script, *arguments = COMPOSE["coordinator"]["healthcheck"]["test"]
    assert (kind, script) == ("CMD", "lotteryfl")
    listen = parse(COMPOSE["coordinator"]["command"])["listen"]
    assert parse(arguments)["where"] == f"localhost:{port(listen)}"


def test_health_check_does_not_import_torch():
    code = "import sys; from server.inspectcli import status; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_gpu_override_changes_the_worker_alone():
    override = yaml.safe_load((ROOT / "deploy/docker-compose.gpu.yml").read_text())["services"]
    work = parse(override["worker"]["command"])
    assert list(override) == ["worker"]
    assert work["coordinator"] == parse(COMPOSE["worker"]["command"])["coordinator"]
    assert work["device"] == "cuda:0"


# -- Kubernetes


def test_kubernetes_objects_fit_together():
    objects = {(item["kind"], item["metadata"]["name"]): item for item in KUBERNETES}
    coordinator = objects["Job", "lotteryfl-coordinator"]["spec"]["template"]
    worker = objects["Job", "lotteryfl-worker"]["spec"]["template"]
    service = objects["Service", "lotteryfl-coordinator"]["spec"]
    (serving,), (working,) = coordinator["spec"]["containers"], worker["spec"]["containers"]
    serve, work = parse(serving["args"]), parse(working["args"])

    (listen,) = {int(port(serve["listen"])), serving["readinessProbe"]["grpc"]["port"], service["ports"][0]["port"]}
    assert work["coordinator"] == f"lotteryfl-coordinator:{listen}"
    assert service["selector"].items() <= coordinator["metadata"]["labels"].items()
    (mount,), (volume,) = serving["volumeMounts"], coordinator["spec"]["volumes"]
    assert Path(str(serve["run_dir"])).parent == Path(mount["mountPath"])
    assert mount["name"] == volume["name"]
    assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in objects
    policy = objects["NetworkPolicy", "lotteryfl-coordinator"]["spec"]
    (source,) = policy["ingress"][0]["from"]
    assert policy["podSelector"]["matchLabels"] == coordinator["metadata"]["labels"]
    assert source["podSelector"]["matchLabels"] == worker["metadata"]["labels"]


# -- scripts

STAND_INS = {
    "lotteryfl": 'trap "" TERM; echo "$*" >> "$CALLS"; [ "$1" != serve ] || exit "$SERVE_CODE"',
    "srun": 'until grep -q ^serve "$CALLS"; do :; done; shift; "$@"',
    "ssh": 'for last; do :; done; sh -c "$last"',
    "sleep": ":",
}


@pytest.fixture
def call_script(tmp_path):
    """Run a script with stand-ins for the programs it calls; return its exit code and its calls of lotteryfl."""
    for name, body in STAND_INS.items():
        program_file = tmp_path / name
        program_file.write_text(f"#!/bin/sh\n{body}\n")
        program_file.chmod(0o755)

    def call(script: str, *arguments: str, serve_code: int = 0) -> tuple[int, list[list[str]]]:
        calls = tmp_path / "calls"
        calls.touch()
        settings = {"CALLS": str(calls), "SERVE_CODE": str(serve_code), "SLURM_JOB_ID": "123456"}
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | settings | {"PATH": path}
        done = subprocess.run(["/bin/bash", ROOT / "deploy" / script, *arguments], env=environment, timeout=60)
        return done.returncode, [line.split() for line in calls.read_text().splitlines()]

    return call


@pytest.mark.parametrize(("script", "hosts"), [("slurm.sh", []), ("ssh.sh", ["alpha", "beta"])])
def test_script_starts_coordinator_and_workers(call_script, script, hosts):
    code, calls = call_script(script, "e.toml", "run", *hosts)
    assert code == 0
    (serve,) = (parse(call) for call in calls if call[0] == "serve")
    work = [parse(call) for call in calls if call[0] == "work"]
    assert (str(serve["source"]), str(serve["run_dir"])) == ("e.toml", "run")
    assert {port(worker["coordinator"]) for worker in work} == {port(serve["listen"])}
    assert sorted(worker["name"] for worker in work if worker["name"]) == hosts
    assert len(work) == max(1, len(hosts))


@pytest.mark.parametrize(("script", "hosts"), [("slurm.sh", []), ("ssh.sh", ["alpha"])])
def test_script_ends_as_the_coordinator_did(call_script, script, hosts):
    assert call_script(script, "e.toml", "run", *hosts, serve_code=3)[0] == 3


@pytest.mark.parametrize(("script", "given"), [("slurm.sh", ["e.toml"]), ("ssh.sh", ["e.toml", "run"])])
def test_script_says_what_is_missing(call_script, script, given):
    code, calls = call_script(script, *given)
    assert code != 0
    assert calls == []
