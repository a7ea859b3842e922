"""Pause patterns."""

from itertools import islice
from random import Random

from sim_tb.pauses import never, random_epochs


def test_never_pauses():
    assert not any(islice(never(), 1000))


def test_random_epochs_follow_their_seed():
    one, two, other = (list(islice(random_epochs(Random(seed)), 2000)) for seed in (3, 3, 4))
    assert one == two != other


def test_random_epochs_hold_free_flow_and_long_pauses():
    text = "".join("x" if paused else "." for paused in islice(random_epochs(Random(0)), 20_000))
    assert "." * 48 in text
    assert "x" * 20 in text
    assert 0.2 < text.count("x") / len(text) < 0.6
