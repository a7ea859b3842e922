"""Closed-form start of re-alignment: every reader of a norm is refitted to what it used to compute.

Site by site in network order, with A = [input of the reader in the changed model, 1], T = the reader's output
in the original model and W0 = its weight and bias: minimise |A W^T - T|^2 + lambda |W - W0|^2, a ridge
regression whose normal equations are (A^T A + lambda I) W^T = A^T T + lambda W0^T.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sw.model.data import Images
from sw.model.fold import FoldPlan
from sw.model.runtime import device
from sw.terminal import progress

RIDGE = 1e-3
"""lambda as a share of the mean diagonal of A^T A."""


def refit(
    model: nn.Module, original: nn.Module, plans: Mapping[str, FoldPlan], images: Images, limit: int
) -> None:
    """Refit the consumers of every foldable site, in place.

    Args:
        model: The changed model, in eval mode.
        original: The model with LayerNorm, in eval mode.
        plans: Site -> fold plan, in the order in which the sites run.
        images: Training-side images, used as they are.
        limit: Images used at most.
    """
    with torch.no_grad(), progress("refit", len(plans)) as step:
        for site, plan in plans.items():
            linears = [n for n in plan.consumers if isinstance(model.get_submodule(n), nn.Linear)]
            for name, (gram, cross) in _normal_equations(model, original, linears, images, limit).items():
                _solve(model.get_submodule(name), gram, cross)
            step(site)


def _normal_equations(
    model: nn.Module, original: nn.Module, names: Iterable[str], images: Images, limit: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """A^T A, (D+1, D+1), and A^T T, (D+1, O), of every named Linear, float64."""
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    sums: dict[str, tuple[Tensor, Tensor]] = {}
    handles = []
    for name in names:
        handles.append(model.get_submodule(name).register_forward_pre_hook(_keep_input(inputs, name)))
        handles.append(original.get_submodule(name).register_forward_hook(_keep_output(outputs, name)))
    try:
        for batch, _ in images.batches(limit=limit) if handles else ():
            where = batch.to(device())
            model(where)
            original(where)
            for name, x in inputs.items():
                a = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
                gram, cross = a.T @ a, a.T @ outputs[name]
                if name in sums:
                    gram, cross = gram + sums[name][0], cross + sums[name][1]
                sums[name] = gram, cross
    finally:
        for handle in handles:
            handle.remove()
    return sums


def _solve(layer: nn.Module, gram: Tensor, cross: Tensor) -> None:
    assert isinstance(layer, nn.Linear)
    old_bias = torch.zeros_like(layer.weight[:, 0]) if layer.bias is None else layer.bias
    old = torch.cat([layer.weight, old_bias[:, None]], dim=1).double()
    ridge = RIDGE * gram.diagonal().mean()
    left = gram + ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    solution = torch.linalg.solve(left, cross + ridge * old.T).T
    layer.weight.copy_(solution[:, :-1])
    if layer.bias is None:
        layer.bias = nn.Parameter(torch.zeros_like(layer.weight[:, 0]))
    layer.bias.copy_(solution[:, -1])


def _keep_input(store: dict[str, Tensor], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        store[name] = args[0].double().flatten(0, -2)

    return hook


def _keep_output(store: dict[str, Tensor], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        store[name] = output.double().flatten(0, -2)

    return hook
