"""A uniform sample of everything learned so far, replayed beside the new (reservoir: Vitter, 1985, Algorithm R)."""

import numpy as np

from penstock.features.examples import Examples, Labelled

Batch = Examples | Labelled


def join(parts: list[Batch]) -> Batch:
    """Batches of one kind, one after the other."""
    return type(parts[0]).join(parts)  # type: ignore[arg-type]


def pieces(batch: Batch, parts: int) -> list[Batch]:
    """A batch in at most `parts` pieces of about one size, none of them empty."""
    size = max(1, -(-len(batch) // parts))
    return [batch.take(slice(start, start + size)) for start in range(0, len(batch), size)]


class Reservoir:
    """At most `capacity` past requests, each equally likely to be kept."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.seen = capacity, 0
        self.kept: Batch | None = None

    def __len__(self) -> int:
        return 0 if self.kept is None else len(self.kept)

    def add(self, examples: Batch, random: np.random.Generator) -> None:
        """Offer new requests: the n-th ever offered takes a random one of n slots, if that is within capacity."""
        count = len(examples)
        if not count or not self.capacity:
            return
        room = min(self.capacity - len(self), count)
        have = len(self)
        pool = examples if self.kept is None else join([self.kept, examples])
        index = np.arange(have + room)
        for order in range(room, count):
            slot = int(random.integers(self.seen + order + 1))
            if slot < self.capacity:
                index[slot] = have + order
        self.seen += count
        self.kept = pool.take(index)

    def sample(self, count: int, random: np.random.Generator) -> Batch | None:
        """`count` kept requests with replacement, None when there are none."""
        if self.kept is None or not count:
            return None
        return self.kept.take(random.integers(len(self.kept), size=count))
