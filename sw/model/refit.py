"""Closed-form re-alignment: linear layers are refitted so that the changed model computes what it used to.

Site by site in network order, on activations of the model as it is changed so far and with the original
model's activations as target:

(a) the site's per-channel affine: f(x) weight + bias towards the LayerNorm's output;
(b) the site's readers (qkv, fc1, head): A = [input in the changed model, 1], T = output in the original one;
(c) the site's writer (fc2 or proj of the block before it): A likewise, and T = its own output, as it arrives
    at the site, plus what the site's input is short of the original's, so that what the residual stream lost
    on the way is put back. It comes first at each site, for (a) and (b) read what it writes; norms that stay
    LayerNorms have it, too.

1x1 convolutions that read a site keep their weights, and a site that runs twice is fitted on its first call.

All are ridge regressions towards the weights W0 that are there: |A W - T|^2 + lambda |W - W0|^2, so
(A^T A + lambda I) W = A^T T + lambda W0 in float64. In (b) and (c) lambda is never less than the power of the
noise that rounding A to int8 adds, so that no weight lives on differences smaller than a code. Every fifth
image is held out to choose lambda; then all images are used.
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
from sw.model.sites import is_site
from sw.model.taps import Seen, Tap, seen
from sw.model.writers import Writer, find_writers
from sw.terminal import progress

RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""lambda as a share of the mean diagonal of A^T A; larger ones are tried last, and no change at all."""
STEPS = ("affine", "readers", "writers")
"""(a), (b), (c)."""
CODES = 127
"""Layers will read int8: the rounding of their inputs is noise, which weights must not amplify."""
HELD_OUT_EVERY = 5
"""One of so many images is held out while lambda is chosen."""


@dataclass(frozen=True, slots=True)
class Equations:
    """The sums of a least-squares problem A W ~ T, or of many side by side; float64.

    Args:
        gram: A^T A, (..., n, n).
        cross: A^T T, (..., n, m).
        noise: The sum of squares of what rounding adds to every column of A, (..., n).
    """

    gram: Tensor
    cross: Tensor
    noise: Tensor

    def __add__(self, other: Equations) -> Equations:
        return Equations(self.gram + other.gram, self.cross + other.cross, self.noise + other.noise)

    def solve(self, prior: Tensor, share: float) -> Tensor:
        """The ridge solution near ``prior``, (..., n, m)."""
        diagonal = self.gram.diagonal(dim1=-2, dim2=-1)
        ridge = share * diagonal.mean(-1, keepdim=True) + self.noise
        return torch.linalg.solve(self.gram + ridge.diag_embed(), self.cross + ridge[..., None] * prior)

    def without_constant(self) -> Equations:
        """The same problem without its last unknown, the one that all rows multiply by 1."""
        return Equations(self.gram[..., :-1, :-1], self.cross[..., :-1, :], self.noise[..., :-1])

    def loss(self, solution: Tensor, prior: Tensor) -> float:
        """|A W - T|^2 but for |T|^2, and what rounding adds to it that the prior does not have."""
        change = self.noise[..., None] * (solution - prior).square()
        return float((solution * (self.gram @ solution - 2 * self.cross) + change).sum())


Parts = tuple[Equations, Equations]
"""Of learning and of held-out images."""


def ridge(learn: Equations, held: Equations, prior: Tensor) -> Tensor:
    """The ridge solution on both parts, with the lambda whose solution on the first does best on the other.

    ``prior`` itself where that does better still.
    """
    losses = {share: held.loss(learn.solve(prior, share), prior) for share in RIDGES}
    best = min(RIDGES, key=losses.__getitem__)
    return (learn + held).solve(prior, best) if losses[best] < held.loss(prior, prior) else prior


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
        model: The changed model, in eval mode; a reader without a bias gets one.
        original: The model with LayerNorm, in eval mode.
        plans: Site -> fold plan, in the order in which the sites run.
        images: Calibration images, used as they are, without labels.
        limit: Images used at most.
        upto: ``affine``: (a) alone; ``readers``: (b), too, for sites whose affine folds; ``writers``: all.

    Raises:
        InputError: There is no such step.
    """
    if upto not in STEPS:
        raise InputError(f"refit goes up to one of {', '.join(STEPS)}, not '{upto}'")
    data = _Data(model, original, images, limit)
    sites: Mapping[str, Writer | None] = dict.fromkeys(plans)
    if upto == "writers":
        norms = [name for name, module in original.named_modules() if is_site(module)]
        sites = find_writers(original, {*plans, *norms}, data.first())
    with torch.no_grad(), progress("refit", len(sites)) as step:
        for site, writer in sites.items():
            if writer is not None:
                _refit_linear(model, writer.layer, data.written(site, writer), writer.gain)
            if site in plans:
                _refit_site(model, site, plans[site] if upto != "affine" else None, data)
            step(site)


Rows = tuple[Tensor, Tensor]
"""A and T."""
Sums = Callable[[Tensor, Tensor], Equations]
"""(input in the changed model, output in the original one) -> the problem's sums over all their rows."""


def _linear(x: Tensor, target: Tensor) -> Equations:
    x, target = x.double().flatten(0, -2), target.double().flatten(0, -2)
    a = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
    noise = a.new_zeros(a.shape[1])
    noise[:-1] = (x.abs() / CODES).square().amax() / 12 * len(x) if len(x) else 0.0
    return Equations(a.T @ a, a.T @ target, noise)


def _channelwise(norm: ScalarNorm) -> Sums:
    """A problem of two unknowns, weight and bias, for every channel."""

    def sums(x: Tensor, target: Tensor) -> Equations:
        f, t = (v.double().movedim(norm.dim, -1).flatten(0, -2) for v in (evaluate(norm.expr, x), target))
        a = torch.stack([f, torch.ones_like(f)], dim=-1)
        cross = torch.einsum("rci,rc->ci", a, t)
        return Equations(torch.einsum("rci,rcj->cij", a, a), cross[..., None], torch.zeros_like(cross))

    return sums


def _refit_site(model: nn.Module, site: str, plan: FoldPlan | None, data: _Data) -> None:
    """(a), and with a plan (b)."""
    norm = model.get_submodule(site)
    if isinstance(norm, ScalarNorm):
        _refit_affine(norm, data.equations([site], _channelwise(norm)))
    consumers = plan.consumers if plan else ()
    linears = [name for name in consumers if isinstance(model.get_submodule(name), nn.Linear)]
    if linears:
        for name, parts in data.equations(linears, _linear).items():
            layer = model.get_submodule(name)
            if layer.bias is None:
                layer.bias = nn.Parameter(torch.zeros_like(layer.get_parameter("weight")[:, 0]))
            _refit_linear(model, name, parts)


def _refit_affine(norm: ScalarNorm, parts: Mapping[str, Parts]) -> None:
    prior = torch.stack([norm.weight, norm.bias], dim=-1).double()[..., None]
    for learn, held in parts.values():
        solution = ridge(learn, held, prior)
        norm.weight.copy_(solution[:, 0, 0])
        norm.bias.copy_(solution[:, 1, 0])


def _refit_linear(model: nn.Module, name: str, parts: Parts, gain: Tensor | None = None) -> None:
    """Solve for a layer's weight and, where it has one, its bias.

    With ``gain``, per output channel, the problem is stated for the output times it; where it is 0, the layer
    stays as it is.
    """
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear), name
    own = layer.weight if layer.bias is None else torch.cat([layer.weight, layer.bias[:, None]], dim=1)
    learn, held = parts if layer.bias is not None else (part.without_constant() for part in parts)
    prior, scale = own.double().T, torch.ones_like(own[:, 0]).double() if gain is None else gain.double()
    solution = ridge(learn, held, prior * scale)
    found = torch.where(scale != 0, solution / scale, prior).T
    layer.weight.copy_(found[:, : layer.in_features])
    if layer.bias is not None:
        layer.bias.copy_(found[:, -1])


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
        """Every named module's input in the changed model and output in the original one, where it runs."""
        inputs, outputs = ([Tap(name, side) for name in names] for side in ("input", "output"))

        def rows(changed: Seen, original: Seen) -> dict[str, Rows]:
            pairs = zip(inputs, outputs, strict=True)
            return {x.module: (changed[x], original[y]) for x, y in pairs if x in changed and y in original}

        return self._parts(inputs, outputs, rows, sums)

    def written(self, site: str, writer: Writer) -> Parts:
        """A writer's input, and what should arrive from it at the site."""
        layer, goal = writer.layer, Tap(site, "input")

        def rows(changed: Seen, original: Seen) -> dict[str, Rows]:
            output, short = changed[Tap(layer, "output")], original[goal] - changed[goal]
            return {layer: (changed[Tap(layer, "input")], output * writer.gain + short.reshape_as(output))}

        return self._parts([Tap(layer, "input"), Tap(layer, "output"), goal], [goal], rows, _linear)[layer]

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
