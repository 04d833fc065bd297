"""What to do when the device runs out of memory: the same work once more in smaller pieces, then a clean failure."""

from collections.abc import Callable
from typing import TypeVar

import torch

from penstock.errors import TrainingError

OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)
PARTS = 2
T = TypeVar("T")


class Memory:
    """Divides work so that it fits a device. `parts`: into how many pieces, 1 until memory has run out once."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.parts = device, 1

    def run(self, work: Callable[[int], T]) -> T:
        """Call `work` with the number of pieces to take it in; where memory runs out, once more with twice as many.

        From then on everything is taken in that many, so that a round meets the end of its memory once.

        Raises:
            TrainingError: it does not fit in smaller pieces either.
        """
        try:
            return work(self.parts)
        except OUT_OF_MEMORY as error:
            said = str(error).partition("\n")[0]
        # Only here have the failed attempt's tensors been let go, with the traceback that held them.
        if self.parts == 1:
            self.parts = PARTS
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            try:
                return work(self.parts)
            except OUT_OF_MEMORY as error:
                said = str(error).partition("\n")[0]
        raise TrainingError(
            f"device {self.device} is out of memory ({said}), with every batch in {self.parts} pieces too; nothing of "
            "this round was kept; lower training.batch_requests or text.max_tokens, or free the device"
        )
