"""The network of SASRec (Kang and McAuley, ICDM 2018): causal self-attention over a user's items, id vectors only.

B sequences, L places (the first is the beginning, padded at the end), W width, N items, S items of a softmax.
"""

import torch
from torch import Tensor, nn

from penstock.settings import SasrecSettings


class SasrecNetwork(nn.Module):
    """Item rows to one hidden vector a place; scores are dot products with the item vectors, plus a bias an item.

    Args:
        items: N; row N of the table stands for the beginning of a sequence.
    """

    def __init__(self, items: int, settings: SasrecSettings) -> None:
        super().__init__()
        self.begin = items
        self.item = nn.Embedding(items + 1, settings.width)
        self.place = nn.Embedding(settings.length + 1, settings.width)
        self.bias = nn.Parameter(torch.zeros(items))
        nn.init.normal_(self.item.weight, std=0.02)
        nn.init.normal_(self.place.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(
            settings.width,
            settings.heads,
            dim_feedforward=4 * settings.width,
            dropout=settings.dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.blocks = nn.TransformerEncoder(layer, settings.blocks, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(settings.width)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, row_BL: Tensor) -> Tensor:
        """Hidden vectors [B, L, W]; each sees its own place and those before it."""
        length = row_BL.shape[1]
        place_L = torch.arange(length, device=row_BL.device)
        hidden_BLW = self.dropout(self.item(row_BL) * self.item.embedding_dim**0.5 + self.place(place_L))
        future_LL = torch.ones(length, length, dtype=torch.bool, device=row_BL.device).triu(1)
        hidden_BLW = self.blocks(hidden_BLW, mask=future_LL)
        normed_BLW: Tensor = self.norm(hidden_BLW)
        return normed_BLW

    def logits(self, hidden_XW: Tensor, row_S: Tensor | None = None) -> Tensor:
        """Scores [X, S] of items, all N when no rows are named."""
        if row_S is None:
            return hidden_XW @ self.item.weight[: self.begin].T + self.bias
        return hidden_XW @ self.item.weight[row_S].T + self.bias[row_S]
