"""Where and how models run: the device, the seeds and the threads."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn

SMALL_MODEL = 2_000_000
"""Parameters below which a second thread costs more than it brings."""


def device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def prepare(model: nn.Module) -> nn.Module:
    """Move a model to the device and choose the number of threads that suits its size.

    A small model runs on one thread, so that its result does not depend on how many cores there are.
    """
    if sum(p.numel() for p in model.parameters()) < SMALL_MODEL:
        torch.set_num_threads(1)
    return model.to(device())


def seed_all(*parts: int) -> int:
    """Seed every generator from several numbers (a run's seed, an epoch, ...); return the joint seed."""
    joint = int(np.random.SeedSequence([p & 0xFFFFFFFF for p in parts]).generate_state(1)[0])
    random.seed(joint)
    np.random.seed(joint)
    torch.manual_seed(joint)
    return joint
