"""What modules take and give in one forward pass, which ends as soon as all of it has been seen."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Tap:
    """A module's first ``input`` or its ``output``."""

    module: str
    side: str


Seen = dict[Tap, Tensor]


class _AllSeen(BaseException):
    """The rest of the network need not run. No ``Exception``, which a model might catch."""


def seen(model: nn.Module, taps: Collection[Tap], images: Tensor) -> Seen:
    """Run a model until every tap has been seen once.

    Args:
        model: A forward pass of it calls every module that is tapped.
        taps: What to keep.
        images: A batch that the model takes.
    """
    found: Seen = {}
    with _hooks(model, taps, found), contextlib.suppress(_AllSeen):
        model(images)
    return found


@contextlib.contextmanager
def _hooks(model: nn.Module, taps: Collection[Tap], found: Seen) -> Iterator[None]:
    def keep(tap: Tap, value: Tensor) -> None:
        found.setdefault(tap, value)
        if len(found) == len(taps):
            raise _AllSeen

    def before(tap: Tap) -> Callable[..., None]:
        return lambda module, args: keep(tap, args[0])

    def after(tap: Tap) -> Callable[..., None]:
        return lambda module, args, output: keep(tap, output)

    handles: list[Any] = []
    for tap in taps:
        module = model.get_submodule(tap.module)
        if tap.side == "input":
            handles.append(module.register_forward_pre_hook(before(tap)))
        else:
            handles.append(module.register_forward_hook(after(tap)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
