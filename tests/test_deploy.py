"""The files that deploy LotteryFL name commands, ports and folders that exist, and fit together."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import yaml

from lotteryfl.program import program
from tests.support.paths import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
KUBERNETES = list(yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text()))
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
DOCKERFILE = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and line[0].isupper()]


def parse(arguments: list[str]) -> dict[str, Any]:
    """Return what the command line makes of `lotteryfl ARGUMENTS`; raises on what it does not know."""
    name, *rest = arguments
    command = program.get_command(click.Context(program), name)
    assert command is not None, f"no command {name}"
    return command.make_context(name, rest).params


def port(address: object) -> str:
    return str(address).rpartition(":")[2]


# -- the image


def test_image_installs_dependencies_before_it_sees_code() -> None:
    last_stage = DOCKERFILE[[i for i, line in enumerate(DOCKERFILE) if line.startswith("FROM")][-1] :]
    dependencies = next(i for i, line in enumerate(last_stage) if line.startswith("RUN python -c"))
    code = next(i for i, line in enumerate(last_stage) if line.startswith("COPY --from=wheel"))
    before = " ".join(line for line in last_stage[:dependencies] if line.startswith("COPY"))
    assert before == "COPY constraints.txt ./ COPY pyproject.toml ./"
    assert dependencies < code


def test_image_runs_the_installed_program_as_an_ordinary_user() -> None:
    user = DOCKERFILE.index("USER 1000")
    assert not any(line.startswith(("RUN", "COPY")) for line in DOCKERFILE[user:])
    entrypoint = next(line for line in DOCKERFILE if line.startswith("ENTRYPOINT")).removeprefix("ENTRYPOINT ")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert json.loads(entrypoint)[0] in scripts
    assert "STOPSIGNAL SIGINT" in DOCKERFILE


def test_image_builds_without_buildkit() -> None:
    assert "--mount" not in (ROOT / "Dockerfile").read_text()


def test_build_context_is_what_the_package_is_made_of() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {"lotteryfl", *(link.name for link in (ROOT / "lotteryfl").iterdir() if link.is_symlink())}
    files = {pyproject["project"]["readme"], *pyproject["project"]["license-files"]}
    assert allowed == packages | files | {"pyproject.toml", "constraints.txt", "examples"}


# -- Compose


def files(parameters: dict[str, object]) -> dict[str, Path]:
    """Return the files of TLS that a command names."""
    return {name: Path(str(parameters[f"tls_{name}"])) for name in ("cert", "key", "ca")}


def mounts(service: dict[str, Any]) -> dict[Path, str]:
    """Return by folder the volume that is there."""
    return {Path(folder): volume for volume, folder, *_ in (entry.split(":") for entry in service["volumes"])}


def test_compose_commands_fit_together() -> None:
    coordinator, worker = COMPOSE["coordinator"], COMPOSE["worker"]
    serve, work = parse(coordinator["command"]), parse(worker["command"])
    assert (ROOT / str(serve["source"])).is_file()
    assert work["coordinator"] == f"coordinator:{port(serve['listen'])}"
    assert worker["depends_on"] == {"coordinator": {"condition": "service_healthy"}}
    assert coordinator["depends_on"] == {"certs": {"condition": "service_completed_successfully"}}
    assert worker["scale"] == 3


def test_compose_makes_the_certificates_that_its_services_show(tmp_path: Path) -> None:
    """`certs` is run as it is there; everyone sees their own folder, and nobody else the authority's key."""
    service = COMPOSE["certs"]
    made = parse(service["command"])
    places = mounts(service)
    out = Path(str(made["out"]))
    subprocess.run(
        [
            sys.executable,
            "-m",
            "lotteryfl",
            *(tmp_path if word == str(out) else word for word in service["command"]),
        ],
        cwd=ROOT,
        check=True,
    )
    health = COMPOSE["coordinator"]["healthcheck"]["test"][2:]
    holders = {"coordinator": COMPOSE["coordinator"]["command"], "worker": COMPOSE["worker"]["command"]}
    for name, command in {**holders, "observer": health}.items():
        for kind, file in files(parse(command)).items():
            assert file.parent == out / name, kind
            assert (tmp_path / file.relative_to(out)).is_file()
        seen = mounts(COMPOSE["worker" if name == "worker" else "coordinator"])
        assert seen[out / name] == places[out / name]
        assert not {"authority"} & set(seen.values())
    assert "worker-certs" not in mounts(COMPOSE["coordinator"]).values()
    assert parse(COMPOSE["worker"]["command"])["coordinator"].partition(":")[0] in str(made["hosts"]).split(",")
    assert parse(COMPOSE["worker"]["command"])["name"] == f"{made['workers'][0]}/"


def test_compose_keeps_everything_on_volumes_of_the_user() -> None:
    run_dir = Path(str(parse(COMPOSE["coordinator"]["command"])["run_dir"]))
    assert run_dir.parent in mounts(COMPOSE["coordinator"])
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    owned = " ".join(re.findall(r"install --directory --owner=lotteryfl --group=lotteryfl ([^\n&]*)", text)).split()
    assert {str(folder) for name in ("certs", "coordinator", "worker") for folder in mounts(COMPOSE[name])} <= set(
        owned
    )


def test_compose_health_check_asks_the_coordinator() -> None:
    kind, script, *arguments = COMPOSE["coordinator"]["healthcheck"]["test"]
    assert (kind, script) == ("CMD", "lotteryfl")
    listen = parse(COMPOSE["coordinator"]["command"])["listen"]
    assert parse(arguments)["where"] == f"localhost:{port(listen)}"


def test_health_check_does_not_import_torch() -> None:
    code = "import sys; from lotteryfl.commands.inspect import status; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_gpu_override_changes_the_worker_alone() -> None:
    override = yaml.safe_load((ROOT / "deploy/docker-compose.gpu.yml").read_text())["services"]
    work = parse(override["worker"]["command"])
    assert list(override) == ["worker"]
    assert work["coordinator"] == parse(COMPOSE["worker"]["command"])["coordinator"]
    assert work["devices"] == "all"
    (given,) = override["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert given["count"] == "all"
    plain = parse(COMPOSE["worker"]["command"])
    assert {**work, "devices": plain["devices"]} == plain


# -- Kubernetes


def test_kubernetes_objects_fit_together() -> None:
    objects = {(item["kind"], item["metadata"]["name"]): item for item in KUBERNETES}
    coordinator = objects["Job", "lotteryfl-coordinator"]["spec"]["template"]
    worker = objects["Job", "lotteryfl-worker"]["spec"]["template"]
    service = objects["Service", "lotteryfl-coordinator"]["spec"]
    (serving,), (working,) = coordinator["spec"]["containers"], worker["spec"]["containers"]
    serve, work = parse(serving["args"]), parse(working["args"])

    (listen,) = {int(port(serve["listen"])), service["ports"][0]["port"]}
    assert serving["readinessProbe"]["grpc"]["port"] == int(port(serve["health"]))
    assert work["coordinator"] == f"lotteryfl-coordinator:{listen}"
    assert service["selector"].items() <= coordinator["metadata"]["labels"].items()
    paths = {mount["mountPath"]: mount["name"] for mount in serving["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in coordinator["spec"]["volumes"]}
    runs = volumes[paths[str(Path(str(serve["run_dir"])).parent)]]
    assert ("PersistentVolumeClaim", runs["persistentVolumeClaim"]["claimName"]) in objects
    policy = objects["NetworkPolicy", "lotteryfl-coordinator"]["spec"]
    (source,) = policy["ingress"][0]["from"]
    assert policy["podSelector"]["matchLabels"] == coordinator["metadata"]["labels"]
    assert source["podSelector"]["matchLabels"] == worker["metadata"]["labels"]


def test_kubernetes_secrets_are_made_as_its_first_lines_say(tmp_path: Path) -> None:
    head = [line[1:].split() for line in (ROOT / "deploy/kubernetes.yaml").read_text().splitlines() if line[:1] == "#"]
    (certs,) = (line[1:] for line in head if line[:2] == ["lotteryfl", "certs"])
    subprocess.run([sys.executable, "-m", "lotteryfl", *certs], cwd=tmp_path, check=True, env=ENVIRONMENT)
    secrets = {line[4]: line[5].removeprefix("--from-file=") for line in head if line[1:3] == ["create", "secret"]}
    jobs = [item["spec"]["template"]["spec"] for item in KUBERNETES if item["kind"] == "Job"]
    assert len(jobs) == len(secrets) == 2
    for job in jobs:
        (container,) = job["containers"]
        (volume,) = (volume for volume in job["volumes"] if "secret" in volume)
        (place,) = (mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == volume["name"])
        folder = tmp_path / secrets[volume["secret"]["secretName"]]
        for file in files(parse(container["args"])).values():
            assert (folder / file.relative_to(place)).is_file()
    coordinator = next(item["metadata"]["name"] for item in KUBERNETES if item["kind"] == "Service")
    assert parse(certs)["hosts"] == coordinator
