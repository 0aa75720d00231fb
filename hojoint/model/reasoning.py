"""Contextual reasoning: one region of the image attends to another (Sec. 4.1, Fig. 3, Eq. 1-4).

The query is the object region (choice "o+", reading A1) or the hand region ("h+"); key and value are always the
intersection of the two boxes. Which regions reason is decided in ``network``, not here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hojoint.config import ModelConfig

# Suffixes of locals: B rows, C channels, R cells a side, N = R * R cells, H heads, D = C / H.


class ContextReasoning(nn.Module):
    """Cross-attention over cells, added to the raw query, then a residual MLP after a layer norm.

    As released: no layer norm before the attention, no output projection, no positional embedding, no dropout.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = config.channels
        self.heads = config.attention_heads
        self.query = nn.Conv2d(channels, channels, kernel_size=1)
        self.key = nn.Conv2d(channels, channels, kernel_size=1)
        self.value = nn.Conv2d(channels, channels, kernel_size=1)
        self.norm = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, config.attention_hidden), nn.GELU(), nn.Linear(config.attention_hidden, channels)
        )
        for layer in (self.mlp[0], self.mlp[2]):
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        """Enhanced features F^{o+} (Eq. 4), (B, C, R, R), of query and context features of that shape."""
        attended_BHND = F.scaled_dot_product_attention(
            self._split(self.query(query)),
            self._split(self.key(context)),
            self._split(self.value(context)),
        )
        attended_BNC = attended_BHND.transpose(1, 2).flatten(2)
        residual_BNC = query.flatten(2).transpose(1, 2) + attended_BNC  # Eq. 3
        enhanced_BNC = residual_BNC + self.mlp(self.norm(residual_BNC))
        return enhanced_BNC.transpose(1, 2).reshape(query.shape)

    def attention(self, query: Tensor, context: Tensor) -> Tensor:
        """The softmax weights of Eq. 2 for features (B, C, R, R): (B, N, N), query cell, context cell; mean over heads.

        Rows sum to 1.
        """
        query_BHND, key_BHND = self._split(self.query(query)), self._split(self.key(context))
        scale = query_BHND.shape[-1] ** -0.5
        return torch.softmax(query_BHND @ key_BHND.transpose(2, 3) * scale, dim=-1).mean(dim=1)

    def _split(self, x: Tensor) -> Tensor:
        """(B, C, R, R) to (B, H, N, D)."""
        batch, channels, rows, columns = x.shape
        return x.reshape(batch, self.heads, channels // self.heads, rows * columns).transpose(2, 3)
