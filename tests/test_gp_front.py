"""Fronts against exhaustive dominance, and the knee's published properties."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gp.front import Archive, choose, knee, ranks, significant
from sw.ir.errors import InputError

points = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=25)


def dominates(p, q):
    return p[0] <= q[0] and p[1] <= q[1] and p != q


@given(points)
def test_archive_holds_exactly_the_points_that_nothing_dominates(given_points):
    archive = Archive()
    for index, (price, error) in enumerate(given_points):
        archive.add(price, error, index)
    front = {p for p in given_points if not any(dominates(q, p) for q in given_points)}
    assert archive.points == sorted(front)
    assert [given_points[i] for i in archive.items] == archive.points
    assert all(given_points.index(given_points[i]) == i for i in archive.items), "of equals the first stays"


def test_archive_refuses_what_is_not_finite():
    archive = Archive()
    assert not archive.add(1.0, math.inf, "a")
    assert not archive.add(math.nan, 1.0, "a")
    assert len(archive) == 0


@given(points)
def test_ranks_are_those_of_repeated_peeling(given_points):
    distinct = list(dict.fromkeys(given_points))
    expected, left, rank = {}, set(distinct), 0
    while left:
        front = {p for p in left if not any(dominates(q, p) for q in left)}
        expected |= dict.fromkeys(front, rank)
        left -= front
        rank += 1
    assert ranks(distinct) == [expected[p] for p in distinct]


def test_a_repeated_point_ranks_below_its_first():
    assert ranks([(1, 1), (1, 1), (0, 5)]) == [0, 1, 0]


def test_knee_takes_the_middle_of_the_published_example():
    assert knee([(0, 1), (1, 0.2), (10, 0)]) == 1
    assert knee([(10, 0), (0, 1), (1, 0.2)]) == 2


def test_knee_is_never_a_bad_bargain():
    assert knee([(1, 0.13), (4, 0.12), (4.5, 0.1), (5, 0.0)]) == 3, "all others lie above the chord"
    assert knee([(1, 0.13), (2, 0.129), (4, 0.02), (10, 0.0)]) == 2


def test_knee_of_two_points_is_the_accurate_one():
    assert knee([(0, 1), (10, 0.5)]) == 1
    assert knee([(3, 1)]) == 0
    assert knee([(0, 1), (10, 0.5), (20, 0.5), (0, 2)]) == 1, "points that do not improve do not count"


@given(st.floats(0.01, 100), st.floats(-50, 50), st.floats(0.01, 100), st.floats(-50, 50))
def test_knee_does_not_depend_on_the_units_of_either_axis(a, b, c, d):
    front = [(0.0, 1.0), (2.0, 0.5), (3.0, 0.2), (9.0, 0.1), (30.0, 0.0)]
    assert knee([(a * p + b, c * e + d) for p, e in front]) == knee(front) == 2


def test_knee_is_the_point_of_largest_distance_from_the_chord():
    front = [(1.0, 0.9), (2.0, 0.55), (4.0, 0.3), (7.0, 0.22), (11.0, 0.2)]

    def distance(p):
        x, y = (p[0] - 1) / 10, (p[1] - 0.2) / 0.7
        return abs((1 - 0) * (y - 1) - (0 - 1) * (x - 0)) / math.hypot(1, 1)

    assert knee(front) == max(range(len(front)), key=lambda i: distance(front[i]))


FRONT = [(1, 0.9), (8, 0.2), (9, 0.1501), (10, 0.15), (40, 0.1)]


@pytest.mark.parametrize(
    ("rule", "options", "index"),
    [
        ("knee", {}, 2),
        ("best", {}, 4),
        ("cheapest", {}, 0),
        ("budget", {"budget": 9}, 2),
        ("budget", {"budget": 8.5}, 1),
        ("budget", {"budget": 1000}, 4),
        ("ratio", {"shares": [0.1, 0.8, 0.95, 0.96, 0.99], "ratio": 0.95}, 2),
        ("ratio", {"shares": [0.1, 0.8, 0.95, 0.96, 0.99], "ratio": 0.999}, 4),
        ("ratio", {"shares": [0.1, 0.8, 0.95, 0.96, 0.94], "ratio": 0.97}, 3),
    ],
)
def test_choose_takes_what_the_rule_says(rule, options, index):
    assert choose(FRONT, rule, **options) == index


def test_the_knee_gives_way_to_what_is_hardly_worse_and_cheaper():
    assert knee(FRONT) in (1, 2, 3)
    near = [(0, 1.0), (5, 0.2009), (6, 0.2), (60, 0.0)]
    assert choose(near, "knee") == 1


def test_choose_wrong():
    rules = "knee, best, cheapest, budget, ratio"
    with pytest.raises(InputError, match=f"choice from a front must be one of {rules}, not 'elbow'"):
        choose([(0, 1)], "elbow")
    with pytest.raises(InputError, match=r"price budget must be at least 1, not 0\.5"):
        choose(FRONT, "budget", budget=0.5)


@given(points)
def test_significant_points_gain_enough_and_lose_little(given_points):
    kept = [given_points[i] for i in significant(given_points, 2)]
    assert all(b[1] <= a[1] - 2 for a, b in itertools.pairwise(kept))
    assert min(e for _, e in kept) < min(e for _, e in given_points) + 2
    assert kept[0] == min(given_points)
