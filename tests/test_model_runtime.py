import random

import numpy as np
import torch
from torch import nn

from sw.model import runtime


def draw():
    return random.random(), float(np.random.rand()), float(torch.rand(1))


def test_seed_all_fixes_every_generator_and_depends_on_all_parts():
    seeds = [runtime.seed_all(*parts) for parts in ((1, 2), (1, 2), (2, 1), (1, 3))]
    assert seeds[0] == seeds[1]
    assert len(set(seeds)) == 3
    runtime.seed_all(5)
    first = draw()
    runtime.seed_all(5)
    assert draw() == first


def test_small_models_run_on_one_thread():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        runtime.prepare(nn.Linear(2, 2))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
