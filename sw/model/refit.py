"""Closed-form re-alignment: linear layers are refitted so that the changed model computes what it used to.

Site by site in network order, on activations of the model as it is changed so far and with the original
model's activations as target:

(a) the site's per-channel affine: f(x) weight + bias towards the LayerNorm's output;
(b) the site's readers (qkv, fc1, head): A = [input in the changed model, 1], T = output in the original one;
(c) the site's writer (fc2 or proj of the block before it): A likewise, and T = its own output plus what the
    site's input is short of the original's, so that what the residual stream lost on the way is put back.
    It comes first at each site, for (a) and (b) read what it writes.

All are ridge regressions towards the weights W0 that are there: |A W - T|^2 + lambda |W - W0|^2, so
(A^T A + lambda I) W = A^T T + lambda W0 in float64. Every fifth image is held out to choose lambda; then all
images are used.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sw.ir.errors import InputError
from sw.model.data import Images
from sw.model.fold import FoldPlan
from sw.model.runtime import device
from sw.model.scalar_norm import ScalarNorm, evaluate
from sw.model.taps import Seen, Tap, seen
from sw.model.writers import Writer, find_writers
from sw.terminal import progress

RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""lambda as a share of the mean diagonal of A^T A; larger ones are tried last, and no change at all."""
STEPS = ("affine", "readers", "writers")
"""(a), (b), (c)."""
HELD_OUT_EVERY = 5
"""One of so many images is held out while lambda is chosen."""


@dataclass(frozen=True, slots=True)
class Equations:
    """The sums of a least-squares problem A W ~ T, or of many side by side; float64.

    Args:
        gram: A^T A, (..., n, n).
        cross: A^T T, (..., n, m).
    """

    gram: Tensor
    cross: Tensor

    def __add__(self, other: Equations) -> Equations:
        return Equations(self.gram + other.gram, self.cross + other.cross)

    def solve(self, prior: Tensor, share: float) -> Tensor:
        """The ridge solution near ``prior``, (..., n, m)."""
        diagonal = self.gram.diagonal(dim1=-2, dim2=-1)
        ridge = share * diagonal.mean(-1, keepdim=True)[..., None]
        eye = torch.eye(self.gram.shape[-1], dtype=self.gram.dtype, device=self.gram.device)
        return torch.linalg.solve(self.gram + ridge * eye, self.cross + ridge * prior)

    def loss(self, solution: Tensor) -> float:
        """|A W - T|^2 but for |T|^2."""
        return float((solution * (self.gram @ solution - 2 * self.cross)).sum())


Parts = tuple[Equations, Equations]
"""Of learning and of held-out images."""


def ridge(learn: Equations, held: Equations, prior: Tensor) -> Tensor:
    """The ridge solution on both parts, with the lambda whose solution on the first does best on the other.

    ``prior`` itself where that does better still.
    """
    losses = {share: held.loss(learn.solve(prior, share)) for share in RIDGES}
    best = min(RIDGES, key=losses.__getitem__)
    return (learn + held).solve(prior, best) if losses[best] < held.loss(prior) else prior


def refit(
    model: nn.Module,
    original: nn.Module,
    plans: Mapping[str, FoldPlan],
    images: Images,
    *,
    limit: int | None = None,
    upto: str = "writers",
) -> None:
    """Refit every site, what reads it and what writes its input, in place.

    Args:
        model: The changed model, in eval mode; a Linear without a bias gets one.
        original: The model with LayerNorm, in eval mode.
        plans: Site -> fold plan, in the order in which the sites run.
        images: Calibration images, used as they are, without labels.
        limit: Images used at most.
        upto: ``affine``: (a) alone; ``readers``: (b), too, for sites whose affine folds; ``writers``: all.
    """
    if upto not in STEPS:
        raise InputError(f"refit goes up to one of {', '.join(STEPS)}, not '{upto}'")
    steps = STEPS[: STEPS.index(upto) + 1]
    data = _Data(model, original, images, limit)
    with torch.no_grad(), progress("refit", len(plans)) as step:
        writers = find_writers(original, plans, data.first()) if "writers" in steps else {}
        for site, plan in plans.items():
            if site in writers:
                _refit_linears(model, [writers[site].layer], data.written(site, writers[site]))
            norm = model.get_submodule(site)
            if isinstance(norm, ScalarNorm):
                _refit_affine(norm, data.equations([site], _channelwise(norm)))
            linears = [n for n in plan.consumers if isinstance(model.get_submodule(n), nn.Linear)]
            if "readers" in steps and linears:
                _refit_linears(model, linears, data.equations(linears, _linear))
            step(site)


Rows = tuple[Tensor, Tensor]
"""A and T."""
Sums = Callable[[Tensor, Tensor], Equations]
"""(input in the changed model, output in the original one) -> the problem's sums over all their rows."""


def _linear(x: Tensor, target: Tensor) -> Equations:
    x, target = x.double().flatten(0, -2), target.double().flatten(0, -2)
    a = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
    return Equations(a.T @ a, a.T @ target)


def _channelwise(norm: ScalarNorm) -> Sums:
    """A problem of two unknowns, weight and bias, for every channel."""

    def sums(x: Tensor, target: Tensor) -> Equations:
        f, t = (v.double().movedim(norm.dim, -1).flatten(0, -2) for v in (evaluate(norm.expr, x), target))
        a = torch.stack([f, torch.ones_like(f)], dim=-1)
        return Equations(torch.einsum("rci,rcj->cij", a, a), torch.einsum("rci,rc->ci", a, t)[..., None])

    return sums


def _refit_affine(norm: ScalarNorm, parts: Mapping[str, Parts]) -> None:
    prior = torch.stack([norm.weight, norm.bias], dim=-1).double()[..., None]
    for learn, held in parts.values():
        solution = ridge(learn, held, prior)
        norm.weight.copy_(solution[:, 0, 0])
        norm.bias.copy_(solution[:, 1, 0])


def _refit_linears(model: nn.Module, names: Sequence[str], parts: Mapping[str, Parts]) -> None:
    for name in names:
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear), name
        if layer.bias is None:
            layer.bias = nn.Parameter(torch.zeros_like(layer.weight[:, 0]))
        prior = torch.cat([layer.weight, layer.bias[:, None]], dim=1).double().T
        solution = ridge(*parts[name], prior).T
        layer.weight.copy_(solution[:, :-1])
        layer.bias.copy_(solution[:, -1])


@dataclass(frozen=True, slots=True)
class _Data:
    """Both models and the images that run through them."""

    model: nn.Module
    original: nn.Module
    images: Images
    limit: int | None

    def first(self) -> Tensor:
        """The first batch."""
        return next(batch for batch, _ in self.images.batches(limit=self.limit)).to(device())

    def equations(self, names: Sequence[str], sums: Sums) -> dict[str, Parts]:
        """Every named module's input in the changed model and output in the original one."""
        taps = [Tap(name, "input") for name in names], [Tap(name, "output") for name in names]

        def rows(changed: Seen, original: Seen) -> dict[str, Rows]:
            return {name: (changed[Tap(name, "input")], original[Tap(name, "output")]) for name in names}

        return self._parts(*taps, rows, sums)

    def written(self, site: str, writer: Writer) -> dict[str, Parts]:
        """A writer's input, and the output that would give the site its original input."""
        layer, goal = writer.layer, Tap(site, "input")

        def rows(changed: Seen, original: Seen) -> dict[str, Rows]:
            output, short = changed[Tap(layer, "output")], (original[goal] - changed[goal]) / writer.gain
            return {layer: (changed[Tap(layer, "input")], output + short.reshape_as(output))}

        return self._parts([Tap(layer, "input"), Tap(layer, "output"), goal], [goal], rows, _linear)

    def _parts(
        self,
        changed: Sequence[Tap],
        original: Sequence[Tap],
        rows: Callable[[Seen, Seen], dict[str, Rows]],
        sums: Sums,
    ) -> dict[str, Parts]:
        """The sums over learning and over held-out images of what ``rows`` makes of a batch."""
        found: dict[str, Parts] = {}
        counter = itertools.count()
        for batch, _ in self.images.batches(limit=self.limit):
            is_held = torch.tensor([next(counter) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1 for _ in batch])
            where = batch.to(device())
            made = rows(seen(self.model, changed, where), seen(self.original, original, where))
            for name, (x, target) in made.items():
                learn, held = (sums(_of(x, m), _of(target, m)) for m in (~is_held, is_held))
                old = found.get(name)
                found[name] = (old[0] + learn, old[1] + held) if old else (learn, held)
        return found


def _of(values: Tensor, images: Tensor) -> Tensor:
    """The part of some images; a window of one, as Swin has them, counts as its image."""
    mask = images.repeat_interleave(len(values) // len(images))
    return values[mask.to(values.device)]
