"""Models of other places through whole runs: the same bits in processes, and from one run into the next."""

from pathlib import Path

import pytest
import safetensors.torch
import tomli_w
import torch
from click.testing import CliRunner, Result

import lotteryfl
from lotteryfl.commands.inspect import export
from lotteryfl.common.experiment.experiment import from_json, to_json
from lotteryfl.common.pruning.parameters import digest
from tests.support.libraries import environment, library

MODELS = """
from torch import nn

def make(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
"""

SMALL = {
    "rounds": 1,
    "clients": 2,
    "clients_per_round": 2,
    "training": {"epochs": 1},
    "strategy": {"accuracy_threshold": 0.0},
}


def experiment(folder: Path, **task: str) -> Path:
    (folder / "own_models.py").write_text(MODELS)
    path = folder / "experiment.toml"
    path.write_text(tomli_w.dumps({**SMALL, "task": task}))
    return path


def test_a_function_of_ones_own_gives_the_same_bits_in_processes_and_its_export_is_where_the_next_run_starts(
    tmp_path: Path,
) -> None:
    source = experiment(tmp_path, name="digits", model="own_models.py:make?width=12")
    run, out = tmp_path / "run", tmp_path / "global.safetensors"
    loaded = lotteryfl.load_experiment(source)
    with lotteryfl.run(loaded, run, workers=1, device="cpu") as view:
        made = digest(view.global_model())
    with lotteryfl.simulate(loaded, tmp_path / "simulated", device="cpu") as view:
        assert digest(view.global_model()) == made

    assert exported(run, "--global", "--out", str(out)).exit_code == 0
    with safetensors.safe_open(out, "pt") as file:
        header = file.metadata()
    assert (header["model"], header["model_sha256"]) == ("own_models:make?width=12", made)
    for wrong in ((), ("--global", "--client=0")):
        result = exported(run, *wrong, "--out", str(out))
        assert (result.exit_code, "expected one of --client and --global" in result.output) == (2, True)

    next_models = set()
    for place in (run, out):
        next_ = lotteryfl.load_experiment(source, [f"task.initial={place}", "seed=9"])
        with lotteryfl.simulate(next_, tmp_path / f"from-{place.name}", device="cpu") as view:
            next_models.add(digest(view.global_model()))
    assert len(next_models) == 1


def exported(run: Path, *options: str) -> Result:
    return CliRunner().invoke(export, [str(run), *options])


@pytest.mark.extras
def test_a_librarys_model_is_trained(tmp_path: Path) -> None:
    library("timm")
    source = experiment(tmp_path, name="digits", model="timm:test_resnet?norm_layer=groupnorm1")
    with lotteryfl.simulate(lotteryfl.load_experiment(source), tmp_path / "run", device="cpu") as view:
        assert view.status().state == view.status().FINISHED
        assert any(name.startswith("layer1.") for name in view.ticket(0))
        assert view.global_model().keys() == view.ticket(0).keys()


TASK = """
import torch

def client(k, experiment):
    tokens = torch.randint(20, (12, 5))
    return [{"input_ids": tokens, "labels": tokens[:, 0] % 2}] * 3
"""


@pytest.mark.extras
def test_a_transformer_of_a_local_folder_starts_from_its_weights_and_needs_the_folder_no_more(tmp_path: Path) -> None:
    transformers = library("transformers")
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=20, num_labels=2
    )
    theirs = transformers.BertForSequenceClassification(config)
    theirs.save_pretrained(tmp_path / "bert")
    (tmp_path / "own_task.py").write_text(TASK)
    source = experiment(
        tmp_path, name="own_task.py", model="transformers:./bert", initial="bert", objective="hugging-face"
    )
    loaded = lotteryfl.load_experiment(source)
    with lotteryfl.simulate(loaded, tmp_path / "run", device="cpu") as view:
        state = view.global_model()
    initial = safetensors.torch.load_file(tmp_path / "run" / "models" / "round-0000.safetensors")
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in initial.items())
    assert state.keys() >= theirs.state_dict().keys()
    (tmp_path / "bert" / "config.json").unlink()
    again = from_json(to_json(loaded))
    with lotteryfl.simulate(again, tmp_path / "run", device="cpu", tasks=[str(tmp_path / "own_task.py")]) as view:
        assert view.status().state == view.status().FINISHED


TRANSFORMED = """
import torch
from torchvision.transforms import v2

transform = v2.Compose([v2.RandomCrop(16, padding=2), v2.RandomHorizontalFlip(), v2.Normalize([0.5] * 3, [0.5] * 3)])

def client(k, experiment):
    images, labels = torch.rand(16, 3, 16, 16), torch.arange(16) % 2
    return [(images + labels[:, None, None, None], labels)] * 3

def augment(batch, generator):
    images, labels = batch
    return transform(images), labels
"""


@pytest.mark.extras
@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        "torchvision:resnet18?norm_layer=groupnorm&num_classes=2",
        "timm:resnet18?norm_layer=groupnorm&num_classes=2&in_chans=3",
    ],
)
def test_torchvisions_transforms_augment_resnets_with_the_same_bits_in_processes(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("torchvision", "timm"):
        library(name)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    task = tmp_path / f"{tmp_path.name}.py"  # in one process, files from different folders have different names
    task.write_text(TRANSFORMED)
    loaded = lotteryfl.load_experiment(experiment(tmp_path, name=task.name, model=model))
    with lotteryfl.simulate(loaded, tmp_path / "simulated", device="cpu") as view:
        expected = digest(view.global_model())
    with lotteryfl.run(loaded, tmp_path / "run", workers=2, device="cpu") as view:
        assert digest(view.global_model()) == expected
