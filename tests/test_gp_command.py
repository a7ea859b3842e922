"""Options of ``normforge evolve``: each one reaches the search, and does there what it says."""

import numpy as np
import pytest

from gp import command
from sw.files import read_json

QUICK = ["--generations", "0", "--seeds", "1", "--jobs", "1", "--in-width", "10", "--out-width", "6"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    rng = np.random.default_rng(0)
    y = rng.normal(size=2000)
    x = np.exp(0.4 * rng.normal(size=2000)) * y
    path = tmp_path_factory.mktemp("pairs") / "pairs.npz"
    np.savez(path, a_x=x, a_y=y + 0.5, a_w=np.ones(2000))
    return path


def evolved(pairs, folder, *words):
    """The one site of ``functions.json`` after a call with options."""
    assert command.main(["--pairs", str(pairs), "-o", str(folder), *QUICK, *words]) == 0
    return read_json(folder / "functions.json")["sites"]["a"]


def test_every_option_reaches_the_search(pairs, tmp_path, monkeypatch):
    found = {}

    def recorded(*places, **settings):
        found.update(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr("gp.evolve.evolve_pairs", recorded)
    options = {
        **{"generations": 7, "seeds": 3, "jobs": 5, "seed": 11, "in_width": 9, "out_width": 7},
        **{"scheduler": "tcp://a:1", "price": "flops", "weights": "sensitivity", "affine": "scale"},
    }
    words = [word for name, v in options.items() for word in (f"--{name.replace('_', '-')}", str(v))]
    start = ["--pairs", str(pairs), "-o", str(tmp_path), *words]
    for choice, settings in (
        (["--choose", "best"], {"choose": "best"}),
        (["--ratio", "0.9"], {"choose": "ratio", "ratio": 0.9}),
        (["--price-budget", "12"], {"choose": "budget", "price_budget": 12.0}),
        (["--budget", "2.5"], {"budget_s": 2.5}),
    ):
        found.clear()
        assert command.main([*start, *choice]) == 130
        formats = {"input": None, "output": None}
        assert found == options | formats | settings | {"force": False}
    found.clear()
    assert command.main([*start, "--force"]) == 130
    assert found["force"]
    found.clear()
    assert command.main(["--pairs", str(pairs), "-o", str(tmp_path), "--in", "s9.4", "--out", "s5.2"]) == 130
    assert (found["input"], found["output"]) == ("s9.4", "s5.2")


@pytest.mark.parametrize(
    ("affine", "scales", "offsets"),
    [("free", False, False), ("scale", False, True), ("none", True, True)],
)
def test_what_cannot_fold_stays_in_the_function(pairs, tmp_path, affine, scales, offsets):
    front = evolved(pairs, tmp_path, "--affine", affine)["front"]
    assert ({entry["scale"] for entry in front} == {1.0}) is scales
    assert ({entry["offset"] for entry in front} == {0.0}) is offsets


def test_the_choice_is_the_one_asked_for(pairs, tmp_path):
    def chosen(*words):
        entry = evolved(pairs, tmp_path, *words)
        front = entry["front"]
        (index,) = [i for i, point in enumerate(front) if point["expression"] == entry["expression"]]
        return index, front

    index, front = chosen("--ratio", "0.97")
    assert index == min(i for i, point in enumerate(front) if point["ratio"] >= 0.97)
    index, front = chosen("--price-budget", "12")
    assert index == max(i for i, point in enumerate(front) if point["price_lut6"] <= 12)
    assert chosen("--choose", "cheapest")[0] == 0
    assert chosen("--choose", "best")[0] == len(front) - 1
