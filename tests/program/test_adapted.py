"""Models with adapters by peft, on weights of a folder or of the hub's cache, and FLASC's protocol on them."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import tomli_w
import torch
from torch import Tensor

import lotteryfl
from lotteryfl.common.experiment.experiment import Experiment, changed
from lotteryfl.common.tensors.file import open_file
from lotteryfl.protocols import protocol
from lotteryfl.server.results.verify import verify
from tests.support.cifar import write_ten
from tests.support.libraries import environment, library
from tests.support.processes import Process

pytestmark = pytest.mark.extras

CONFIG = {
    "image_size": 16,
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
MODEL = "peft:vit?r=2&lora_alpha=2&lora_dropout=0.1&" + "&".join(f"{key}={value}" for key, value in CONFIG.items())
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def libraries() -> Any:
    library("peft")
    return library("transformers")


def published(folder: Path, channels: int = 3) -> dict[str, Tensor]:
    """Write a backbone without a head under the names that it was published with, and return it by those of today."""
    transformers = library("transformers")
    torch.manual_seed(5)
    model = transformers.ViTModel(transformers.ViTConfig(num_channels=channels, **CONFIG))
    state = {name: torch.randn_like(value) for name, value in model.state_dict().items()}
    old = {}
    for name, value in state.items():
        for new, before in (
            ("layers.", "encoder.layer."),
            ("attention.o_proj", "attention.output.dense"),
            ("attention.q_proj", "attention.attention.query"),
            ("attention.k_proj", "attention.attention.key"),
            ("attention.v_proj", "attention.attention.value"),
            ("mlp.fc1", "intermediate.dense"),
            ("mlp.fc2", "output.dense"),
        ):
            name = name.replace(new, before)
        old[name] = value
    folder.mkdir(parents=True)
    safetensors.torch.save_file(old, folder / "model.safetensors", metadata={"format": "pt"})
    return state


def experiment(folder: Path, **task: str) -> Experiment:
    path = folder / "experiment.toml"
    path.write_text(
        tomli_w.dumps(
            {
                "rounds": 2,
                "clients": 2,
                "clients_per_round": 2,
                "task": {"name": "digits", "model": MODEL, **task},
                "strategy": {"name": "flasc", "target_density": 0.25},
                "round": {"broadcasts": False},
            }
        )
    )
    return lotteryfl.load_experiment(path)


def test_rounds_carry_adapters_and_the_head_sparse_and_the_backbone_is_the_folders(tmp_path: Path) -> None:
    backbone = published(tmp_path / "vit", channels=1)
    with lotteryfl.simulate(experiment(tmp_path, initial="vit"), tmp_path / "run", device="cpu") as view:
        found, density = view.global_model(), view.rounds()["density"]
    start = open_file(tmp_path / "run/models/round-0000.safetensors")
    travelling = set(open_file(tmp_path / "run/models/round-0002.safetensors"))
    assert travelling == {name for name in found if "lora_" in name or "modules_to_save" in name}
    for name, value in backbone.items():
        kept = [each for each in found if each.replace(".base_layer.", ".").endswith(f".vit.{name}")]
        if not name.startswith("pooler."):
            (one,) = kept
            assert torch.equal(start[one], value)
            assert torch.equal(found[one], value)
    assert density.tolist() == [pytest.approx(0.25, abs=0.01), pytest.approx(0.25, abs=0.01), 1.0]
    assert verify(tmp_path / "run").problems == 0


@pytest.mark.slow
def test_weights_of_the_hub_are_those_of_its_cache_by_commit_and_digest(tmp_path: Path) -> None:
    cache = tmp_path / "cache/models--somebody--vit/snapshots" / COMMIT
    backbone = published(cache, channels=1)
    given = experiment(tmp_path, initial=f"hf:somebody/vit@{COMMIT}#sha256={'0' * 64}")
    path = tmp_path / "experiment.toml"
    path.write_text(tomli_w.dumps(given.model_dump(exclude_none=True)))
    offline = {"HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", **environment()}

    def simulated(run: str, initial: str) -> Process:
        return Process(
            "simulate", str(path), "--run-dir", run, "--set", f"task.initial={initial}", cwd=tmp_path, env=offline
        )

    wrong = simulated("wrong", f"hf:somebody/vit@{COMMIT}#sha256={'0' * 64}")
    assert wrong.exit_code() == 1
    assert "its digest is " in wrong.stderr.splitlines()[-1]
    assert simulated("run", f"hf:somebody/vit@{COMMIT}").exit_code() == 0
    start = open_file(tmp_path / "run/models/round-0000.safetensors")
    name = "adapted.base_model.model.vit.layers.0.attention.q_proj.base_layer.weight"
    assert torch.equal(start[name], backbone["layers.0.attention.q_proj.weight"])


@pytest.mark.slow
def test_the_protocol_says_in_a_line_that_the_hub_cannot_be_asked(tmp_path: Path) -> None:
    write_ten(tmp_path / "data", 4000, 600)
    env = {"HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", **environment()}
    options = ("--simulate", "--rounds", "1", "--data-dir", "data", "--run-dir", "run", "--set", "seed=3")
    process = Process("reproduce", "flasc-cifar10", *options, cwd=tmp_path, env=env)
    assert process.exit_code() == 1
    last = process.stderr.splitlines()[-1]
    assert "task.initial = 'hf:google/vit-base-patch16-224-in21k@b4569560" in last
    assert "model.safetensors cannot be had from the hub: LocalEntryNotFoundError: " in last
    assert "Traceback" not in process.stderr


def test_the_protocol_runs_on_a_small_model_and_local_files_of_cifars_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from lotteryfl.program import program

    published(tmp_path / "vit")
    write_ten(tmp_path / "data", 40, 40)
    whole = protocol("flasc-cifar10")
    keys = [
        "clients=4",
        "clients_per_round=2",
        f"task.model={MODEL}",
        f"task.initial={tmp_path}/vit",
        "evaluation.global_every=1",
    ]
    small = whole.model_copy(update={"experiment": changed(whole.experiment, keys), "partition_sha256": {}})
    monkeypatch.setattr("lotteryfl.commands.reproduce.protocol", lambda _: small)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(
        program, ["reproduce", "flasc-cifar10", "--rounds", "2", "--simulate", "--data-dir", "data", "--run-dir", "run"]
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "  cannot be compared: 2 rounds of the protocol's 200"
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert len(summary["global_curve"]) == 3
