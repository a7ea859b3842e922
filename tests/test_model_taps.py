import pytest
import torch
from torch import nn

from sw.model.taps import Tap, seen


class Chain(nn.Module):
    """Two layers, of which the second counts how often it ran."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
        self.runs = 0
        self.second.register_forward_hook(self._count)

    def _count(self, *_):
        self.runs += 1

    def forward(self, x):
        return self.second(self.first(x))


def test_taps_are_what_modules_take_and_give():
    chain, x = Chain(), torch.randn(5, 3)
    found = seen(chain, [Tap("first", "input"), Tap("first", "output"), Tap("second", "output")], x)
    assert torch.equal(found[Tap("first", "input")], x)
    assert torch.equal(found[Tap("first", "output")], chain.first(x))
    assert torch.equal(found[Tap("second", "output")], chain.second(chain.first(x)))


@pytest.mark.parametrize(("tap", "runs"), [(Tap("second", "input"), 0), (Tap("second", "output"), 1)])
def test_a_pass_ends_when_all_is_seen_and_leaves_no_hook(tap, runs):
    chain = Chain()
    seen(chain, [tap], torch.randn(5, 3))
    assert chain.runs == runs
    chain(torch.randn(5, 3))
    assert chain.runs == runs + 1


def test_errors_of_the_model_are_not_swallowed():
    with pytest.raises(RuntimeError, match="shapes"):
        seen(Chain(), [Tap("second", "output")], torch.randn(5, 7))


def test_a_module_that_runs_twice_is_seen_the_first_time():
    layer = nn.Linear(3, 3)
    twice, x = nn.Sequential(layer, layer), torch.randn(2, 3)
    assert torch.equal(seen(twice, [Tap("0", "input"), Tap("0", "output")], x)[Tap("0", "input")], x)
