"""What is asked of Ray follows from the settings and the nodes' resources; what does not fit together is named."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.launching.ray.asked import check, needs, workers
from lotteryfl.launching.settings import LaunchSettings, launch_settings
from tests.integration.conftest import start, write  # noqa: F401 - fixtures
from tests.support.runs import Start, Write

CARDS = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0}]
NO_CARDS = [{"CPU": 8.0}, {"CPU": 8.0}, {"node:__internal_head__": 1.0}]


def settings(*given: str) -> LaunchSettings:
    found = launch_settings(Path("none"), "/dev/null", given)
    check(found)
    return found


def count(nodes: list[dict[str, float]], *given: str) -> int:
    found = settings(*given)
    return workers(found, needs(found, sum(node.get("GPU", 0) for node in nodes)), nodes)


def test_every_card_has_its_workers_and_where_there_are_none_every_node_that_can() -> None:
    assert count(CARDS) == 3
    assert count(CARDS, "workers_per_device=4") == 12
    assert count(CARDS, "ray.num_gpus=0.25") == 12
    assert count(CARDS, "devices=cpu") == 3
    assert count(NO_CARDS) == 2
    assert count(NO_CARDS, "workers_per_device=4") == 8
    assert count(NO_CARDS, "ray.workers=5") == 5


def test_a_card_is_shared_by_as_many_as_the_settings_say() -> None:
    assert needs(settings("workers_per_device=4"), cards=3).options()["num_gpus"] == 0.25
    assert needs(settings("workers_per_device=4"), cards=0).options()["num_gpus"] == 0
    assert needs(settings("ray.num_gpus=0.5"), cards=3).device == "auto"
    assert needs(settings("devices=cpu"), cards=3).device == "cpu"


def test_memory_and_resources_of_ones_own_are_asked_for() -> None:
    each = needs(settings("ray.memory=2", "ray.resources.fast_disk=0.5"), cards=0)
    assert each.resources == {"CPU": 1, "memory": 2 * 2**30, "fast_disk": 0.5}
    assert not each.are_had_by({"CPU": 8, "memory": 2**40})
    assert each.are_had_by({"CPU": 8, "memory": 2**40, "fast_disk": 1})
    assert str(each) == "1 CPU, 0.5 fast_disk, 2 GiB memory"


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (["ray.num_gpus=2"], "ray.num_gpus = 2: a worker computes on one card: expected 1, or a fraction of it"),
        (["ray.max_restarts=-2"], "ray.max_restarts = -2: expected a number from 0 on, or -1 for any number"),
        (["ray.resources.GPU=1"], "ray.resources.GPU = 1: is what ray.num_gpus says"),
        (["ray.resources.disk=1.5"], "ray.resources.disk = 1.5: expected a fraction of 1, or a whole number"),
        (["ray.placement_group=ROUND"], "ray.placement_group = 'ROUND': input should be"),
        (["ray.nodes=4"], "unknown key ray.nodes = 4; allowed here: address, workers"),
        (["program=/opt/lotteryfl"], "program = '/opt/lotteryfl': Ray starts what is installed beside it"),
        (['setup=["module load cuda"]'], "setup = ('module load cuda',): Ray starts what is installed beside it"),
        (["devices=cuda:0,1"], "devices = 'cuda:0,1': Ray hands cards out: expected all or cpu"),
        (["workers_per_device=auto"], "workers_per_device = 'auto': Ray has to know their share of a card"),
        (["workers_per_device=2", "ray.num_gpus=0.5"], "ray.num_gpus = 0.5 and workers_per_device = 2: expected one"),
        (["devices=cpu", "ray.num_gpus=0.5"], "ray.num_gpus = 0.5: expected 0 with devices = 'cpu'"),
        (["ray.placement_group=PACK", "ray.num_cpus=0"], "ray.placement_group = 'PACK': expected workers that need"),
    ],
)
def test_what_does_not_fit_together_is_named(given: list[str], fault: str) -> None:
    with pytest.raises(LotteryFLError) as caught:
        settings(*given)
    assert fault in str(caught.value)


@pytest.mark.skipif(find_spec("ray") is not None, reason="ray is installed")
def test_a_missing_ray_is_one_line(start: Start, write: Write) -> None:  # noqa: F811
    process = start("launch", "ray", write(), "--dry-run")
    assert process.exit_code() == 1
    assert process.error_line == "ray is not installed: `launch ray` needs it: pip install 'lotteryfl[ray]'"
