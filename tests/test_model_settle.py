"""sw.model.settle: what becomes of a learned inner scale."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from sw.config import from_dict
from sw.ir import interpret
from sw.ir.errors import InputError
from sw.ir.expr import evaluate
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.realize import realize
from sw.ir.refmap import reference_map
from sw.model.scalar_norm import ScalarNorm
from sw.model.settle import learn_inner_scales, settle

CELL = "(clip(floor(8*x), -64, 63) + 0.5)"
INPUT, OUTPUT = FixedFormat.parse("s10.4"), FixedFormat.parse("s8.4")


def site(text="4*tanh(0.25*x)", **more):
    return {
        "expression": text,
        "scale": 2.0,
        "offset": 0.5,
        "input": str(INPUT),
        "output": str(OUTPUT),
    } | more


def layer(text, scale):
    """A model with one site whose inner scale was learned."""
    generator = torch.Generator().manual_seed(3)
    model = nn.ModuleDict({"norm": ScalarNorm(parse(text), *torch.randn(2, 5, generator=generator).double())})
    model["norm"].learn_inner_scale()
    with torch.no_grad():
        model["norm"].inner += np.log(scale) / 10
    return model


def config(**sections):
    return from_dict({"name": "n", "model": {"name": "none"}, **sections})


@pytest.mark.parametrize("text", ["4*tanh(0.25*x)", f"3*tanh(0.03125*{CELL}) + 0.5", "clip(x, -2, 5)"])
@pytest.mark.parametrize("scale", [0.6875, 1.0, 1.5])
@pytest.mark.parametrize("affine", ["free", "scale", "none"])
def test_a_settled_layer_computes_what_it_learned(text, scale, affine):
    model = layer(text, scale)
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)).double()
    learned = model["norm"](x)
    functions, programs = settle(model, {"norm": site(text)}, config(evolve={"affine": affine}))
    torch.testing.assert_close(model["norm"](x), learned, rtol=1e-9, atol=1e-9)
    assert model["norm"].inner is None
    assert set(model.state_dict()) == {"norm.weight", "norm.bias"}
    expr = parse(functions["norm"]["expression"])
    np.testing.assert_array_equal(interpret.table(programs["norm"]), reference_map(expr, INPUT, OUTPUT))


@pytest.mark.parametrize("scale", [0.6875, 1.5])
def test_what_the_affine_takes_over_is_in_the_functions_too(scale):
    """scale f(x) + offset is the stretched former one, and covers the output format as that did."""
    model, former = layer("4*tanh(0.25*x) + 1", scale), site("4*tanh(0.25*x) + 1")
    found = settle(model, {"norm": former}, config())[0]["norm"]
    assert found["inner_scale"] == scale
    x = INPUT.to_real(INPUT.codes())
    y = evaluate(parse(found["expression"]), x)
    wanted = 2.0 * (4 * np.tanh(0.25 * scale * x) + 1) + 0.5
    np.testing.assert_allclose(found["scale"] * y + found["offset"], wanted, rtol=1e-9)
    before = evaluate(parse(former["expression"]), x)
    np.testing.assert_allclose([y.min(), y.max()], [before.min(), before.max()], atol=OUTPUT.step)


def test_a_scale_of_one_leaves_function_and_price():
    entry = site(price_lut6=99.0)
    found = settle(layer(entry["expression"], 1.0), {"norm": entry}, config())[0]["norm"]
    assert {k: found[k] for k in ("expression", "scale", "offset")} == {
        k: entry[k] for k in ("expression", "scale", "offset")
    }
    assert found["price_lut6"] < 99


@pytest.mark.parametrize(
    ("text", "exceptions", "learns"),
    [(f"0.03125*{CELL}", 0, True), (f"0.03125*{CELL}", 1, False), ("clip(x, -4, 3)", 0, False)],
)
def test_functions_of_x_itself_or_with_exceptions_get_no_scale(text, exceptions, learns):
    model = nn.ModuleDict({"norm": ScalarNorm(parse(text), torch.ones(2), torch.zeros(2))})
    entry = site(text, exceptions=exceptions)
    learn_inner_scales(model, {"norm": entry})
    assert (model["norm"].inner is not None) == learns
    assert settle(model, {"norm": entry}, config())[0]["norm"]["inner_scale"] == 1.0


def test_cells_cost_no_more_with_a_scale_and_a_gain():
    text = f"3.9375*tanh(0.015625*{CELL})"
    before = realize(parse(text), INPUT, OUTPUT).lut6
    found = settle(layer(text, 0.6875), {"norm": site(text)}, config())[0]["norm"]
    assert found["price_lut6"] <= 1.1 * before


@pytest.mark.parametrize(("learned", "shown"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "0")])
def test_scales_of_a_training_that_diverged_wrong(learned, shown):
    model = layer("clip(x, -4, 3)", 1.0)
    with torch.no_grad():
        model["norm"].inner.fill_(learned)
    message = (
        f"^the inner scale of site 'norm' must be a number above 0, not {shown}; re-align with a smaller"
    )
    with pytest.raises(InputError, match=message):
        settle(model, {"norm": site("clip(x, -4, 3)")}, config())
