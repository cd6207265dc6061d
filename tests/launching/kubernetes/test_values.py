"""What the chart is told of a launch, and what of the user's own code goes with it."""

import json
from pathlib import Path
from typing import Any

import pytest

from lotteryfl.common.errors import LotteryFLError
from lotteryfl.common.owncode.usercode import import_source, version_of
from lotteryfl.launching.folder import LaunchFolder
from lotteryfl.launching.kubernetes.ownfiles import OwnFiles
from lotteryfl.launching.kubernetes.settings import parts_of
from lotteryfl.launching.kubernetes.values import chart_name, release_of, values_of
from lotteryfl.launching.launcher import Request
from lotteryfl.launching.settings import launch_settings
from lotteryfl.running.owncode import OwnCode

EXPERIMENT = 'seed = 0\nrounds = 2\nclients = 4\nclients_per_round = 4\n[task]\nname = "digits"\n'


def request(folder: Path, *given: str, text: str = EXPERIMENT, own: OwnCode | None = None, run: str = "run") -> Request:
    source, place = folder / "experiment.toml", folder / run
    source.write_text(text)
    settings = launch_settings(source, "", given)
    return Request(source, place, ("rounds=3",), own or OwnCode(), settings, LaunchFolder(place))


def values(folder: Path, *given: str, **more: Any) -> dict[str, Any]:
    return values_of(request(folder, *given, **more))


# -- what is said with settings


def test_settings_become_values_of_the_chart(tmp_path: Path) -> None:
    found = values(
        tmp_path,
        "kubernetes.image=registry.example:5000/team/lotteryfl:1.2",
        *("kubernetes.workers=3", "kubernetes.gpus=4", "kubernetes.queue=research", "kubernetes.data_claim=mnist"),
        *("data_dir=/mnt/data", "environment.OMP_NUM_THREADS='2'", "patience=30", "kubernetes.claim=runs"),
        'arguments=["--max-memory=8"]',
    )
    assert found["image"] == {"repository": "registry.example:5000/team/lotteryfl", "tag": "1.2", "pullSecrets": []}
    assert found["experiment"] == EXPERIMENT
    worker = found["worker"]
    assert (worker["replicas"], worker["gpus"], worker["queue"], worker["patience"]) == (
        3,
        {"count": 4},
        "research",
        30,
    )
    assert worker["arguments"] == ["--max-memory=8"]
    assert worker["env"] == found["coordinator"]["env"] == [{"name": "OMP_NUM_THREADS", "value": "2"}]
    claim = {"persistentVolumeClaim": {"claimName": "mnist", "readOnly": True}}
    assert found["data"] == {"folder": "/mnt/data", "volume": claim}
    assert found["runs"]["existingClaim"] == "runs"
    assert found["coordinator"]["overrides"] == ["rounds=3"]


def test_several_workers_a_card_are_said_with_the_devices(tmp_path: Path) -> None:
    assert values(tmp_path, "workers_per_device=2")["worker"]["arguments"] == ["--devices=all", "--per-device=2"]
    assert values(tmp_path, "devices=cuda:0")["worker"]["arguments"] == ["--devices=cuda:0", "--per-device=1"]


def test_any_value_of_the_chart_goes_before_what_follows_from_settings(tmp_path: Path) -> None:
    found = values(
        tmp_path, "kubernetes.gpus=1", "kubernetes.values.worker.gpus.count=2", "kubernetes.values.runs.size=1Ti"
    )
    assert found["worker"]["gpus"] == {"count": 2}
    assert found["runs"] == {"existingClaim": "", "size": "1Ti"}


def test_a_program_of_another_name_is_the_pods_command(tmp_path: Path) -> None:
    assert values(tmp_path, "program=python -m lotteryfl")["image"]["command"] == ["python", "-m", "lotteryfl"]
    assert "command" not in values(tmp_path)["image"]


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("lotteryfl", {"repository": "lotteryfl"}),
        ("r:5000/a/b", {"repository": "r:5000/a/b"}),
        ("r/b:v1", {"repository": "r/b", "tag": "v1"}),
        ("r/b:v1@sha256:" + "a" * 64, {"repository": "r/b", "tag": "v1", "digest": "sha256:" + "a" * 64}),
    ],
)
def test_an_image_has_repository_tag_and_digest(image: str, parts: dict[str, str]) -> None:
    assert parts_of(image) == parts


@pytest.mark.parametrize(
    "given",
    [
        "kubernetes.image=A B",
        "kubernetes.name=Run_A",
        "kubernetes.namespace=-x",
        "kubernetes.gpus=-1",
        "kubernetes.x=1",
    ],
)
def test_a_setting_that_cannot_be_is_named(tmp_path: Path, given: str) -> None:
    with pytest.raises(LotteryFLError, match=given.partition("=")[0].replace(".", r"\.")):
        request(tmp_path, given)


def test_a_release_has_the_runs_name_and_no_other_folders(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    names = [release_of(request(tmp_path, run=run)) for run in ("Digits_2026 final!", "other/Digits_2026 final!", "…")]
    assert all(name.startswith("run-digits-2026-final-") for name in names[:2])
    assert len(set(names)) == 3
    assert chart_name("run-x") == "run-x-lotteryfl"
    assert release_of(request(tmp_path, "kubernetes.name=mine")) == "mine"


# -- the user's own code


def test_own_code_goes_with_what_it_imports_of_its_folder_to_the_byte(tmp_path: Path) -> None:
    (tmp_path / "beside").mkdir()
    (tmp_path / "task.py").write_bytes("import helper\r\nfrom beside import deep  # ü\n".encode())
    (tmp_path / "helper.py").write_text("X = 1\n")
    (tmp_path / "beside/__init__.py").write_text("")
    (tmp_path / "beside/deep.py").write_text("Y = 2\n")
    (tmp_path / "unused.py").write_text("Z = 3\n")
    own = OwnCode((str(tmp_path / "task.py"), "a.module", "/of/the/image.py"))
    found = values(tmp_path, own=own, text=EXPERIMENT.replace("digits", "task.py"))
    assert found["files"].keys() == {"task.py", "helper.py", "beside/__init__.py", "beside/deep.py"}
    assert found["files"]["task.py"].encode() == (tmp_path / "task.py").read_bytes()
    options = ["--task=/lotteryfl/files/task.py", "--task=a.module", "--task=/of/the/image.py"]
    assert found["coordinator"]["arguments"] == found["worker"]["arguments"] == options
    assert found["coordinator"]["overrides"] == ["rounds=3", "task.name=/lotteryfl/files/task.py"]


def test_files_of_two_folders_do_not_meet_and_keep_their_version(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").write_text("import helper_of_both\n")
        (tmp_path / name / "helper_of_both.py").write_text(f"NAME = {name!r}\n")
    (tmp_path / "here").mkdir()
    files = OwnFiles(tmp_path / "here")
    named = [files.named(str(tmp_path / name / f"{name}.py")) for name in ("one", "two")]
    there = tmp_path / "there"
    for name, text in files.texts.items():
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_bytes(text.encode())
    for name, path in zip(("one", "two"), named, strict=True):
        here = import_source(f"task {name}", str(tmp_path / name / f"{name}.py"), LotteryFLError)
        copied = import_source(f"task {name}", path.replace("/lotteryfl/files", str(there)), LotteryFLError)
        assert version_of(copied).to_json() == version_of(here).to_json() != "{}"


def test_what_a_configmap_cannot_take_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a task.py").write_text("")
    with pytest.raises(LotteryFLError, match="cannot be a file of a ConfigMap"):
        values(tmp_path, own=OwnCode((str(tmp_path / "a task.py"),)))
    with pytest.raises(LotteryFLError, match="expected at most 900000"):
        values(tmp_path, text=f"{EXPERIMENT}# {'x' * 900_000}\n")


def test_the_values_are_json(tmp_path: Path) -> None:
    assert json.loads(json.dumps(values(tmp_path))) == values(tmp_path)
