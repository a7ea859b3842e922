"""The hardware front: exact prices and errors, better than any core as it is, and what does not fold."""

import numpy as np
import pytest

from gp.cost import Pricer
from gp.fitness import CodeStats, Split
from gp.front import Archive
from gp.lowering import Lowering
from sw.ir.expr import evaluate
from sw.ir.formats import FixedFormat
from sw.ir.interpret import table
from sw.ir.parse import parse
from sw.ir.realize import realize
from sw.ir.refmap import reference_map

RNG = np.random.default_rng(11)
INPUT, OUTPUT = FixedFormat.parse("s12.7"), FixedFormat.parse("s6.3")


def split(truth=np.tanh, num=4000, noise=0.2):
    x = RNG.normal(size=num) * 2
    y = truth(x) + noise * RNG.normal(size=num)
    half = num // 2
    ones = np.ones(half)
    return Split(x[:half], y[:half], x[half:], y[half:], ones, ones)


def lowering(pairs, affine="free", **pricing):
    return Lowering(Pricer(INPUT, OUTPUT, **pricing), pairs, csd_digits=3, affine=affine)


def filled(pairs, *cores, **options):
    made = lowering(pairs, **options)
    made.offer_clamps()
    for core in cores:
        made.offer(parse(core))
    made.offer_whole([parse(core) for core in cores])
    return made


def test_every_price_and_error_is_that_of_the_realised_map():
    pairs = split()
    front = filled(pairs, "tanh(x)", "x + tanh(x)").front()
    stats = CodeStats.of(pairs.x, pairs.y, INPUT)
    assert len(front) > 4
    prices = [p.price for p in front]
    assert prices == sorted(prices)
    for p in front:
        made = realize(p.expr, INPUT, OUTPUT)
        np.testing.assert_array_equal(table(p.realization.program), reference_map(p.expr, INPUT, OUTPUT))
        assert (p.realization.max_ulp, p.price) == (0, p.realization.lut6)
        assert p.price <= made.lut6
        codes = OUTPUT.to_real(table(made.program))
        assert p.error == pytest.approx(1 - stats.r2(codes, p.scale, p.offset), abs=1e-12)
        assert (p.scale, p.offset) == pytest.approx(stats.fit(codes))


def test_a_front_is_no_worse_than_the_whole_cores():
    pairs = split()
    alone = lowering(pairs)
    alone.offer_whole([parse("tanh(x)")])
    archive = Archive()
    for p in filled(pairs, "tanh(x)").front():
        archive.add(p.price, p.error, p)
    assert not any(archive.accepts(p.price, p.error + 2.1e-4) for p in alone.front())


def test_few_cells_are_far_cheaper_for_little_error():
    pairs = split()
    whole = lowering(pairs)
    whole.offer_whole([parse("tanh(x)")])
    best = min(whole.front(), key=lambda p: p.error)
    near = [p for p in filled(pairs, "tanh(x)").front() if p.error < best.error + 0.004]
    assert min(p.price for p in near) < 0.5 * best.price


@pytest.mark.parametrize("affine", ["scale", "none"])
def test_what_does_not_fold_is_part_of_the_function(affine):
    pairs = split(lambda x: 0.4 - 2 * np.tanh(x), noise=0.05)
    front = filled(pairs, "tanh(x)", affine=affine).front()
    best = min(front, key=lambda p: p.error)
    assert best.offset == 0
    assert affine == "scale" or best.scale == 1
    assert best.error < 0.02
    y = best.scale * evaluate(best.expr, pairs.held_x)
    assert np.mean((y - pairs.held_y) ** 2) < 0.02 * np.var(pairs.held_y)


@pytest.mark.parametrize("sign", [1, -1])
def test_an_unsigned_output_holds_y_of_either_sign(sign):
    pairs = split(lambda x: sign * np.maximum(x, 0), noise=0.05)
    made = Lowering(Pricer(INPUT, FixedFormat.parse("u6.3")), pairs, csd_digits=3, affine="scale")
    made.offer(parse("relu(x)"))
    made.offer_whole([parse("relu(x)")])
    best = min(made.front(), key=lambda p: p.error)
    assert best.error < 0.02
    assert np.sign(best.scale) == sign


def test_a_free_affine_costs_no_more():
    pairs = split(lambda x: 0.4 - 2 * np.tanh(x))
    free, none = (filled(pairs, "tanh(x)", affine=a).front() for a in ("free", "none"))
    error = min(p.error for p in none) + 1e-3
    assert min(p.price for p in free if p.error <= error) <= min(p.price for p in none if p.error <= error)


@pytest.mark.parametrize("by", ["nodes", "flops"])
def test_the_papers_prices_can_be_asked_for(by):
    from gp.cost import flops, nodes

    front = filled(split(), "tanh(x)", "clip(3*x)", by=by).front()
    assert [p.price for p in front] == [{"nodes": nodes, "flops": flops}[by](p.expr) for p in front]


def test_a_forced_kind_is_kept_to():
    front = filled(split(), "tanh(x)", "x", kind="threshold").front()
    assert {p.realization.kind for p in front} == {"threshold"}


def test_the_area_falls_and_the_history_tells_when():
    made = lowering(split())
    assert (made.area, made.best_error, made.history) == (1.0, 1.0, [])
    made.offer_clamps()
    after_clamps = made.area
    made.offer(parse("tanh(x)"))
    assert made.area < after_clamps < 1
    seconds = [m.seconds for m in made.history]
    assert seconds == sorted(seconds)
    assert made.best_error == min(m.priced.error for m in made.history)


@pytest.mark.parametrize("core", ["1", "x*0", "log(x)"])
def test_cores_that_cannot_be_used_change_nothing(core):
    made = lowering(split())
    made.offer(parse(core))
    made.offer_whole([parse(core)])
    assert made.front() == []
