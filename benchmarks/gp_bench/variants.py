"""The search with one of its tricks switched off, by patches inside a benchmark's own process."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np

import gp.lowering
import gp.search
import gp.task
import gp.trees
from gp.fitness import UNUSABLE, Scaled, Target

FULL = "full"


class FixedTarget(Target):
    """A target whose outer affine is 1 and 0."""

    def fit(self, f: Any) -> Scaled:
        f = np.asarray(f)
        if f.shape != self.x.shape:
            return UNUSABLE
        error = float(self.weight @ (f - self.y) ** 2) + self.noise
        loss = error + self.growth_penalty * self.penalty(f)
        return Scaled(1.0, 0.0, loss) if np.isfinite(loss) else UNUSABLE


class Forgetful(set[Any]):
    """A set that takes note of things and never admits it."""

    def __contains__(self, thing: object) -> bool:
        return False


def _without_tuning() -> Iterator[Any]:
    yield mock.patch.object(gp.search, "TUNE_STEPS", 0)
    yield mock.patch.object(gp.search, "FINAL_STEPS", 0)


def _without_affine() -> Iterator[Any]:
    free = gp.task.bin_pairs

    def fixed(*args: Any, **options: Any) -> Target:
        made = free(*args, **options)
        return FixedTarget(**{f.name: getattr(made, f.name) for f in dataclasses.fields(made)})

    yield mock.patch.object(gp.task, "bin_pairs", fixed)
    yield mock.patch.object(gp.trees, "_without_affine", lambda nodes: nodes)


def _without_seeds() -> Iterator[Any]:
    yield mock.patch.object(gp.search, "known_trees", list)


def _without_cells() -> Iterator[Any]:
    yield mock.patch.object(gp.lowering.Lowering, "offer", return_value=None)


def _without_clamps() -> Iterator[Any]:
    yield mock.patch.object(gp.lowering.Lowering, "offer_clamps", return_value=None)


def _without_dedup() -> Iterator[Any]:
    init = gp.search._Search.__init__

    def forgetful(self: Any, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        assert isinstance(self._seen, set)
        assert isinstance(self._scored, set)
        self._seen, self._scored = Forgetful(), Forgetful()

    yield mock.patch.object(gp.search._Search, "__init__", forgetful)


def _bare(patches: Callable[[], Iterator[Any]]) -> Callable[[], Iterator[Any]]:
    """The patches of a variant on top of a search that knows no forms, which hide what others give."""
    return lambda: itertools.chain(_without_seeds(), patches())


BARE = "no known forms"
_FROM_BARE: dict[str, Callable[[], Iterator[Any]]] = {
    "constants not tuned": _without_tuning,
    "no free affine in the search": _without_affine,
    "one island": lambda: iter(()),
    "constants off the grid": lambda: iter(()),
    "no deduplication": _without_dedup,
}
PATCHES: dict[str, Callable[[], Iterator[Any]]] = {
    FULL: lambda: iter(()),
    "no cells": _without_cells,
    "no clamps": _without_clamps,
    BARE: _without_seeds,
    **{f"{BARE}, {name}": _bare(patches) for name, patches in _FROM_BARE.items()},
}
SETTINGS: dict[str, dict[str, Any]] = {
    f"{BARE}, one island": {"islands": 1},
    f"{BARE}, constants off the grid": {"csd_digits": 0},
}
"""Settings of a variant that differ from the defaults; the lowering keeps its own digits."""
NO_FORMS = tuple(name for name in PATCHES if name.startswith(BARE))


@contextlib.contextmanager
def applied(variant: str) -> Iterator[None]:
    """Run the block with a trick switched off."""
    with contextlib.ExitStack() as stack:
        for patch in PATCHES[variant]():
            stack.enter_context(patch)
        yield
