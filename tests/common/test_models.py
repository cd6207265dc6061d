import pytest
import torch
from torch import nn

from common.models import ARCHITECTURES, DATASETS, create_model


def parameter_count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_learns_from_every_image_size(dataset: str, architecture: str) -> None:
    channels, size, classes = DATASETS[dataset]
    torch.manual_seed(0)
    model = create_model(dataset, architecture)

    logits = model(torch.randn(3, channels, size, size))

    assert logits.shape == (3, classes)
    nn.functional.cross_entropy(logits, torch.arange(3)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("dataset", "architecture", "expected"),
    [
        ("mnist", "mlp", 784 * 200 + 200 + 200 * 200 + 200 + 200 * 10 + 10),  # McMahan et al. 2017: 199,210
        ("mnist", "lenet-300-100", 266_610),
        ("mnist", "lenet5", 61_706),
        ("mnist", "cnn", 21_840),
        ("cifar10", "cnn", 62_006),
        ("cifar10", "vgg11", 9_231_114),
        ("cifar10", "vgg13", 9_416_010),
        ("cifar10", "vgg16", 14_728_266),
        ("cifar10", "vgg19", 20_040_522),
        ("cifar10", "resnet18", 11_173_962),
        ("cifar10", "resnet34", 21_282_122),
        ("cifar10", "resnet50", 23_520_842),
    ],
)
def test_sizes_are_the_published_ones(dataset: str, architecture: str, expected: int) -> None:
    with torch.device("meta"):
        assert parameter_count(create_model(dataset, architecture)) == expected


@pytest.mark.parametrize(("architecture", "matrices"), [("vgg16", 14), ("vgg19", 17), ("resnet18", 21)])
def test_depth(architecture: str, matrices: int) -> None:
    # VGG-N has N - 3 convolutions and here one linear layer; ResNet-18: 17 + 1, and 3 projections
    with torch.device("meta"):
        model = create_model("cifar10", architecture)
    assert sum(parameter.dim() >= 2 for parameter in model.parameters()) == matrices


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_the_resnet_stem_keeps_small_images_whole(architecture: str) -> None:
    model = create_model("cifar10", architecture)
    sides = []
    model.get_submodule("stages").register_forward_hook(lambda _, inputs, output: sides.append(output.shape[-1]))
    model.get_submodule("stem").register_forward_hook(lambda _, inputs, output: sides.append(output.shape[-1]))
    model.eval()(torch.zeros(1, 3, 32, 32))
    assert sides == [32, 4]


def test_a_residual_block_adds_its_input() -> None:
    model = create_model("cifar10", "resnet18")
    block = model.get_submodule("stages.0.0").eval()
    with torch.no_grad():
        for parameter in block.get_submodule("branch").parameters():
            parameter.zero_()
    maps = torch.randn(1, 64, 4, 4)
    torch.testing.assert_close(block(maps), maps.relu())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_initial_values_come_from_the_global_generator_alone(architecture: str) -> None:
    def build(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return create_model("digits", architecture).state_dict()

    first, again, other = build(1), build(1), build(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"dataset = 'imagenet': expected one of digits, mnist, fashion-mnist, cifar10"
    ):
        create_model("imagenet", "mlp")
    with pytest.raises(ValueError, match=r"architecture = 'alexnet': expected one of mlp, .*lenet5.*resnet50"):
        create_model("digits", "alexnet")
