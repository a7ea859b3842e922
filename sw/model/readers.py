"""Who reads a norm's output: one forward pass in which the outputs of all norms are followed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode, resolve_name

REARRANGING = frozenset(
    {"__getitem__", "select", "index_select", "narrow", "chunk", "split", "tensor_split", "unbind", "gather"}
    | {"reshape", "view", "view_as", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "expand_as"}
    | {
        "permute",
        "transpose",
        "swapaxes",
        "movedim",
        "roll",
        "flip",
        "contiguous",
        "clone",
        "detach",
        "dropout",
    }
    | {"cat", "concat", "stack", "to", "float", "double", "type_as"}
)
"""Functions that only choose or permute elements, so a per-channel affine passes through them."""
AVERAGING = frozenset(["mean"])
"""Functions that an affine passes through, but whose output is not an output code any more."""


@dataclass(slots=True)
class Readers:
    """What one norm's output reaches."""

    consumers: dict[str, bool] = field(default_factory=dict)
    """Linear or 1x1 convolution -> whether tokens are averaged on the way."""
    other: list[str] = field(default_factory=list)
    """Anything else that reads it, such as ``add``."""
    calls: int = 0
    """How often the norm ran."""


@dataclass(frozen=True, slots=True)
class _Mark:
    site: str
    averaged: bool


class _Follow(TorchFunctionMode):
    """Follows marked tensors through every torch function."""

    def __init__(self, owners: Mapping[int, str], sites: Iterable[str]) -> None:
        super().__init__()
        self.owners = owners
        self.found = {site: Readers() for site in sites}
        self.marks: dict[int, _Mark] = {}
        self.alive: list[Tensor] = []  # an id is only unique while its object lives
        self.fed: dict[str, set[str]] = {}
        self.inside = 0

    def mark(self, tensor: Tensor, mark: _Mark) -> None:
        self.marks[id(tensor)] = mark
        self.alive.append(tensor)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self.inside:
            return result
        tensors = list(_tensors([args, kwargs]))
        marks = [self.marks.get(id(t)) for t in tensors]
        outputs = list(_tensors([result]))
        if func in (functional.linear, functional.conv2d):
            self._consume(tensors, marks)
        elif outputs and any(marks):
            self._pass(func, marks, outputs)
        return result

    def _consume(self, tensors: list[Tensor], marks: list[_Mark | None]) -> None:
        mark = marks[0]
        owner = self.owners.get(id(tensors[1]))
        if owner is not None:
            self.fed.setdefault(owner, set()).add(mark.site if mark else "")
        if mark is not None:
            if owner is None:
                what = (
                    "a convolution with a window" if tensors[1].ndim > 2 else "a product that no Linear makes"
                )
                self.found[mark.site].other.append(what)
            else:
                consumers = self.found[mark.site].consumers
                consumers[owner] = consumers.get(owner, False) or mark.averaged

    def _pass(self, func: Callable[..., Any], marks: list[_Mark | None], outputs: list[Tensor]) -> None:
        name = (resolve_name(func) or getattr(func, "__name__", str(func))).rpartition(".")[2]
        present = [m for m in marks if m is not None]
        same = len({m.site for m in present}) == 1
        pure = len(present) == len(marks) or name in ("__getitem__", "gather", "index_select")
        if same and pure and name in REARRANGING | AVERAGING:
            averaged = name in AVERAGING or any(m.averaged for m in present)
            for tensor in outputs:
                self.mark(tensor, _Mark(present[0].site, averaged))
            return
        for m in present:
            if name not in self.found[m.site].other:
                self.found[m.site].other.append(name)


def trace_readers(model: nn.Module, sites: Iterable[str], images: Tensor) -> dict[str, Readers]:
    """Follow every site's output through one forward pass.

    Args:
        model: In eval mode.
        sites: Names of norm modules.
        images: A batch that the model takes.

    Returns:
        Site -> its readers, in the order in which the sites ran. What reads it is structure only; that the
        affine can really move into the consumers is for ``sw.model.fold`` to prove.
    """
    owners = {
        id(m.weight): name
        for name, m in model.named_modules()
        if isinstance(m, nn.Linear)
        or (isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1) and m.groups == 1)
    }
    follow = _Follow(owners, sites)
    order: list[str] = []
    handles = []
    for site in follow.found:
        module = model.get_submodule(site)
        handles.append(module.register_forward_pre_hook(lambda *_: _enter(follow)))
        handles.append(module.register_forward_hook(_leaver(follow, site, order)))
    try:
        with torch.no_grad(), follow:
            outputs = model(images)
    finally:
        for handle in handles:
            handle.remove()
    _finish(follow, outputs)
    unseen = [site for site in follow.found if site not in order]
    return {site: follow.found[site] for site in [*dict.fromkeys(order), *unseen]}


def _finish(follow: _Follow, outputs: Any) -> None:
    """Readers that show only at the end: the model's output, and layers with several inputs."""
    for tensor in _tensors([outputs]):
        mark = follow.marks.get(id(tensor))
        if mark is not None:
            follow.found[mark.site].other.append("the model's output, for there is no head")
    for owner, fed_by in follow.fed.items():
        if len(fed_by) > 1:
            for site in fed_by - {""}:
                follow.found[site].other.append(f"'{owner}', which has other inputs too")


def _enter(follow: _Follow) -> None:
    follow.inside += 1


def _leaver(follow: _Follow, site: str, order: list[str]) -> Callable[..., None]:
    def leave(module: nn.Module, args: Any, output: Tensor) -> None:
        follow.inside -= 1
        order.append(site)
        follow.found[site].calls += 1
        follow.mark(output, _Mark(site, averaged=False))

    return leave


def _tensors(items: Iterable[Any]) -> Iterable[Tensor]:
    for item in items:
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, (list, tuple)):
            yield from _tensors(item)
        elif isinstance(item, dict):
            yield from _tensors(item.values())
