"""A language model of any size as a task of its own: all of it trains, or low-rank adapters on what is frozen do."""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from lotteryfl import Experiment, objectives

objective = objectives.LanguageModelling(shift=True)


class Adapted(nn.Module):
    """A frozen linear layer, and a product of two small matrices beside it; without a rank, the layer alone."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs)
        self.down = nn.Linear(inputs, rank, bias=False) if rank else None
        self.up = nn.Linear(rank, outputs, bias=False) if rank else None

    def forward(self, inputs: Tensor) -> Tensor:
        """Return both together."""
        outputs: Tensor = self.base(inputs)
        return outputs if self.down is None or self.up is None else outputs + self.up(self.down(inputs))


class Block(nn.Module):
    """Attention with adapters on queries, keys and values, as GPT-2's, and a perceptron."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.qkv = Adapted(width, 3 * width, rank)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, states: Tensor) -> Tensor:
        """Return the states after the block."""
        count, length, width = states.shape
        heads = self.qkv(self.norms[0](states)).view(count, length, 3, -1, 64).permute(2, 0, 3, 1, 4)
        queries, keys, values = heads
        seen = scaled_dot_product_attention(queries, keys, values, is_causal=True)
        states = states + self.out(seen.transpose(1, 2).reshape(count, length, width))
        after: Tensor = states + self.mlp(self.norms[1](states))
        return after


class Decoder(nn.Module):
    """Of the form of GPT-2 medium, with the embedding as the head."""

    def __init__(self, words: int, width: int, layers: int, rank: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(width, rank) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, words: Tensor) -> Tensor:
        """Return logits (batch, length, words)."""
        states: Tensor = self.embedding(words)
        for block in self.blocks:
            states = block(states)
        logits: Tensor = self.norm(states) @ self.embedding.weight.T
        return logits


def model(experiment: Experiment) -> nn.Module:
    """Build the model; with a rank, all but its adapters is frozen."""
    options = experiment.task.options
    words, width, layers, rank = (int(options[key]) for key in ("words", "width", "layers", "rank"))
    decoder = Decoder(words, width, layers, rank)
    for name, parameter in decoder.named_parameters():
        parameter.requires_grad = not rank or ".down." in name or ".up." in name
    return decoder


def client(k: int, experiment: Experiment) -> list[tuple[Tensor, Tensor]]:
    """Return a few sentences at random."""
    generator = torch.Generator().manual_seed(k)
    sentences = torch.randint(int(experiment.task.options["words"]), (8, 16), generator=generator)
    return [(part, part) for part in torch.split(sentences, [4, 2, 2])]
