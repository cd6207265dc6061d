"""The files that deploy LotteryFL name commands, ports and folders that exist, and fit together."""

import json
import re
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import yaml

from lotteryfl.program import program
from tests.support.paths import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
ELSEWHERE = yaml.safe_load((ROOT / "deploy/docker-compose.worker.yml").read_text())["services"]["worker"]
DOCKERFILE = [
    line for line in (ROOT / "Dockerfile").read_text().replace("\\\n", "").splitlines() if line and line[0].isupper()
]


def parse(arguments: list[str]) -> dict[str, Any]:
    """Return what the command line makes of `lotteryfl ARGUMENTS`; raises on what it does not know."""
    name, *rest = arguments
    command = program.get_command(click.Context(program), name)
    assert command is not None, f"no command {name}"
    return command.make_context(name, rest).params


def port(address: object) -> str:
    return str(address).rpartition(":")[2]


# -- the image


def stage(name: str) -> list[str]:
    """Return the lines of an image's stage; of the last one without a name."""
    starts = [i for i, line in enumerate(DOCKERFILE) if line.startswith("FROM")] + [len(DOCKERFILE)]
    stages = {DOCKERFILE[i].partition(" AS ")[2]: DOCKERFILE[i:j] for i, j in pairwise(starts)}
    return stages[name]


def test_image_installs_dependencies_before_it_sees_code() -> None:
    before = [line for line in stage("dependencies") if line.startswith("COPY")]
    assert before == ["COPY constraints.txt requirements/run.txt requirements/torch.txt ./"]
    last_stage = stage("")
    assert last_stage.index("COPY --from=dependencies /opt/venv /opt/venv") < last_stage.index(
        "COPY --from=wheel /dist /dist"
    )


def test_image_has_what_is_hashed() -> None:
    hashed, torch = (line for line in stage("dependencies") if line.startswith("RUN") and "install" in line)
    assert hashed.endswith("--require-hashes --no-deps --requirement run.txt")
    assert '"$TORCH" = cuda' in torch
    assert "set -- --require-hashes --no-deps --requirement torch.txt" in torch
    assert any("--no-build-isolation" in line for line in stage("wheel"))
    assert any("--no-index --no-deps /dist/*.whl" in line for line in stage(""))


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
    requirements = {"constraints.txt", "requirements/run.txt", "requirements/torch.txt"}
    assert allowed == packages | files | requirements | {"pyproject.toml", "examples", "deploy/helm"}


# -- Compose


def files(parameters: dict[str, object]) -> dict[str, Path]:
    """Return the files of TLS that a command names."""
    return {name: Path(str(parameters[f"tls_{name}"])) for name in ("cert", "key", "ca")}


def completed(command: list[str], **variables: str) -> list[str]:
    """Return a command as Compose completes it, by variables or by what stands in their place."""
    return [
        re.sub(r"\$\{(\w+):[-?]([^}]*)\}", lambda match: variables.get(match[1], match[2]), word) for word in command
    ]


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


def test_coordinator_takes_workers_of_other_hosts_over_tls() -> None:
    """Its port is published by the override alone, and its certificate is for the names that reach it there."""
    assert "ports" not in COMPOSE["coordinator"]
    override = yaml.safe_load((ROOT / "deploy/docker-compose.hosts.yml").read_text())["services"]
    assert set(override) == {"certs", "coordinator"}
    (published,) = override["coordinator"].pop("ports")
    assert override["coordinator"] == {}
    inside = port(parse(COMPOSE["coordinator"]["command"])["listen"])
    assert completed([published]) == [f"7000:{inside}"]
    plain = parse(COMPOSE["certs"]["command"])
    made = parse(completed(override["certs"]["command"], HOSTS="gpu-0.example.org,10.0.0.7"))
    assert made == plain | {"hosts": f"{plain['hosts']},gpu-0.example.org,10.0.0.7"}
    assert ":?" in override["certs"]["command"][4]


def test_workers_elsewhere_need_to_know_nothing_but_the_coordinator() -> None:
    """Name, folders and devices come with their certificate and from variables; cards from a file beside theirs."""
    command = ELSEWHERE["command"]
    assert [word for word in command if ":?" in word] == [command[1]]
    work = parse(completed(command, COORDINATOR="gpu-0.example.org:7000"))
    assert (work["coordinator"], work["devices"], work["name"]) == ("gpu-0.example.org:7000", "all", "")
    assert parse(completed(command, COORDINATOR="gpu-0:7000", DEVICES="cpu"))["devices"] == "cpu"
    certificates, data = ELSEWHERE["volumes"]
    assert {file.parent for file in files(work).values()} == {Path(certificates["target"])}
    assert completed([data]) == [f"data:{work['data_dir']}:ro"]
    assert certificates["read_only"]
    beside = yaml.safe_load((ROOT / "deploy/docker-compose.worker-gpu.yml").read_text())["services"]
    gpus = yaml.safe_load((ROOT / "deploy/docker-compose.gpu.yml").read_text())["services"]["worker"]["deploy"]
    assert beside == {"worker": {"deploy": gpus}}


def test_what_runs_in_a_container_is_confined() -> None:
    """It has no right that it does not need; every image is built in the same way."""
    services = [COMPOSE["certs"], COMPOSE["coordinator"], COMPOSE["worker"], ELSEWHERE]
    for service in services:
        assert service["read_only"]
        assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - a folder in a container
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        context, arguments = service["build"]["context"], service["build"]["args"]
        assert context == (".." if service is ELSEWHERE else ".")
        assert arguments == {"TORCH": "${TORCH:-}", "TORCH_INDEX": "${TORCH_INDEX:-}"}
    assert completed([ELSEWHERE["user"]]) == ["1000"]
    assert [line.split("=")[0] for line in DOCKERFILE if line.startswith("ARG")] == ["ARG TORCH", "ARG TORCH_INDEX"]
