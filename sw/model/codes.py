"""Real values in fixed-point formats, in torch: what ``FixedFormat.quantize`` is for arrays."""

from __future__ import annotations

import torch
from torch import Tensor

from sw.ir.formats import FixedFormat


def rounded(x: Tensor, form: FixedFormat) -> Tensor:
    """Codes of real values, still in x's own floating type: half to even, saturating; shape kept."""
    return torch.round(x * 2.0**form.frac).clamp(form.min_raw, form.max_raw)


def codes_of(y: Tensor, form: FixedFormat) -> Tensor:
    """The codes, int64, of real values that are codes times the format's step already; shape kept."""
    return torch.round(y.double() / form.step).long()
