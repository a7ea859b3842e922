"""``make bench-gp``: its numbers, on points made by hand, and a tiny run of it all."""

import json
import math

import numpy as np
import pytest

from benchmarks.gp_bench import scoring, summary, tables, variants
from benchmarks.gp_bench.__main__ import main, to_json, write
from benchmarks.gp_bench.figures import (
    Race,
    Worth,
    best,
    cheapest,
    first_time,
    median,
    opponents,
    over_sites,
    race,
    worth,
)
from benchmarks.gp_bench.jobs import Job, do_all, result_file
from benchmarks.gp_bench.plan import Plan, Results
from benchmarks.gp_bench.published import FUNCTIONS
from benchmarks.gp_bench.scoring import Judge, Point, best_formulas, paired, short
from benchmarks.gp_bench.sites import Site
from gp.cost import flops
from gp.fitness import split_pairs
from sw.ir.errors import InputError
from sw.ir.expr import X, const, evaluate, node
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse


def point(price, r2, train_r2=None, expr="x"):
    return Point(price, r2, r2 if train_r2 is None else train_r2, "table", expr)


def mark(seconds, price, r2):
    return {"seconds": seconds, "price": price, "r2": r2, "train_r2": r2, "kind": "table", "expr": "x"}


FRONT = [point(10, 0.85), point(20, 0.89), point(40, 0.895, 0.91), point(60, 0.9, 0.90)]


# what a front is worth


def test_worth_of_a_front():
    found = worth(FRONT, ceiling=0.9, line=0.8)
    assert found.ratio == pytest.approx(0.895 / 0.9)  # the best on the learning pairs
    assert found.lut6 == 40
    assert found.gap == pytest.approx(0.95)
    assert found.prices == (20, 40, 60)  # at .882, .891 and .8955


def test_an_empty_front_is_worth_nothing():
    found = worth([], 0.9, 0.8)
    assert (found.ratio, found.lut6) == (0, math.inf)
    assert found.prices == (math.inf,) * 3


def test_cheapest_and_best():
    assert cheapest(FRONT, 0.89) == 20
    assert cheapest(FRONT, 0.95) == math.inf
    assert best([point(9, 0.8), point(7, 0.8)]).price == 7


def test_medians_count_what_is_not_reached():
    found = median([Worth(0.9, 10, 0.1, (5, 6, math.inf)), Worth(0.8, 30, 0.3, (7, math.inf, math.inf))] * 2)
    assert found.ratio == pytest.approx(0.85)
    assert found.prices == (6, math.inf, math.inf)


def test_means_over_sites_are_of_those_that_get_there():
    mean = over_sites(
        {"a": Worth(0.99, 10, 0.5, (4, 6, math.inf)), "b": Worth(0.97, 20, 0.7, (8, math.inf, math.inf))}
    )
    assert (mean.ratio, mean.worst, mean.worst_site) == (pytest.approx(0.98), 0.97, "b")
    assert mean.prices[:2] == (6, 6)
    assert math.isnan(mean.prices[2])
    assert mean.reached == (2, 1, 0)


def test_opponents_are_chosen_on_the_learning_pairs():
    others = [point(30, 0.5, 0.90001), point(25, 0.5, 0.9), point(5, 0.99, 0.8)]
    ours, other = opponents([point(24, 0.5, 0.7), point(25, 0.4, 0.8), point(26, 1, 1)], others)
    assert (ours.price, other.price) == (25, 25)
    assert opponents([point(26, 1)], others)[0] is None


def test_first_time():
    marks = [mark(3, 30, 0.9), mark(1, 40, 0.9), mark(0.5, 5, 0.2)]
    assert first_time(marks, 0.9, math.inf) == (1, 40)
    assert first_time(marks, 0.9, math.inf, price=30) == (3, 30)
    assert first_time(marks, 0.9, 2, price=30) is None


def test_races_at_the_first_and_the_last_price():
    ours = [mark(1, 40, 0.9), mark(2, 20, 0.9)]
    theirs = [mark(4, 40, 0.9), mark(9, 20, 0.95)]
    races = race(ours, theirs, 0.9, 20)
    assert races == {"first": Race(40, 1, 4), "last": Race(20, 2, 9)}
    assert races["last"].factor(20) == 4.5
    assert race(ours, theirs, 0.9, 8)["last"] == Race(20, 2, None)
    assert Race(20, 2, None).factor(8) == 4


def test_a_race_that_we_lose_is_lost():
    assert race([], [mark(4, 99, 0.9)], 0.9, 20)["first"].factor(20) == pytest.approx(0.2)
    assert race([], [], 0.9, 20)["first"].factor(20) is None


# judging


@pytest.fixture(scope="module")
def judge():
    rng = np.random.default_rng(1)
    x = rng.standard_normal(3000)
    y = np.tanh(2 * x) + 0.1 * rng.standard_normal(len(x))
    return Judge(Site("curve", FixedFormat(10, 7), split_pairs(x, y, share=0.3, seed=0)))


def test_hardware_of_a_formula_is_scored_on_held_out_pairs(judge):
    points = judge.as_written([parse("tanh(2*x)")])
    top = best(points)
    assert top.r2 == pytest.approx(judge.float_r2(parse("tanh(2*x)"))[1], abs=2e-3)
    assert np.mean(judge.squared_errors(parse(top.expr))) == pytest.approx(1 - top.r2, abs=1e-9)


def test_a_front_in_time_is_priced_exactly(judge):
    lowering = judge.lowering()
    lowering.offer_clamps()
    lowering.offer(parse("tanh(2*x)"))
    front = judge.exact(m.priced for m in lowering.history)
    assert front == [judge.point(p) for p in lowering.front()]
    assert judge.exact([]) == []


def test_the_paired_error_is_that_of_the_pairs(judge):
    gain, error = paired(judge, "tanh(2*x)", "x")
    split = judge.site.split
    losses = [judge.squared_errors(parse(f)) for f in ("tanh(2*x)", "x")]
    assert gain == pytest.approx(losses[1].mean() - losses[0].mean())
    assert gain > 10 * error > 0
    assert error == pytest.approx(np.std(losses[1] - losses[0]) / np.sqrt(len(split.held_x)), rel=1e-3)
    assert paired(judge, "x", "x") == (0, 0)


def test_formulas_that_are_beaten_or_not_finite_are_left_out(judge):
    texts = ["x", "tanh(2*x)", "x + x", "1/x", "tanh(2*x) + 0*x", "log(x)"]
    assert [str(e) for e, _ in best_formulas(judge, [parse(t) for t in texts])] == ["x", "tanh(2*x)"]


def test_a_formula_that_is_not_finite_gives_no_hardware(judge):
    assert judge.as_written([parse("log(x)")]) == judge.lowered([parse("log(x)")]) == []


def test_a_formula_that_takes_too_long_is_given_up(judge, monkeypatch):
    monkeypatch.setattr(scoring, "PATIENCE_S", 0.02)
    before = judge.given_up
    with judge.guarded():
        while True:
            pass
    assert judge.given_up == before + 1


def test_constants_are_kept_as_readable_decimals():
    expr = node("add", node("mul", const(0.1), X), const(1))  # exactly the double, 55 digits
    assert parse(str(short(expr))) == short(expr)
    assert str(short(expr)) == "0.1*x + 1"
    np.testing.assert_allclose(evaluate(short(expr), np.arange(3.0)), evaluate(expr, np.arange(3.0)))


@pytest.mark.parametrize(("formula", "stated"), FUNCTIONS.items())
def test_published_functions_cost_what_is_stated(formula, stated):
    assert stated is None or flops(parse(formula)) == stated


@pytest.mark.parametrize("variant", variants.PATCHES)
def test_variants_leave_nothing_behind(variant):
    from gp import lowering, search, task, trees

    def state():
        return (
            search.TUNE_STEPS,
            search.known_trees,
            search._Search.__init__,
            task.bin_pairs,
            trees._without_affine,
            lowering.Lowering.offer,
            lowering.Lowering.offer_clamps,
        )

    before = state()
    with variants.applied(variant):
        assert variant in (variants.FULL, *variants.SETTINGS) or state() != before
    assert state() == before


def test_the_fixed_target_has_no_free_affine():
    with variants.applied(f"{variants.BARE}, no free affine in the search"):
        from gp.task import bin_pairs

        x = np.linspace(-1, 1, 1000)
        target = bin_pairs(x, 3 * x, growth_penalty=0.0)
    assert target.fit(3 * target.x).loss < 1e-3 < target.fit(target.x).loss
    assert target.fit(target.x).scale == 1


# tables and claims


def worths_of(ratio):
    return {"a": Worth(ratio, 20.0, 0.9, (10.0, 12.0, math.inf))}


BODY = {
    "ceilings": {"a": 0.95},
    "worths": {("ours", ""): worths_of(0.996), ("pyoperon", "as written"): worths_of(0.999)},
    "means": {
        "captured": {
            ("ours", ""): over_sites(worths_of(0.996)),
            ("pyoperon", "as written"): over_sites(worths_of(0.999)),
        }
    },
    "runs": {
        "ours": {
            **{"seconds": 20.0, "most_seconds": 21.0, "cpu_s": 19.0},
            **{"evaluations_per_s": 500.0, "distinct_per_s": 400.0, "hits_per_s": 100.0},
        }
    },
    "given_up": 2,
    "compared": {
        "counts": {"clip": {"holds": 1, "of": 2}},
        "worst": {"clip": {"site": "a", "baseline": "clip", "seed": 1, "gain": -0.01, "error": 0.001}},
        "cases": [],
    },
    "against_pyoperon": {"captured": {"as written": {"difference": -0.003, "ours_lut6": 20, "lut6": 90}}},
    "races": {
        name: {
            "runs": [{"site": "a", "seed": 0, "price": 12.0, "ours": 1.0, "other": None, "factor": 20.0}],
            **{"factor": 20.0, "ours": 1.0, "other": 20.0, "decided": 1},
        }
        for name in ("first", "last")
    },
    "ablation": {
        "full": {
            "mean": over_sites(worths_of(0.996)),
            **{"seconds": math.inf, "arrived": 1, "runs": 3, "distinct_per_s": 321.0},
        }
    },
    "published": [
        {
            **{"formula": "x**3", "stated_flops": 2, "flops": 3, "nodes": 2, "output": "s8.-5"},
            **{"price": 99.0, "kind": "pwl", "folded_price": 98.0, "folded_kind": "pwl", "folded_r2": 0.9999},
        }
    ],
    "scale": summary.scale([4.0, 5.0, 9.0]),
}
BODY["compared"]["worst"]["clip"] |= {"ours_price": 11.0, "price": 12.0}
BODY["compared"]["cases"] = [
    BODY["compared"]["worst"]["clip"] | {"holds": False, "learning_gain": gain} for gain in (-0.01, 1e-5)
]


def test_the_scale_arithmetic():
    assert BODY["scale"]["minutes"] == pytest.approx(49 * 5 * 5 / 16 / 60)


def test_a_claim_that_fails_is_shown_as_such():
    found = {claim: holds for claim, _, holds in summary.checks(BODY)}
    assert [c for c, holds in found.items() if not holds] == [
        "captured: not more than 0.002 below pyoperon's best (as written), cheaper, on average",
        "at equal or lower price than each fitted baseline, R^2 not lower by over 2 standard errors",
        "published FLOP counts are ours, too",
    ]
    assert tables.claims(BODY, Plan(sites=("a",))).count("**no**") == 3
    assert "0 of 2; on the learning pairs 1 of the other 2 are equal" in tables.claims(
        BODY, Plan(sites=("a",))
    )


def test_the_whole_text():
    text = tables.document(BODY, Plan(sites=("a",)))
    for piece in (
        "| **ours** | 0.9960 | 0.9960 | 20.0 | 0.900 | 10.0 (1) | 12.0 (1) | - (0) |",
        "| a | **-100.0 +- 10.0 e-4** |",
        "| a | 12.0 | 1.00 | > 20 | 12.0 | 1.00 | > 20 |",
        "| **full** | 0.9960 | 0.9960 | 0.900 | 20.0 | - (0) | - (1 of 3) | 321 |",
        "| `x**3` | 2 | **3** | 2 | s8.-5 | 99.0 | pwl | 98.0 | pwl | 0.9999 |",
        "49 sites x 5 seeds x 5.0 s / 16 cores = 1.3 minutes",
        "2 formulas or forms were given up",
    ):
        assert piece in text
    assert all(line.count("|") >= 3 for line in text.splitlines() if line.startswith("|"))


def test_verdicts_count_two_standard_errors():
    results = Results(Plan(sites=("a",)), {})
    results.compared = {
        ("a", "clip", 0): {"gain": -0.0019, "error": 0.001, "price": 9, "r2": 0.9, "ours_price": 8},
        ("a", "clip", 1): {"gain": -0.0021, "error": 0.001, "price": 9, "r2": 0.9, "ours_price": 8},
        ("a", "clip", 2): {"price": 9, "r2": 0.9},
        ("a", "dyt", 0): {"gain": 0.0, "error": 0.0, "price": 9, "r2": 0.9, "ours_price": 8},
    }
    found = summary.verdicts(results)
    assert found["counts"] == {"clip": {"holds": 1, "of": 3}, "dyt": {"holds": 1, "of": 1}}
    assert found["worst"]["clip"]["seed"] == 1


def test_json_of_what_is_not_finite():
    body = {("ours", ""): Worth(0.5, math.inf, math.nan, (1.0, math.inf))}
    assert to_json(body) == {"ours": {"ratio": 0.5, "lut6": None, "gap": None, "prices": [1.0, None]}}


# jobs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    x = rng.standard_normal(2000)
    y = np.tanh(2 * x) + 0.2 * rng.standard_normal(len(x))
    np.savez(folder / "captures.npz", site_x=x.astype(np.float32), site_y=y.astype(np.float32))
    (folder / "captures.json").write_text(json.dumps({"sites": {"site": {"input": "s10.7"}}}))
    return folder


def test_a_result_is_kept_and_depends_on_the_job(run, tmp_path):
    job = Job(kind="compare", site="site", run=str(run), detail=("x", "clip(x, -1, 1)"))
    done = do_all([job, job], tmp_path, workers=1, label="test")
    kept = result_file(job, tmp_path)
    assert done[job] == json.loads(kept.read_text())["result"]
    changed = kept.stat().st_mtime_ns
    assert do_all([job], tmp_path, workers=1, label="test") == done
    assert kept.stat().st_mtime_ns == changed
    assert Job(kind="compare", site="site", run=str(run), detail=("x", "x")).key() != job.key()


def test_a_job_that_fails_says_why(run, tmp_path):
    job = Job(kind="compare", site="nowhere", run=str(run), detail=("x", "x"))
    with pytest.raises(RuntimeError, match=r"compare nowhere seed 0' failed:(?s:.*)must hold site 'nowhere'"):
        do_all([job], tmp_path, workers=1, label="test")


def test_more_workers_than_cores(tmp_path):
    with pytest.raises(InputError, match=r"number of jobs must be 1\.\.\d+ .*, not 1000"):
        do_all([], tmp_path, workers=1000, label="test")


def test_no_captures(tmp_path, capsys):
    assert main(["--run", str(tmp_path)]) == 2
    assert "captures.json' cannot be read" in capsys.readouterr().err


@pytest.mark.slow
def test_a_tiny_benchmark(run, tmp_path):
    plan = Plan(
        sites=("site",),
        run=str(run),
        seconds=1.0,
        seeds=1,
        engines=("plain DEAP",),
        forms=("linear", "clip", "scaled_dyt"),
        parts=(),
        workers=1,
        cache=tmp_path / "cache",
    )
    write(plan, tmp_path)
    text = (tmp_path / "gp.md").read_text()
    for title in ("## Claims", "## 1. ", "## 2. ", "## 3. ", "## 4. "):
        assert title in text
    body = json.loads((tmp_path / "gp.json").read_text())
    ours, deap = (body["worths"][row]["site"] for row in ("ours", "plain DEAP, our lowering"))
    assert 0 <= ours["ratio"] <= 1  # one second may be over before there is anything
    assert 0 < deap["ratio"] <= 1
    assert body["runs"]["plain DEAP"]["distinct_per_s"] > 0
    before = sorted((tmp_path / "cache").iterdir())
    write(plan, tmp_path)
    assert sorted((tmp_path / "cache").iterdir()) == before
