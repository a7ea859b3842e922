"""A search is repeatable and finds what is there."""

import random
from fractions import Fraction

import numpy as np
import pytest

import gp.search
from gp.cost import skeleton_flops
from gp.evaluator import compile_skeleton
from gp.fitness import bin_pairs
from gp.grid import num_digits
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


def test_watch_sees_every_generation_and_can_stop():
    seen = []

    def watch(front):
        seen.append(len(front))
        return "enough" if len(seen) == 4 else ""

    found = search(target(np.tanh(X) + 0.2 * np.sin(3 * X)), SMALL, 1, watch)
    assert (found.stopped_by, found.generations, len(seen)) == ("enough", 3, 4)
    assert all(seen), "the known forms are there from the start"


def test_constants_lie_on_their_grid_and_are_scored_there():
    data = target(np.tanh(1.234 * X) + 0.2 * np.sin(3 * X))
    settings = SearchSettings(population=40, generations=3, max_nodes=14, tournament=5, csd_digits=2)
    for c in search(data, settings, 1).front:
        assert all(num_digits(Fraction(v)) <= 2 for v in c.values)
        assert data.fit(compile_skeleton(c.names).value(data.x, c.values)).loss == c.fit.loss


def test_islands_exchange_their_best(monkeypatch):
    data = target(np.tanh(X) + 0.2 * np.sin(3 * X))
    settings = [
        SearchSettings(population=60, generations=12, max_nodes=14, tournament=5, islands=n) for n in (1, 3)
    ]
    one, three = (search(data, s, 4) for s in settings)
    assert summary(one) != summary(three)
    assert summary(three) == summary(search(data, settings[1], 4))
    assert three.front[-1].fit.loss < 1.3 * one.front[-1].fit.loss
    monkeypatch.setattr(gp.search, "_migrated", lambda islands: islands)
    assert summary(search(data, settings[1], 4)) != summary(three)


def test_what_was_seen_costs_nothing(monkeypatch):
    tuned, original = [], gp.search._Search._tuned

    def spied(self, names, values, steps):
        if steps == gp.search.TUNE_STEPS:
            tuned.append((names, values))
        return original(self, names, values, steps)

    monkeypatch.setattr(gp.search._Search, "_tuned", spied)
    found = search(target(np.tanh(X)), SMALL, 1)
    assert found.repeats > 0
    assert len(tuned) == len(set(tuned)) == found.evaluations
    assert found.evaluations + found.repeats >= SMALL.population


@pytest.mark.parametrize(("price", "expected"), [("nodes", len), ("flops", None)])
def test_the_papers_prices_steer_a_search(price, expected):
    settings = SearchSettings(population=30, generations=2, max_nodes=14, tournament=5, price=price)
    for c in search(target(np.tanh(X)), settings, 1).front:
        assert c.price == (expected(c.names) if expected else skeleton_flops(c.names))
