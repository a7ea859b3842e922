"""Pauses: endless iterators that say, cycle by cycle, whether a side of a stream holds still."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from random import Random

EPOCH_CYCLES = 48
SHARES = (0.0, 0.1, 0.5, 0.9)
"""Shares of paused cycles; an epoch draws one of them."""


def never() -> Iterator[bool]:
    """No pause at all: continuous flow."""
    return itertools.repeat(False)


def random_epochs(rng: Random) -> Iterator[bool]:
    """Epochs of 48 cycles: free flow, rare, even or frequent pauses, and now and then one long pause.

    Two of them, one a side, soon meet in every combination: a full pipeline before a blocked sink, an
    empty one before an eager sink, and the changes between them.
    """
    while True:
        if rng.random() < 0.15:
            yield from itertools.repeat(True, rng.randrange(1, EPOCH_CYCLES))
        share = rng.choice(SHARES)
        for _ in range(EPOCH_CYCLES):
            yield rng.random() < share
