"""Stage ``capture``: pairs (x, y) of every norm, and what is known about each site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sw.config import RunConfig
from sw.files import write_json, write_npz
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat, FloatArray
from sw.model.data import Images, limit_to, load_splits
from sw.model.fold import NEVER_RAN, FoldPlan, plan_folds
from sw.model.original import load_original
from sw.model.runtime import device, seed_all
from sw.model.sensitivity import squared_gradients, to_weights
from sw.model.sites import channel_dim, find_sites, pre_affine
from sw.run_dir import RunDir
from sw.stage import Stage
from sw.terminal import progress


@dataclass(slots=True)
class Record:
    """What was seen at one site."""

    x: list[FloatArray] = field(default_factory=list)
    y: list[FloatArray] = field(default_factory=list)
    squares: list[FloatArray] = field(default_factory=list)
    """(dL/dy)^2 of the pairs; none without sensitivity."""
    count: int = 0
    sum: float = 0.0
    sum_squares: float = 0.0
    min: float = np.inf
    max: float = -np.inf

    @property
    def absmax(self) -> float:
        return max(-self.min, self.max, 0.0)

    def statistics(self) -> dict[str, float]:
        """Over all activations seen, not only the pairs kept."""
        mean = self.sum / self.count
        variance = max(0.0, self.sum_squares / self.count - mean**2)
        extremes = {"absmax": self.absmax, "min": self.min, "max": self.max}
        return extremes | {"mean": mean, "std": variance**0.5}


def choose_sites(model: nn.Module, config: RunConfig) -> tuple[dict[str, FoldPlan], dict[str, str]]:
    """Which sites are replaced and which are left alone, both in the order in which they run.

    Prints a line for every norm whose affine cannot fold, saying why and what is done.

    Returns:
        Site -> fold plan of those that are replaced, and site -> reason of those that are not.
    """
    wanted = find_sites(model, config.model.keep_layernorm)
    chosen: dict[str, FoldPlan] = {}
    kept: dict[str, str] = {}
    for site, plan in plan_folds(model).items():
        if site not in wanted:
            kept[site] = "model.keep_layernorm lists it"
        elif plan.reason == NEVER_RAN:
            kept[site] = f"it {plan.reason}"
        elif not plan.foldable and config.model.unfoldable == "keep":
            kept[site] = f"its affine cannot fold, for it {plan.reason}"
            print(f"{site}: the LayerNorm is left alone, because {kept[site]}")
        else:
            chosen[site] = plan
            if not plan.foldable:
                print(f"{site}: the affine stays an explicit stage, because it {plan.reason}")
    return chosen, kept


def record(
    model: nn.Module,
    sites: list[str],
    images: Images,
    *,
    limit: int,
    pairs: int,
    sensitivity: bool = False,
) -> dict[str, Record]:
    """Run images through a model and sample pairs uniformly over images, tokens and channels.

    Args:
        model: In eval mode on its device.
        sites: Names of its LayerNorms.
        images: Read in order.
        limit: Images used at most.
        pairs: Positions kept at each site, drawn from the global generator, in a batch no position twice.
        sensitivity: Also record the squared gradient of every pair; the pairs are the same without.

    Raises:
        InputError: An activation or a gradient at a site is not finite, or a label none of the classes.
    """
    records = {site: Record() for site in sites}
    total, seen = min(limit, len(images)), 0
    with progress("capture", total) as step:
        for loaded, labels in images.batches(limit=limit):
            batch = loaded.to(device())
            # so many of the pairs as this batch has of the images, summing up exactly
            keep = pairs * (seen + len(batch)) // total - pairs * seen // total
            seen += len(batch)
            positions = _observe(model, records, batch, keep)
            if sensitivity:
                squares = squared_gradients(model, positions, batch, labels.to(device()))
                for site, calls in squares.items():
                    records[site].squares.extend(calls)
            step(count=len(batch))
    return records


def _observe(
    model: nn.Module, records: dict[str, Record], batch: Tensor, keep: int
) -> dict[str, list[Tensor]]:
    """Run a batch through a model and add what is seen to the records.

    Returns:
        Site -> for each of its calls, the positions kept.
    """
    positions: dict[str, list[Tensor]] = {site: [] for site in records}

    def observer(site: str) -> Callable[..., None]:
        def hook(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
            assert isinstance(norm, nn.LayerNorm), site
            x = args[0].detach()
            y = pre_affine(x.double(), norm)
            if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
                raise InputError(f"activations at site '{site}' must be finite, and some are NaN or infinite")
            positions[site].append(_add(records[site], x, y, keep))

        return hook

    handles = [model.get_submodule(s).register_forward_pre_hook(observer(s)) for s in records]
    try:
        # a pass of its own, apart from the gradients': with autograd, torch may choose other kernels
        with torch.no_grad():
            model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return positions


def _add(record: Record, x: Tensor, y: Tensor, keep: int) -> Tensor:
    """Add one call of a norm to its record; the positions kept, on the device of ``x``."""
    flat_x, flat_y = x.flatten().double(), y.flatten()
    record.count += flat_x.numel()
    record.sum += float(flat_x.sum())
    record.sum_squares += float(flat_x.square().sum())
    record.min = min(record.min, float(flat_x.min()))
    record.max = max(record.max, float(flat_x.max()))
    picked = _positions(flat_x.numel(), keep).to(flat_x.device)
    record.x.append(flat_x[picked].cpu().numpy())
    record.y.append(flat_y[picked].cpu().numpy())
    return picked


def _positions(available: int, keep: int) -> Tensor:
    """``keep`` different positions, or all there are, uniformly at random."""
    if 8 * keep >= available:
        return torch.randperm(available)[:keep]
    drawn = torch.randint(available, (2 * keep,)).unique()  # a permutation of millions for a few is slow
    return drawn[torch.randperm(len(drawn))[:keep]]


def describe(record: Record, plan: FoldPlan, norm: nn.LayerNorm, config: RunConfig) -> dict[str, Any]:
    """One site's entry of ``captures.json``."""
    x, y = np.concatenate(record.x), np.concatenate(record.y)
    largest = record.absmax * 2.0**config.capture.headroom_bits
    own: dict[str, Any] = {
        "pairs": len(x),
        "channels": int(norm.normalized_shape[0]),
        "channel_dim": channel_dim(norm),
        "eps": float(norm.eps),
        "input": str(FixedFormat.covering(largest, config.unit.in_width)),
        "r2_line": float(np.corrcoef(x, y)[0, 1] ** 2) if np.std(x) > 0 and np.std(y) > 0 else 0.0,
    }
    return own | record.statistics() | plan.to_json()


def _arrays(records: dict[str, Record]) -> dict[str, Any]:
    """What ``captures.npz`` holds: ``<site>_x``, ``<site>_y`` and, with sensitivity, ``<site>_w``."""
    arrays: dict[str, Any] = {}
    for site, seen in records.items():
        arrays[f"{site}_x"] = np.concatenate(seen.x).astype(np.float32)
        arrays[f"{site}_y"] = np.concatenate(seen.y).astype(np.float32)
        if seen.squares:
            arrays[f"{site}_w"] = to_weights(site, np.concatenate(seen.squares)).astype(np.float32)
    return arrays


def _capture(run: RunDir) -> None:
    config = run.config
    model = load_original(run)
    splits = load_splits(config.data, model)
    plans, kept = choose_sites(model, config)
    if not plans:
        raise InputError("model must have at least one site left to replace, and all of them are kept")
    seed_all(config.seed)
    limit = limit_to(splits.calibration, config.capture.images, "capture")
    records = record(
        model,
        list(plans),
        splits.calibration,
        limit=limit,
        pairs=config.capture.pairs,
        sensitivity=config.capture.sensitivity,
    )
    norms = find_sites(model)
    body = {
        "seed": config.seed,
        "images": limit,
        "split": "calibration",
        "pairs": config.capture.pairs,
        "sensitivity": config.capture.sensitivity,
        "sites": {site: describe(records[site], plan, norms[site], config) for site, plan in plans.items()},
        "kept": kept,
    }
    write_npz(run.captures, _arrays(records))
    write_json(run.capture_stats, body)


STAGE = Stage(
    name="capture",
    help="record (x, y) pairs of every norm on calibration images",
    sections=("model", "data", "capture", "unit.in_width"),
    inputs=lambda run: [run.original],
    outputs=lambda run: [run.captures, run.capture_stats],
    body=_capture,
)

if __name__ == "__main__":
    raise SystemExit(STAGE.main())
