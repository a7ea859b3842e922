"""Putting the evolved functions where the LayerNorms were."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from sw.files import read_json
from sw.ir.errors import InputError
from sw.ir.parse import parse
from sw.model.fold import FoldPlan
from sw.model.scalar_norm import ScalarNorm
from sw.model.sites import affine, channel_dim, find_sites, replace_module, unknown_site
from sw.run_dir import RunDir

TOKENS = ("cls_token", "dist_token", "reg_token", "register_tokens", "pos_embed")
"""timm's names of the parameters that make a token the same in every image."""


def swap(model: nn.Module, functions: Mapping[str, Mapping[str, Any]]) -> None:
    """Replace the LayerNorm of every site by its function, in place.

    LN(x) = gamma y + beta and y ~ scale f(x) + offset, so the new layer computes f(x) weight + bias with
    weight = gamma scale and bias = beta + gamma offset. Where a function has exceptions at single codes,
    the parameters that put tokens there are no longer trained, so that the exceptions stay right.

    Args:
        model: With LayerNorm at every site.
        functions: Site -> ``expression``, ``scale``, ``offset`` and ``exceptions`` (how many; absent: none),
            as in ``functions.json``.

    Raises:
        InputError: A site is not in the model, or an expression is not a formula.
    """
    norms = find_sites(model)
    for site, entry in functions.items():
        if site not in norms:
            raise InputError(unknown_site(site, list(norms)))
        gamma, beta = affine(norms[site], next(model.parameters()))
        weight = gamma * float(entry["scale"])
        bias = beta + gamma * float(entry["offset"])
        layer = ScalarNorm(parse(str(entry["expression"])), weight, bias, channel_dim(norms[site]))
        replace_module(model, site, layer)
    if any(entry.get("exceptions") for entry in functions.values()):
        for name in TOKENS:
            parameter = getattr(model, name, None)
            if isinstance(parameter, nn.Parameter):
                parameter.requires_grad_(False)


def read_chosen(run: RunDir) -> dict[str, dict[str, Any]]:
    """The function of every captured site, as evolution chose it.

    Raises:
        InputError: A captured site has no function, or a function no captured site.
    """
    return _checked(run, run.read_evolved(), run.evolved)


def read_settled(run: RunDir) -> dict[str, dict[str, Any]]:
    """The function of every captured site, as re-alignment left it, likewise."""
    return _checked(run, run.read_functions(), run.functions)


def _checked(run: RunDir, functions: dict[str, dict[str, Any]], path: Path) -> dict[str, dict[str, Any]]:
    captured = read_plans(run)
    for site in captured:
        if site not in functions:
            raise InputError(f"'{path}' must have a function for site '{site}'; evolve it first")
    for site in functions:
        if site not in captured:
            raise InputError(f"'{path}' must have captured sites only, and '{site}' is none")
    return functions


def read_plans(run: RunDir) -> dict[str, FoldPlan]:
    """The fold plan of every captured site, in the order in which the sites run."""
    sites = read_json(run.capture_stats)["sites"]
    return {site: FoldPlan.from_json(entry) for site, entry in sites.items()}
