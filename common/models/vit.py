"""A small vision transformer."""

import torch
from torch import Tensor, nn


class ViT(nn.Module):
    """ViT-Lite-6/4 of Hassani et al. 2021 ("Escaping the Big Data Paradigm with Compact Transformers").

    Patches of 4×4 pixels, of 2×2 where images are smaller than 16×16; width 256, six pre-norm encoder layers with 4
    heads and feed-forward layers of twice the width, a class token, learned positions, and no dropout.
    """

    def __init__(self, channels: int, size: int, classes: int, *, width: int = 256, layers: int = 6) -> None:
        super().__init__()
        patch = 4 if size >= 16 else 2
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1 + (size // patch) ** 2, width))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, classes)."""
        patches = self.patches(images).flatten(2).transpose(1, 2)
        states = torch.cat([self.token.expand(len(patches), -1, -1), patches], dim=1) + self.positions
        for layer in self.layers:
            states = layer(states)
        logits: Tensor = self.classifier(self.norm(states[:, 0]))
        return logits
