"""A search is repeatable and finds what is there."""

import random

import numpy as np
import pytest

from gp.evaluator import compile_skeleton
from gp.fitness import bin_pairs
from gp.search import SearchSettings, search

RNG = np.random.default_rng(3)
X = RNG.normal(size=5000) * 2
SMALL = SearchSettings(population=40, generations=6, max_nodes=14, tournament=5)


def target(y):
    return bin_pairs(X, y, growth_penalty=0.005)


def summary(found):
    return [(c.names, c.values, c.fit.loss, c.price) for c in found.front]


def test_same_seed_same_front_and_another_seed_another_one():
    data = target(np.tanh(X) + 0.2 * np.sin(3 * X))
    first, again, other = (search(data, SMALL, seed) for seed in (1, 1, 2))
    assert summary(first) == summary(again) != summary(other)
    assert first.stopped_by == "generations"
    assert first.generations == 6


def test_global_random_state_neither_matters_nor_changes():
    data = target(np.tanh(X))
    first = search(data, SMALL, 5)
    random.seed(99)
    state = random.getstate()
    assert summary(search(data, SMALL, 5)) == summary(first)
    assert random.getstate() == state


def test_front_improves_with_price_and_is_what_its_trees_give():
    data = target(np.tanh(X) + 0.2 * np.sin(3 * X))
    front = search(data, SMALL, 1).front
    prices, losses = [c.price for c in front], [c.fit.loss for c in front]
    assert prices == sorted(set(prices))
    assert losses == sorted(set(losses), reverse=True)
    for c in front:
        assert len(c.tree) <= SMALL.max_nodes
        assert data.fit(compile_skeleton(c.names).value(data.x, c.values)).loss == c.fit.loss


@pytest.mark.parametrize(
    "truth", [lambda x: np.clip(3 * x, -5, 5) + x, lambda x: np.abs(x - 1), lambda x: x * np.tanh(x) - x]
)
def test_functions_made_of_the_primitives_are_found(truth):
    data = target(truth(X))
    settings = SearchSettings(population=100, generations=15, max_nodes=20, tournament=7)
    best = search(data, settings, 0).front[-1]
    assert best.fit.loss < 0.02 * data.variance


def test_more_generations_keep_the_front_of_fewer():
    data = target(np.tanh(X) + 0.2 * np.sin(3 * X))
    more = SearchSettings(population=40, generations=12, max_nodes=14, tournament=5)
    assert search(data, more, 1).front[-1].fit.loss <= search(data, SMALL, 1).front[-1].fit.loss * 1.001


def test_budget_ends_a_search_between_generations():
    settings = SearchSettings(population=20, generations=10**6, max_nodes=14, tournament=5, budget_s=0.3)
    found = search(target(np.tanh(X)), settings, 1)
    assert found.stopped_by == "budget"
    assert found.generations < 10**6
    assert found.front


def test_no_generations_leave_the_known_forms():
    settings = SearchSettings(population=4, generations=0, max_nodes=20, tournament=7)
    assert search(target(np.clip(X, -1, 1)), settings, 1).front
