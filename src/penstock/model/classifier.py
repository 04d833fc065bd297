"""A label for a text: softmax regression on the tuned text vector. B texts, T width of a text vector, K labels."""

import torch
from torch import Tensor, nn

LOGIT_SCALE = 10.0
UNSEEN_BIAS = -30.0


class Classifier(nn.Module):
    """Logits over labels; the list of labels may grow, new ones at zero weight and out of the running until learned.

    `weight` and `bias` answer and are exported; `start` is where the next fit of the regression begins.
    """

    start: Tensor

    def __init__(self, text_width: int, labels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(text_width, labels))
        self.bias = nn.Parameter(torch.full((labels,), UNSEEN_BIAS))
        self.register_buffer("start", torch.zeros(text_width + 1, labels))

    def forward(self, text_BT: Tensor) -> Tensor:
        """Logits [B, K]."""
        return LOGIT_SCALE * (text_BT @ self.weight) + self.bias

    def grow(self, labels: int) -> bool:
        """Make room for new labels. True when the layer changed."""
        extra = labels - self.weight.shape[1]
        if extra <= 0:
            return False
        self.weight = nn.Parameter(_wider(self.weight.detach(), extra, 0.0))
        self.bias = nn.Parameter(_wider(self.bias.detach()[None], extra, UNSEEN_BIAS)[0])
        self.start = _wider(self.start, extra, 0.0)
        return True


def _wider(table: Tensor, extra: int, value: float) -> Tensor:
    return torch.cat([table, table.new_full((len(table), extra), value)], 1)
