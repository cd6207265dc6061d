"""What `task.model` may say beside an architecture, and what no experiment may make a library do."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from lotteryfl.common.errors import ExperimentError
from lotteryfl.common.experiment.experiment import load, validate
from lotteryfl.common.models.libraries import build_from_library
from lotteryfl.common.models.named import ModelName, model_name
from tests.support.libraries import library

TINY_BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 40,
    "num_labels": 3,
    "architectures": ["BertForSequenceClassification"],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("timm:resnet18", ModelName("timm", "resnet18", {})),
        ("timm:resnet18.a1_in1k?in_chans=1&norm_layer=groupnorm&drop_rate=0.1&zero_init_last=false", None),
        ("torchvision:vgg11?num_classes=10", ModelName("torchvision", "vgg11", {"num_classes": 10})),
        ("transformers:bert?architectures=[\"BertModel\"]", None),
        ("transformers:./bert?num_labels=2", ModelName("transformers", "./bert", {"num_labels": 2})),
        ("models:make", ModelName("models", "make", {})),
        ("a.b.models:make?width=3&name=1e", ModelName("a.b.models", "make", {"width": 3, "name": "1e"})),
        ("C:\\own\\models.py:make", ModelName("C:\\own\\models.py", "make", {})),
    ],
)  # fmt: skip
def test_a_name_is_read_and_written_back(text: str, expected: ModelName | None) -> None:
    name = model_name(text)
    assert name is not None
    assert expected in (None, name)
    assert model_name(str(name)) == name


@pytest.mark.parametrize(
    "value", ["true", "10", "null", "a b&c=d?#%", "ä", "[1]", [1, "x"], {"0": "LABEL"}, 1e-12, None]
)
def test_options_keep_their_value_and_type(value: object) -> None:
    name = ModelName("models", "make", {"option": value})
    assert model_name(str(name)) == name


def test_an_architecture_is_no_such_name() -> None:
    assert model_name("resnet18") is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("timm:", "expected one of timm:NAME, torchvision:NAME, transformers:NAME, peft:NAME, transfor"),
        (":make", "expected one of"),
        ("timm:hf-hub:somebody/resnet", "expected one of"),
        ("timm:local-dir:/tmp", "expected one of"),
        ("models:ma-ke()", "expected one of"),
        ("timm:resnet18?x", "bad query field: 'x'"),
        ("timm:resnet18?a=1&a=2", "an option is given twice"),
        ("timm:resnet18?_x=1", "option '_x': expected a parameter's name"),
        ("timm:resnet18?pretrained=true", "option 'pretrained': expected none that reads weights or code"),
        ("timm:resnet18?checkpoint_path=x", "option 'checkpoint_path': expected none"),
        ("torchvision:resnet18?weights=DEFAULT", "option 'weights': expected none"),
        ("transformers:bert?attn_implementation=somebody", "option 'attn_implementation': expected none"),
        ("transformers:bert?quantization_config={\"a\": 1}", "option 'quantization_config': expected none"),
        ("transformers:bert?experts=somebody/kernel", "option 'experts' = 'somebody/kernel': expected no place of a f"),
    ],
)  # fmt: skip
def test_what_no_experiment_may_ask_for_is_refused_before_anything_is_imported(text: str, reason: str) -> None:
    with pytest.raises(ExperimentError, match=r"^test: task.model = "):
        validate({"task": {"model": text}}, "test")
    with pytest.raises(ValueError, match=r"^task.model = ") as caught:
        model_name(text)
    assert reason in str(caught.value)


def test_one_model_has_one_name() -> None:
    named = validate({"task": {"model": 'timm:resnet18?a=[ "b" ]&c=%22d%22'}}, "test")
    assert named.task.model == "timm:resnet18?a=[%22b%22]&c=d"
    assert validate(named.model_dump(), "test") == named


def test_a_folders_config_is_in_the_experiment_from_then_on(tmp_path: Path) -> None:
    (tmp_path / "bert").mkdir()
    config = {**TINY_BERT, "model_type": "bert", "_name_or_path": "some/where", "bos_token_id": None}
    (tmp_path / "bert" / "config.json").write_text(json.dumps(config))
    (tmp_path / "experiment.toml").write_text('[task]\nmodel = "transformers:./bert?num_labels=5"\n')
    experiment = load(tmp_path / "experiment.toml")
    assert model_name(experiment.task.model) == ModelName("transformers", "bert", TINY_BERT | {"num_labels": 5})


@pytest.mark.parametrize(("config", "reason"), [(None, "No such file"), ("[]", "no config with"), ("{", "no config")])
def test_a_folder_without_a_config_is_named(tmp_path: Path, config: str | None, reason: str) -> None:
    (tmp_path / "bert").mkdir()
    if config is not None:
        (tmp_path / "bert" / "config.json").write_text(config)
    (tmp_path / "experiment.toml").write_text('[task]\nmodel = "transformers:bert/"\n')
    with pytest.raises(ExperimentError, match=f"^task.model = 'transformers:.*/bert': .*config.json.*{reason}"):
        load(tmp_path / "experiment.toml")


def built(text: str, images: tuple[int, int, int] | None = None) -> nn.Module:
    torch.manual_seed(0)
    name = model_name(text)
    assert name is not None
    return build_from_library(name, images)


def norms(model: nn.Module) -> set[type[nn.Module]]:
    return {type(module) for module in model.modules() if "Norm" in type(module).__name__}


@pytest.mark.extras
def test_timms_models_fit_the_images() -> None:
    library("timm")
    model = built("timm:resnet18?norm_layer=groupnorm", (1, 8, 10))
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert all(issubclass(norm, nn.GroupNorm) for norm in norms(model))
    assert built("timm:resnet18?num_classes=7&in_chans=2").get_submodule("fc").out_features == 7


@pytest.mark.extras
def test_torchvisions_models_fit_the_images() -> None:
    library("torchvision")
    model = built("torchvision:resnet18?norm_layer=groupnorm", (3, 32, 10))
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert norms(model) == {nn.GroupNorm}
    assert norms(built("torchvision:resnet18")) == {nn.BatchNorm2d}
    with pytest.raises(ValueError, match="norm_layer = 'x': expected one of batchnorm, groupnorm, instancenorm"):
        built("torchvision:resnet18?norm_layer=x")
    with pytest.raises(ValueError, match="torchvision's models take images of 3 channels, these have 1"):
        built("torchvision:resnet18", (1, 8, 10))


@pytest.mark.extras
def test_transformers_models_are_built_from_their_type_and_options() -> None:
    transformers = library("transformers")
    model = built(str(ModelName("transformers", "bert", TINY_BERT)))
    assert isinstance(model, transformers.BertForSequenceClassification)
    assert model(torch.zeros(2, 5, dtype=torch.int64)).logits.shape == (2, 3)
    for architectures in (None, ["AutoConfig"], ["os"], ["pipeline"]):
        with pytest.raises(ValueError, match=r"architectures = .*: expected a model of transformers, as"):
            built(str(ModelName("transformers", "bert", TINY_BERT | {"architectures": architectures})))
