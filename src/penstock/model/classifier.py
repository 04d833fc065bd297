"""A label for a text: softmax regression on the tuned text vector. B texts, T width of a text vector, K labels."""

import torch
from torch import Tensor, nn

LOGIT_SCALE = 10.0


class Classifier(nn.Module):
    """Logits over labels; the list of labels may grow, new ones starting at zero."""

    def __init__(self, text_width: int, labels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(text_width, labels))
        self.bias = nn.Parameter(torch.zeros(labels))

    def forward(self, text_BT: Tensor) -> Tensor:
        """Logits [B, K]."""
        return LOGIT_SCALE * (text_BT @ self.weight) + self.bias

    def grow(self, labels: int) -> bool:
        """Make room for new labels. True when the layer changed."""
        have = self.weight.shape[1]
        if labels <= have:
            return False
        extra = torch.zeros(len(self.weight), labels - have, device=self.weight.device)
        self.weight = nn.Parameter(torch.cat([self.weight.detach(), extra], 1))
        self.bias = nn.Parameter(torch.cat([self.bias.detach(), extra[0]]))
        return True
