"""What is seen of a run from outside: documented metrics, and Prometheus and Grafana beside Compose's run."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from lotteryfl.client.prometheus import METRICS as OF_WORKER
from lotteryfl.common.prometheus.described import Described
from lotteryfl.program import program
from lotteryfl.server.prometheus.table import METRICS as OF_COORDINATOR
from tests.support.paths import ROOT

OBSERVE = ROOT / "deploy/observe"
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
PROMETHEUS = yaml.safe_load((OBSERVE / "prometheus.yml").read_text())
BOARD = json.loads((OBSERVE / "grafana/boards/run.json").read_text())
EXPRESSIONS = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
PAGE = (ROOT / "docs/seeing.md").read_text(encoding="utf-8")
PROMTOOL = shutil.which("promtool")

ALL = (*OF_COORDINATOR, *OF_WORKER)
BY_SAMPLE = {name: described for described in ALL for name in described.samples}
OF_PROCESSES = {"process_resident_memory_bytes", "process_cpu_seconds_total"}
INFOS = {"version", "torch", "strategy", "score", "device"}
OF_PROMETHEUS = {"job", "instance", "le"}

promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not here")


def check(*arguments: object) -> str:
    """Have Prometheus's tool check something; return what it says."""
    done = subprocess.run([str(PROMTOOL), "check", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# -- the table


def rows(metrics: tuple[Described, ...]) -> list[str]:
    """Return the rows that the page must have."""
    labels = {each.name: f"`{each.label}`: {', '.join(each.values)}" if each.label else "" for each in metrics}
    return [f"| `{each.name}` | {each.kind} | {each.since} | {labels[each.name]} | {each.text} |" for each in metrics]


def test_the_page_has_all_metrics_and_no_others() -> None:
    written = re.findall(r"^\| `lotteryfl_.*\|$", PAGE, re.MULTILINE)
    assert written == [*rows(OF_COORDINATOR), *rows(OF_WORKER)]


@pytest.mark.parametrize("described", ALL, ids=lambda described: described.name)
def test_a_metric_is_named_as_prometheus_has_it(described: Described) -> None:
    assert re.fullmatch(r"lotteryfl_[a-z_]+[a-z]", described.name)
    assert described.name.endswith("_total") == (described.kind == "counter")
    assert described.text.endswith(".")
    assert bool(described.label) == bool(described.values)
    assert not {"client", "worker", "name"} & {described.label}


def test_what_the_page_asks_for_is_there() -> None:
    asked = set(re.findall(r"\blotteryfl_\w+", " ".join(re.findall(r"^\| [^`|]+ \| (`.*`) \|$", PAGE, re.MULTILINE))))
    assert len(asked) > 5
    assert asked <= BY_SAMPLE.keys()


# -- the board


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_board_asks_for_metrics_and_labels_that_there_are(expression: str) -> None:
    names = set(re.findall(r"\b(?:lotteryfl|process)_\w+", expression))
    assert names
    assert names <= BY_SAMPLE.keys() | OF_PROCESSES
    matched = re.findall(r'(\w+)=~?"([^"]*)"', expression)
    grouped = {label for labels in re.findall(r"\bby \(([^)]*)\)", expression) for label in labels.split(", ")}
    known = {BY_SAMPLE[name].label for name in names & BY_SAMPLE.keys()} | OF_PROMETHEUS
    assert {label for label, _ in matched} | grouped <= known
    for label, values in matched:
        if label not in OF_PROMETHEUS:
            (described,) = (BY_SAMPLE[name] for name in names if BY_SAMPLE[name].label == label)
            assert set(values.split("|")) <= set(described.values)
        if label == "job":
            assert set(values.split("|")) == {job["job_name"] for job in PROMETHEUS["scrape_configs"]}


def test_the_board_shows_what_a_run_is_judged_by() -> None:
    shown = " ".join(EXPRESSIONS)
    for name in ("rounds_committed", "score", "traffic_bytes", "workers", "round_seconds", "refused", "free_bytes"):
        assert re.search(rf"lotteryfl_\w*{name}", shown), name


def test_the_boards_parts_are_there_once_and_do_not_overlap() -> None:
    panels = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    (source,) = yaml.safe_load((OBSERVE / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert set(_sources(BOARD)) == {(source["type"], source["uid"])}


def _sources(part: object) -> Iterator[tuple[str, str]]:
    if isinstance(part, dict):
        if "datasource" in part:
            yield part["datasource"]["type"], part["datasource"]["uid"]
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from _sources(each)


@promtool
def test_prometheus_understands_the_board(tmp_path: Path) -> None:
    asked = [text.replace("$__rate_interval", "20s").replace("$coordinator", ".*") for text in EXPRESSIONS]
    rules = [{"record": f"board:{number}", "expr": text} for number, text in enumerate(asked)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    assert f"{len(rules)} rules found" in check("rules", tmp_path / "rules.yml")


@promtool
def test_prometheus_understands_its_settings() -> None:
    assert "SUCCESS" in check("config", OBSERVE / "prometheus.yml")


# -- Compose


def metrics_port(service: str) -> str:
    name, *arguments = SERVICES[service]["command"]
    command = program.get_command(click.Context(program), name)
    assert command is not None
    return str(command.make_context(name, arguments).params["metrics"]).rpartition(":")[2]


def test_prometheus_asks_where_services_answer() -> None:
    jobs: dict[str, Any] = {job["job_name"]: job for job in PROMETHEUS["scrape_configs"]}
    assert jobs.keys() == {"coordinator", "worker"}
    assert jobs["coordinator"]["static_configs"] == [{"targets": [f"coordinator:{metrics_port('coordinator')}"]}]
    (found,) = jobs["worker"]["dns_sd_configs"]
    assert (found["names"], found["type"], str(found["port"])) == (["worker"], "A", metrics_port("worker"))


def test_only_the_profile_brings_up_more_and_publishes_it_on_loopback_alone() -> None:
    beside = {name for name, service in SERVICES.items() if service.get("profiles")}
    assert beside == {"prometheus", "grafana"}
    for name, service in SERVICES.items():
        assert ("profiles" in service) == (service.get("profiles") == ["observe"])
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert name in beside or not service.get("ports")
    for name in beside:
        assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


def test_what_is_mounted_is_there_and_is_what_is_read() -> None:
    mounted = dict(volume.split(":")[:2] for name in ("prometheus", "grafana") for volume in SERVICES[name]["volumes"])
    own = {Path(source): folder for source, folder in mounted.items() if source.startswith(".")}
    assert len(own) == 3
    assert all((ROOT / source).exists() for source in own)
    (boards,) = yaml.safe_load((OBSERVE / "grafana/provisioning/dashboards/boards.yml").read_text())["providers"]
    assert boards["options"]["path"] == own[Path("deploy/observe/grafana/boards")]
    first = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert Path(first).relative_to(boards["options"]["path"]) == Path("run.json")
    assert (OBSERVE / "grafana/boards/run.json").is_file()


def test_the_image_can_answer() -> None:
    assert "--requirement run.txt" in (ROOT / "Dockerfile").read_text()
    assert "\nprometheus-client==" in (ROOT / "requirements/run.txt").read_text()
