import pytest
import torch
from torch import nn

from lotteryfl.common.models import DATASETS, FEATURES, IMAGES, SEQUENCES, architectures, create_model
from lotteryfl.common.models.pooling import max_pool
from lotteryfl.common.pruning.prune import get_prune_params, make_permanent, prune_fixed_amount

# Those with another norm, and the vision transformer, only by two data sets: they take seconds.
FEW = ("-gn", "vit")
DISTINCT = {numbers: dataset for dataset, numbers in reversed(DATASETS.items())}
"""One data set of each kind of inputs and number of classes."""

EVERY_MODEL = [
    (dataset, name)
    for dataset in DISTINCT.values()
    for name in architectures(dataset)
    if not name.endswith(FEW) or dataset in ("digits", "cifar10")
]


def inputs_of(dataset: str, count: int) -> torch.Tensor:
    if dataset in IMAGES:
        channels, size, _ = IMAGES[dataset]
        return torch.randn(count, channels, size, size)
    if dataset in FEATURES:
        return torch.randn(count, FEATURES[dataset][0])
    symbols, length, _ = SEQUENCES[dataset]
    return torch.randint(symbols, (count, length))


def parameter_count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("dataset", "architecture"), EVERY_MODEL)
def test_every_architecture_learns_from_every_data_set_of_its_kind(dataset: str, architecture: str) -> None:
    torch.manual_seed(0)
    model = create_model(dataset, architecture)

    logits = model(inputs_of(dataset, 3))

    assert logits.shape == (3, DATASETS[dataset][-1])
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
        ("cifar10", "resnet18-gn", 11_173_962),  # a scale and a shift for each channel, as batch norm has
        ("cifar10", "vit", 3_195_146),  # Hassani et al. 2021: 3.19 M
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


@pytest.mark.parametrize(
    ("dataset", "architecture"), [pair for pair in EVERY_MODEL if pair[0] in ("digits", "har", "languages")]
)
def test_initial_values_come_from_the_global_generator_alone(dataset: str, architecture: str) -> None:
    def build(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return create_model(dataset, architecture).state_dict()

    first, again, other = build(1), build(1), build(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"dataset = 'imagenet': expected one of digits, mnist, .*cifar10, .*languages"
    ):
        create_model("imagenet", "mlp")
    with pytest.raises(ValueError, match=r"architecture = 'alexnet': expected one of mlp, .*lenet5.*resnet50"):
        create_model("digits", "alexnet")
    with pytest.raises(ValueError, match=r"architecture = 'vgg11': expected one of mlp, lenet-300-100 for har"):
        create_model("har", "vgg11")


def test_without_dropout_the_papers_cnn_is_the_same_network() -> None:
    def build(architecture: str) -> nn.Module:
        torch.manual_seed(4)
        return create_model("fashion-mnist", architecture)

    dropped, plain = build("cnn"), build("cnn-nodrop")
    assert all(
        torch.equal(one, other)
        for one, other in zip(dropped.state_dict().values(), plain.state_dict().values(), strict=True)
    )
    images = torch.randn(8, 1, 28, 28)
    assert torch.equal(plain.train()(images), dropped.eval()(images))
    assert not torch.equal(dropped.train()(images), plain(images))


@pytest.mark.parametrize("shape", [(3, 2, 8, 8), (1, 1, 7, 5), (2, 3, 2, 9)])
def test_pooling_without_gradients_is_torchs(shape: tuple[int, ...]) -> None:
    maps = torch.randn(shape)
    maps[0, 0, 0, 0] = float("nan")
    expected = nn.functional.max_pool2d(maps, 2)
    assert torch.equal(max_pool(maps).nan_to_num(9), expected.nan_to_num(9))
    assert torch.equal(max_pool(maps.clone().requires_grad_()).nan_to_num(9), expected.nan_to_num(9))


def test_every_matrix_of_the_transformers_attention_is_pruned_and_its_masks_count() -> None:
    torch.manual_seed(0)
    model = create_model("languages", "transformer")
    names = {f"{type(module).__name__}.{name}" for module, name in get_prune_params(model)[0]}
    assert names == {
        "MultiheadAttention.in_proj_weight",
        "NonDynamicallyQuantizableLinear.weight",
        "Linear.weight",
    }
    texts = inputs_of("languages", 4)
    with torch.no_grad():
        for training in (True, False):  # in eval mode torch takes another way through its encoder layers
            model.train(training)
            before = model(texts)
            prune_fixed_amount(model, 0.5, verbose=False)
            pruned = model(texts)
            assert not torch.allclose(before, pruned)
        make_permanent(model)
        torch.testing.assert_close(model(texts), pruned)


def test_a_transformer_sees_the_order_of_its_symbols() -> None:
    torch.manual_seed(0)
    model = create_model("languages", "transformer").eval()
    texts = inputs_of("languages", 4)
    assert not torch.allclose(model(texts), model(texts.flip(1)))


@pytest.mark.parametrize("architecture", ["resnet18-gn", "resnet50-gn"])
def test_with_group_norm_an_image_is_judged_by_itself(architecture: str) -> None:
    torch.manual_seed(0)
    model = create_model("digits", architecture)
    assert list(model.buffers()) == []
    images = inputs_of("digits", 3)
    with torch.no_grad():
        together = model.train()(images)
        torch.testing.assert_close(model(images[:1]), together[:1], rtol=1e-4, atol=1e-5)


def test_the_vision_transformer_sees_where_in_an_image_something_is() -> None:
    torch.manual_seed(0)
    model = create_model("digits", "vit").eval()
    images = inputs_of("digits", 2)
    assert not torch.allclose(model(images), model(images.flip(-1)))
