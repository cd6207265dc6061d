"""A small transformer that classifies sequences."""

import torch
from torch import Tensor, nn


class Transformer(nn.Module):
    """Embeddings of symbols and positions, two pre-norm encoder layers, mean over positions, one linear layer.

    Vaswani et al. 2017, with the norm first (Xiong et al. 2020); 4 heads, feed-forward layers of twice the width,
    and no dropout.
    """

    def __init__(self, symbols: int, length: int, classes: int, *, width: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.symbols = nn.Embedding(symbols, width)
        self.positions = nn.Parameter(torch.randn(length, width))  # as large as the symbols' embeddings
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, classes)

    def forward(self, sequences: Tensor) -> Tensor:
        """Return logits (batch, classes) of int64 sequences (batch, length)."""
        states = self.symbols(sequences) + self.positions
        for layer in self.layers:
            states = layer(states)
        logits: Tensor = self.classifier(self.norm(states).mean(dim=1))
        return logits
