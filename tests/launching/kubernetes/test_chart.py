"""The Helm chart, rendered by real helm in several settings: its objects fit together, and their forms are known."""

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from lotteryfl.launching.kubernetes.values import CHART
from lotteryfl.program import program
from tests.support.paths import ROOT

HELM, VALIDATE = shutil.which("helm"), shutil.which("kubernetes-validate")
helm = pytest.mark.skipif(HELM is None, reason="helm is not here: make test-helm brings it")
validate = pytest.mark.skipif(
    HELM is None or VALIDATE is None, reason="helm or kubernetes-validate is not here: make test-helm brings them"
)
OWN_KINDS = {"cert-manager.io/v1", "monitoring.coreos.com/v1"}
"""Of operators: the schemas of Kubernetes do not have them."""

EXPERIMENT = "--set-file=experiment=examples/digits.toml"
SETTINGS = {
    "plain": [],
    "cards": ["--set=worker.gpus.count=4,worker.replicas=3,metrics.enabled=true,metrics.podMonitor=true"],
    "own code": [
        *(
            "--set-file=files.my_task\\.py=examples/custom_task.py",
            "--set-file=files.beside/more\\.py=examples/custom_task.py",
        ),
        *("--set=tasks={my_task.py,a.module}", "--set=localAlgorithms={beside/more.py}", "--set=strategies={a.module}"),
        *("--set=coordinator.overrides={rounds=3}", "--set=coordinator.arguments={--reflection}"),
    ],
    "cert-manager": ["--set=tls.mode=certManager,tls.certManager.observer=dash"],
    "an issuer that is there": ["--set=tls.mode=certManager,tls.certManager.issuerRef.name=ca"],
    "queued": [
        "--set=worker.queue=research,worker.schedulerName=volcano,worker.suspend=true,coordinator.schedulerName=volcano",
        "--set=worker.podAnnotations.scheduling\\.volcano\\.sh/queue-name=research,ttlSecondsAfterFinished=0",
    ],
    "placed": [
        "--set=worker.nodeSelector.disk=ssd,worker.tolerations[0].key=gpu,worker.tolerations[0].operator=Exists",
        "--set=data.volume.persistentVolumeClaim.claimName=data,image.digest=sha256:" + "0" * 64,
        "--set=runs.existingClaim=mine,runs.directory=digits,image.pullSecrets={registry},worker.priorityClassName=low",
        '--set-json=worker.affinity={"podAntiAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[]}}',
    ],
    "watched and closed": [
        "--set=metrics.enabled=true,metrics.serviceMonitor=true,networkPolicy.restrictEgress=true,fetch.enabled=true",
        "--set=networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring,podDisruptionBudget.minWorkers=1",
    ],
    "open": ["--set=networkPolicy.enabled=false,podDisruptionBudget.enabled=false"],
}

Objects = dict[tuple[str, str], dict[str, Any]]


def call(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([str(HELM), *arguments], cwd=ROOT, capture_output=True, text=True)


def rendered(*settings: str, release: str = "digits") -> str:
    done = call("template", release, str(CHART), "--namespace=team", EXPERIMENT, *settings)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(*settings: str) -> Objects:
    found = [each for each in yaml.safe_load_all(rendered(*settings)) if each]
    return {(each["kind"], each["metadata"]["name"].removeprefix("digits-lotteryfl-")): each for each in found}


def parse(arguments: list[str]) -> dict[str, Any]:
    """Return what the command line makes of `lotteryfl ARGUMENTS`; raises on what it does not know.

    Strategies are left out: they would be imported.
    """
    name, *rest = (argument for argument in arguments if not argument.startswith("--strategy="))
    command = program.get_command(click.Context(program), name)
    assert command is not None, f"no command {name}"
    return command.make_context(name, rest).params


def pod_of(found: Objects, role: str) -> dict[str, Any]:
    return dict(found["Job", role]["spec"]["template"]["spec"])


def container_of(found: Objects, role: str) -> dict[str, Any]:
    (container,) = pod_of(found, role)["containers"]
    return dict(container)


def mounts(container: dict[str, Any]) -> dict[str, str]:
    """Return by name the places where volumes are."""
    return {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}


def port(address: object) -> int:
    return int(str(address).rpartition(":")[2])


# -- what needs no helm


def test_the_chart_has_the_programs_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {chart["version"], chart["appVersion"]} == {project["version"]}


def test_the_schema_has_every_value_and_no_other() -> None:
    def keys(values: Any, schema: dict[str, Any]) -> Iterator[tuple[str, set[str], set[str]]]:
        if isinstance(values, dict) and "properties" in schema:
            yield schema.get("title", ""), set(values), set(schema["properties"]) - {"global"}
            for key, value in values.items():
                yield from keys(value, schema["properties"].get(key, {}))

    schema = json.loads((CHART / "values.schema.json").read_text())
    found = list(keys(yaml.safe_load((CHART / "values.yaml").read_text()), schema))
    assert len(found) > 10
    for _, there, known in found:
        assert there == known or not there  # {}: whose keys are all left open


# -- its form


@helm
def test_helm_finds_no_fault_with_it() -> None:
    done = call("lint", "--strict", str(CHART), EXPERIMENT)
    assert done.returncode == 0, done.stdout


@validate
@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_kubernetes_knows_the_form_of_every_object(version: str, tmp_path: Path) -> None:
    files = []
    for number, settings in enumerate(SETTINGS.values()):
        for each in yaml.safe_load_all(rendered(*settings)):
            if each and each["apiVersion"] not in OWN_KINDS:
                files.append(tmp_path / f"{number}-{each['kind']}-{each['metadata']['name']}.yaml")
                files[-1].write_text(yaml.safe_dump(each))
    command = [str(VALIDATE), "--strict", "--no-warn", "-k", version, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(files) > 7 * len(SETTINGS)


@helm
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--set=bogus=1", "Additional property bogus is not allowed"),
        ("--set=worker.replicas=0", "worker.replicas: Must be greater than or equal to 1"),
        ("--set=tls.mode=none", 'must be one of the following: "secrets", "certManager"'),
        ("--set=metrics.podMonitor=true", "metrics.enabled does not match: true"),
        ("--set=files.\\.\\./up=x", "files: "),
        ("--set=files.experiment\\.toml=x", "files: "),
    ],
)
def test_values_that_cannot_be_are_refused(given: str, said: str) -> None:
    done = call("template", "digits", str(CHART), EXPERIMENT, given)
    assert done.returncode != 0
    assert said in done.stderr


@helm
def test_without_an_experiment_it_says_how_one_is_given() -> None:
    assert (
        "expected the experiment file, by --set-file experiment=FILE" in call("template", "digits", str(CHART)).stderr
    )


# -- what it says


@helm
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_its_objects_fit_together(settings: list[str]) -> None:
    found = objects(*settings)
    serving, working = container_of(found, "coordinator"), container_of(found, "worker")
    serve, work = parse(serving["args"]), parse(working["args"])
    service = found["Service", "coordinator"]
    labels = found["Job", "coordinator"]["spec"]["template"]["metadata"]["labels"]

    ports = {each["name"]: each["containerPort"] for each in serving["ports"]}
    assert {ports["grpc"], service["spec"]["ports"][0]["port"], port(work["coordinator"])} == {port(serve["listen"])}
    assert service["spec"]["ports"][0]["targetPort"] == "grpc"
    assert work["coordinator"].partition(":")[0] == service["metadata"]["name"]
    assert service["spec"]["selector"].items() <= labels.items()
    for probe in ("startupProbe", "readinessProbe"):
        assert serving[probe]["grpc"]["port"] == port(serve["health"])
    assert serving["livenessProbe"]["tcpSocket"]["port"] == port(serve["health"])
    assert str(Path(str(serve["run_dir"])).parent) == mounts(serving)["runs"]
    assert str(serve["source"]).startswith(mounts(serving)["files"])
    volumes = {volume["name"]: volume for volume in pod_of(found, "coordinator")["volumes"]}
    claim = volumes["runs"]["persistentVolumeClaim"]["claimName"]
    assert claim == "mine" or ("PersistentVolumeClaim", claim.removeprefix("digits-lotteryfl-")) in found
    for role in ("coordinator", "worker"):
        names = {volume["name"] for volume in pod_of(found, role)["volumes"]}
        assert names == set(mounts(container_of(found, role)))


@helm
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_pod_has_no_rights_that_it_does_not_need(settings: list[str]) -> None:
    pods = [each["spec"]["template"]["spec"] for (kind, _), each in objects(*settings).items() if kind == "Job"]
    pods += [each["spec"] for (kind, _), each in objects(*settings).items() if kind == "Pod"]
    assert len(pods) >= 2
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@helm
def test_the_network_lets_in_workers_alone_and_who_reads_metrics() -> None:
    found = objects(*SETTINGS["watched and closed"])
    coordinator = found["NetworkPolicy", "coordinator"]["spec"]
    calls, reads = coordinator["ingress"]
    (source,) = calls["from"]
    worker = found["Job", "worker"]["spec"]["template"]["metadata"]["labels"]
    assert coordinator["podSelector"]["matchLabels"] == found["Service", "coordinator"]["spec"]["selector"]
    assert source["podSelector"]["matchLabels"].items() <= worker.items()
    assert source["podSelector"]["matchLabels"].items() >= {"app.kubernetes.io/component": "worker"}.items()
    assert calls["ports"] == [{"port": 7000}]
    assert reads["ports"] == [{"port": 9100, "endPort": 9100}]
    assert coordinator["egress"] == []
    assert found["NetworkPolicy", "worker"]["spec"]["egress"][0]["ports"] == [{"port": 7000}]
    assert objects()["NetworkPolicy", "worker"]["spec"]["ingress"] == []


@helm
def test_a_pod_with_cards_has_a_worker_on_each_and_each_has_its_port() -> None:
    found = objects(*SETTINGS["cards"])
    job, container = found["Job", "worker"]["spec"], container_of(found, "worker")
    work = parse(container["args"])
    assert (job["completionMode"], job["parallelism"], job["completions"]) == ("Indexed", 3, 3)
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 4}
    assert work["devices"] == "all"
    assert [each["containerPort"] for each in container["ports"]] == [port(work["metrics"]) + n for n in range(4)]
    read = [each["port"] for each in found["PodMonitor", "worker"]["spec"]["podMetricsEndpoints"]]
    assert read == [each["name"] for each in container["ports"]]
    assert "limits" not in container_of(objects(), "worker")["resources"]


@helm
def test_files_of_ones_own_are_where_they_are_named_and_the_experiment_is_the_coordinators_alone() -> None:
    found = objects(*SETTINGS["own code"])
    arguments = [container_of(found, role)["args"] for role in ("coordinator", "worker")]
    serve, work = map(parse, arguments)
    assert serve["tasks"] == ("/lotteryfl/files/my_task.py", "a.module")
    assert serve["local"] == ("/lotteryfl/files/beside/more.py",)
    assert ["--strategy=a.module" in each for each in arguments] == [True, False]
    assert (work["tasks"], work["local"]) == (serve["tasks"], serve["local"])
    assert (serve["overrides"], serve["reflection"]) == (("rounds=3",), True)
    data = found["ConfigMap", "files"]["data"]
    for role, more in (("coordinator", {"experiment.toml"}), ("worker", set())):
        (volume,) = (each for each in pod_of(found, role)["volumes"] if each["name"] == "files")
        items = {item["path"]: data[item["key"]] for item in volume["configMap"]["items"]}
        assert set(items) == {"my_task.py", "beside/more.py"} | more
        assert items["my_task.py"] == (ROOT / "examples/custom_task.py").read_text()
    assert data["experiment.toml"] == (ROOT / "examples/digits.toml").read_text()


@helm
def test_a_queue_starts_the_workers() -> None:
    found = objects(*SETTINGS["queued"])
    worker = found["Job", "worker"]
    assert worker["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    assert worker["spec"]["suspend"] is True
    assert worker["spec"]["ttlSecondsAfterFinished"] == 0
    assert worker["spec"]["template"]["metadata"]["annotations"] == {"scheduling.volcano.sh/queue-name": "research"}
    assert pod_of(found, "worker")["schedulerName"] == "volcano"
    assert "kueue.x-k8s.io/queue-name" not in found["Job", "coordinator"]["metadata"]["labels"]


@helm
def test_the_volume_stays_when_the_release_goes() -> None:
    assert objects()["PersistentVolumeClaim", "runs"]["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


# -- certificates


@helm
def test_secrets_are_made_as_its_notes_say(tmp_path: Path) -> None:
    chart = shutil.copytree(CHART, tmp_path / "lotteryfl")
    (chart / "templates/NOTES.txt").rename(chart / "notes")
    (chart / "templates/notes.yaml").write_text('notes: {{ tpl (.Files.Get "notes") . | toJson }}')
    done = call("template", "digits", str(chart), "--show-only=templates/notes.yaml", EXPERIMENT)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in yaml.safe_load(done.stdout)["notes"].splitlines()]
    (certs,) = (line[1:] for line in lines if line[:2] == ["lotteryfl", "certs"])
    subprocess.run([sys.executable, "-m", "lotteryfl", *certs], cwd=tmp_path, check=True, env={"PYTHONPATH": str(ROOT)})
    secrets = {
        line[6]: line[7].removeprefix("--from-file=") for line in lines if line[3:6] == ["create", "secret", "generic"]
    }
    found = objects()
    assert len(secrets) == 2
    for role in ("coordinator", "worker"):
        (volume,) = (each for each in pod_of(found, role)["volumes"] if "secret" in each)
        container = container_of(found, role)
        folder = tmp_path / secrets[volume["secret"]["secretName"]]
        parameters = parse(container["args"])
        for name in ("cert", "key", "ca"):
            assert (folder / Path(parameters[f"tls_{name}"]).relative_to(mounts(container)["certs"])).is_file()
    assert parse(certs)["hosts"] == found["Service", "coordinator"]["metadata"]["name"]
    assert parse(container_of(found, "worker")["args"])["name"] == f"{parse(certs)['workers'][0]}/"


@helm
def test_cert_manager_makes_the_certificates_that_pods_show() -> None:
    found = objects(*SETTINGS["cert-manager"])
    for role in ("coordinator", "worker"):
        (volume,) = (each for each in pod_of(found, role)["volumes"] if "secret" in each)
        assert found["Certificate", role]["spec"]["secretName"] == volume["secret"]["secretName"]
        issuer = found["Certificate", role]["spec"]["issuerRef"]
        assert found["Issuer", issuer["name"].removeprefix("digits-lotteryfl-")]["spec"]["ca"] == {
            "secretName": found["Certificate", "authority"]["spec"]["secretName"]
        }
    coordinator, worker, observer = (
        found["Certificate", name]["spec"] for name in ("coordinator", "worker", "observer")
    )
    work = parse(container_of(found, "worker")["args"])
    assert work["coordinator"].partition(":")[0] in coordinator["dnsNames"]
    assert (coordinator["usages"][-1], worker["usages"][-1]) == ("server auth", "client auth")
    assert worker["uris"] == [f"urn:lotteryfl:worker:{work['name'].rstrip('/')}"]
    assert observer["uris"] == ["urn:lotteryfl:observer:dash"]
    there = objects(*SETTINGS["an issuer that is there"])
    assert not any(kind == "Issuer" for kind, _ in there)
    assert there["Certificate", "worker"]["spec"]["issuerRef"] == {"name": "ca"}
