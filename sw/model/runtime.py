"""Where and how models run: the device, the seeds and the threads."""

from __future__ import annotations

import os
import random
import resource
import sys

import numpy as np
import torch
from torch import nn

SMALL_MODEL = 2_000_000
"""Parameters below which a second thread costs more than it brings."""


def device() -> torch.device:
    """The GPU if there is one, else the CPU; of several GPUs the one that torchrun gave this process."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def device_name() -> str:
    """What the device is called, for people."""
    return torch.cuda.get_device_name(device()) if device().type == "cuda" else "the CPU"


def prepare(model: nn.Module) -> nn.Module:
    """Move a model to the device and choose the number of threads that suits its size.

    A small model runs on one thread, so that its result does not depend on how many cores there are.
    """
    if sum(p.numel() for p in model.parameters()) < SMALL_MODEL:
        torch.set_num_threads(1)
    if device().type == "cuda":
        torch.cuda.set_device(
            device()
        )  # what takes "the current one", as a loader that pins memory, takes it
    return model.to(device())


def seed_all(*parts: int) -> int:
    """Seed every generator from several numbers (a run's seed, an epoch, ...); return the joint seed."""
    joint = int(np.random.SeedSequence([p & 0xFFFFFFFF for p in parts]).generate_state(1)[0])
    random.seed(joint)
    np.random.seed(joint)
    torch.manual_seed(joint)
    return joint


def peak_memory_gib() -> float:
    """The most memory that was in use so far: the GPU's where there is one, else this process's."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated()) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)  # bytes there, KiB elsewhere
