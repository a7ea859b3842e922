from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from sw.ir.affine import Affine
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.ir.layernorm import MAX_CHANNELS, LayerNorm, half_to_even
from sw.ir.layernorm_error import corner_rows, error_lsb, reference


def norm_of(channels: int, input: str = "s16.11", output: str = "s8.5", **more: Any) -> LayerNorm:
    formats = FixedFormat.parse(input), FixedFormat.parse(output)
    return LayerNorm(input=formats[0], output=formats[1], channels=channels, **more)


def affine_of(channels: int, *, width: int = 8, largest: float = 1.3, seed: int = 0) -> Affine:
    rng = np.random.default_rng(seed)
    return Affine.of(rng.uniform(-largest, largest, channels), rng.normal(0, 0.3, channels), width=width)


NORMS = {
    "ViT-T, 16 to 8 bits": norm_of(192),
    "ViT-B": norm_of(768),
    "an odd number of channels": norm_of(197),
    "three channels": norm_of(3),
    "two channels": norm_of(2),
    "one channel": norm_of(1),
    "8 to 8 bits": norm_of(48, "s8.4"),
    "unsigned input": norm_of(48, "u8.4"),
    "unsigned output": norm_of(48, output="u8.5"),
    "wide output": norm_of(48, output="s16.12"),
    "coarse output": norm_of(48, output="s4.-1"),
    "output finer than its range": norm_of(48, output="s8.9"),
    "no eps": norm_of(192, eps=0.0),
    "large eps": norm_of(192, eps=0.5),
    "eps below a squared step": norm_of(16, "s8.2"),
    "affine": norm_of(192, affine=affine_of(192)),
    "large gamma": norm_of(48, output="s8.1", affine=affine_of(48, largest=9.0)),
    "small gamma": norm_of(48, affine=affine_of(48, largest=0.01)),
    "affine, wide": norm_of(48, output="s12.8", affine=affine_of(48, width=12)),
    "gamma 0": norm_of(4, affine=Affine.of([0.0] * 4, [0.5, -1.0, 0.0, 3.0])),
    "fine beta": norm_of(4, affine=Affine.of([1.0] * 4, [1e-6, -1e-5, 0.0, 1e-5])),
    "RMSNorm": norm_of(192, rms=True),
    "RMSNorm, affine": norm_of(48, rms=True, affine=affine_of(48)),
    "RMSNorm, no eps, one channel": norm_of(1, rms=True, eps=0.0),
    "many guard bits": norm_of(48, guard_bits=9),
}


def random_rows(norm: LayerNorm, rows: int = 300, seed: int = 0) -> np.ndarray:
    """Rows of every size of spread and mean, from a single step to saturation."""
    rng = np.random.default_rng(seed)
    spread = np.exp2(rng.uniform(-1, norm.input.width, (rows, 1)))
    mean = rng.uniform(norm.input.min_raw, norm.input.max_raw, (rows, 1)) * rng.integers(0, 2, (rows, 1))
    drawn = np.rint(mean + spread * rng.normal(0, 1, (rows, norm.channels)))
    return np.clip(drawn, norm.input.min_raw, norm.input.max_raw).astype(np.int64)


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_no_row_exceeds_the_bound(norm: LayerNorm) -> None:
    for rows_raw in (random_rows(norm), corner_rows(norm)):
        error = error_lsb(norm, rows_raw)
        assert error.rms <= error.max <= norm.bound_lsb


@pytest.mark.parametrize(
    ("name", "bound"),
    [("ViT-T, 16 to 8 bits", 0.58), ("ViT-B", 0.58), ("RMSNorm", 0.61), ("affine", 0.62)],
)
def test_the_bound_is_little_more_than_the_rounding(name: str, bound: float) -> None:
    assert 0.5 < NORMS[name].bound_lsb < bound


def test_guard_bits_halve_what_exceeds_the_rounding() -> None:
    excess = [norm_of(192, guard_bits=bits).bound_lsb - 0.5 for bits in range(2, 9)]
    assert all(0.35 < b / a < 0.65 for a, b in pairwise(excess))


@pytest.mark.parametrize("name", ["ViT-T, 16 to 8 bits", "affine", "RMSNorm", "RMSNorm, affine", "large eps"])
def test_the_reference_is_torch_s(name: str) -> None:
    norm = NORMS[name]
    rows_raw = random_rows(norm)
    x = torch.tensor(norm.input.to_real(rows_raw))
    gamma, beta = torch.ones(norm.channels, dtype=torch.float64), torch.zeros(norm.channels)
    if norm.affine is not None:
        gamma = torch.tensor(norm.affine.gamma.to_real(norm.affine.gamma_raw))
        beta = torch.tensor(norm.affine.beta.to_real(norm.affine.beta_raw))
    if norm.rms:
        wanted = torch.nn.functional.rms_norm(x, (norm.channels,), gamma, norm.eps) + beta
    else:
        wanted = torch.nn.functional.layer_norm(x, (norm.channels,), gamma, beta.double(), norm.eps)
    np.testing.assert_allclose(reference(norm, rows_raw), wanted.numpy(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("eps", [0.0, 1e-6])
def test_equal_codes_give_exactly_beta(eps: float) -> None:
    norm = norm_of(48, eps=eps)
    codes = np.random.default_rng(0).integers(norm.input.min_raw, norm.input.max_raw + 1, (50, 1))
    assert not norm.run(np.repeat(codes, 48, axis=1)).any()
    affine = affine_of(48)
    moved = norm_of(48, eps=eps, affine=affine).run(np.repeat(codes, 48, axis=1))
    wanted = norm.output.quantize(affine.beta.to_real(affine.beta_raw))
    assert (moved == wanted).all()


def test_nothing_but_zeros_gives_zeros_of_rms_norm() -> None:
    assert not norm_of(16, rms=True, eps=0.0).run(np.zeros((1, 16), dtype=int)).any()


def test_a_row_of_any_size_is_as_good_as_its_multiple() -> None:
    """Without eps the norm does not know the scale; nor does the integer one, but for the root's table."""
    norm = norm_of(48, eps=0.0)
    rows_raw = np.random.default_rng(1).integers(-8, 9, (200, 48))
    assert np.abs(norm.run(rows_raw) - norm.run(rows_raw * 1000)).max() <= 1
    assert (norm.run(rows_raw) == norm.run(rows_raw * 1024)).all()
    assert (norm.run(rows_raw) == norm.run(rows_raw + 5000)).all()


def in_python_ints(norm: LayerNorm, row: list[int]) -> list[int]:
    """The documented arithmetic once more, without a width."""
    total, squares = sum(row), sum(x * x for x in row)
    radicand = squares if norm.rms else norm.channels * squares - total * total
    radicand = max(radicand + norm.eps_raw, 1)
    place = radicand.bit_length() - 1
    root = norm.root
    mantissa = (radicand << root.mantissa_bits >> place) - (1 << root.mantissa_bits)
    segment = ((place & 1) << root.segment_bits) + (mantissa >> root.rest_bits)
    rest = mantissa % (1 << root.rest_bits)
    factor = (root.offsets[segment] - (root.slopes[segment] * rest >> root.drop)) >> 2
    codes = []
    for channel, x in enumerate(row):
        numerator = x if norm.rms else norm.channels * x - total
        power = Fraction(2) ** (norm.frac + norm.lift - place // 2)
        result, frac = math.floor(numerator * power) * factor, norm.frac + root.frac
        if norm.affine is not None:
            result = (result >> root.frac) * norm.affine.gamma_raw[channel]
            exact = Fraction(result) / Fraction(2) ** (norm.frac + norm.affine.gamma.frac)
            exact += norm.affine.beta_raw[channel] / Fraction(2) ** norm.affine.beta.frac
        else:
            exact = Fraction(result) / Fraction(2) ** frac
        rounded = round(exact * Fraction(2) ** norm.output.frac)
        codes.append(max(norm.output.min_raw, min(norm.output.max_raw, rounded)))
    return codes


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_numpy_and_python_ints_agree(norm: LayerNorm) -> None:
    rows_raw = np.concatenate([random_rows(norm, rows=10), corner_rows(norm)])
    assert norm.run(rows_raw).tolist() == [in_python_ints(norm, row) for row in rows_raw.tolist()]


def test_the_widest_norm_does_not_overflow() -> None:
    norm = norm_of(8192, eps=0.0)
    rows_raw = corner_rows(norm)[-6:]
    assert norm.run(rows_raw).tolist() == [in_python_ints(norm, row) for row in rows_raw.tolist()]


def test_widths_hold_what_occurs_and_little_more() -> None:
    norm = norm_of(48)
    rows_raw = np.concatenate([random_rows(norm), corner_rows(norm)])
    sums, radicand = norm.statistics(rows_raw)
    assert (sums.min(), sums.max()) == norm.sum_range
    assert norm.radicand_min <= radicand.min()
    assert norm.radicand_max // 2 < radicand.max() <= norm.radicand_max
    numerators = 48 * rows_raw - sums
    assert norm.numerator_range[0] <= numerators.min() <= 0.9 * norm.numerator_range[0]
    assert 0.9 * norm.numerator_range[1] <= numerators.max() <= norm.numerator_range[1]


def test_ties_go_to_the_even_code() -> None:
    values = np.arange(-64, 65)
    for bits in (1, 2, 4):
        assert half_to_even(values, bits).tolist() == [round(Fraction(int(v), 1 << bits)) for v in values]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": 0}, r"channels must be 1\.\.8192, not 0"),
        ({"channels": 8193}, r"channels must be 1\.\.8192, not 8193"),
        ({"input": FixedFormat(17, 0)}, r"input of a norm must have at most 16 bits, not s17\.0"),
        ({"output": FixedFormat(18, 3)}, r"output of a norm must have at most 16 bits, not s18\.3"),
        ({"eps": -1.0}, r"eps must be finite and not negative, not -1\.0"),
        ({"eps": math.nan}, r"eps must be finite and not negative, not nan"),
        ({"guard_bits": 0}, r"guard bits must be 1\.\.16, not 0"),
        ({"guard_bits": 17}, r"guard bits must be 1\.\.16, not 17"),
        ({"affine": affine_of(5)}, r"gamma must have one value for each of 4 channels, not 5"),
        (
            {"output": FixedFormat(8, 50)},
            r"every wire of a norm must fit 62 bits, not \d+ \(output s8\.50\)$",
        ),
        ({"eps": 1e30}, r"every wire of a norm must fit 62 bits, not \d+ \(input s16\.11, eps 1e\+30\)$"),
        (
            {"output": FixedFormat(16, 12), "guard_bits": 16},
            r"bits of a reciprocal square root must be 2\.\.22, not \d+; a narrower .* \(output s16\.12\)",
        ),
    ],
)
def test_fields_out_of_range_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        LayerNorm(**({"input": FixedFormat(16, 11), "output": FixedFormat(8, 5), "channels": 4} | fields))


def test_an_affine_that_does_not_fit_is_refused() -> None:
    format = FixedFormat(4, 2)
    with pytest.raises(InputError, match=r"^beta must have as many values as gamma, 2, not 1$"):
        Affine(gamma=format, beta=format, gamma_raw=(1, 2), beta_raw=(1,))
    with pytest.raises(InputError, match=r"^gamma must lie in s4\.2, not have the code 8$"):
        Affine(gamma=format, beta=format, gamma_raw=(8,), beta_raw=(1,))
    with pytest.raises(InputError, match=r"^beta must lie in s4\.2, not have the code -9$"):
        Affine(gamma=format, beta=format, gamma_raw=(7,), beta_raw=(-9,))


@pytest.mark.parametrize(
    ("rows_raw", "message"),
    [
        ([[1, 2]], r"rows must have the shape \(rows, 3\), not \(1, 2\)"),
        ([1, 2, 3], r"rows must have the shape \(rows, 3\), not \(3,\)"),
        ([[1, 2, 40000]], r"codes of rows must lie in s16\.11, not in \[1, 40000\]"),
    ],
)
def test_rows_that_are_none_are_refused(rows_raw: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        norm_of(3).run(rows_raw)


def test_corner_rows_are_these() -> None:
    norm = norm_of(3, "s8.0")
    assert corner_rows(norm).tolist() == [
        *([-128] * 3, [0] * 3, [1] * 3, [127] * 3),
        *([127, -128, -128], [-128, -128, 127], [-128, 127, 127], [127, 127, -128]),
        *([127, 0, 0], [0, 0, 127], [1, 0, 0], [0, 0, 1], [126, 127, 127], [127, 127, 126]),
        *([-128, 127, -128], [127, 127, -128], [0, 1, 0], [-128, -127, -126]),
    ]
    assert corner_rows(norm_of(6, "s2.0"))[-1].tolist() == [-2, -1, 0, 1, -2, -1]
    assert corner_rows(norm_of(2, "u4.0"))[:4].tolist() == [[0, 0], [0, 0], [1, 1], [15, 15]]
    assert corner_rows(norm).dtype == np.int64


def test_the_smallest_and_the_largest_norm_are_made() -> None:
    assert norm_of(1, guard_bits=1).bound_lsb > 0
    assert norm_of(MAX_CHANNELS, "s8.4", "s4.1").channels == MAX_CHANNELS
    with pytest.raises(InputError, match="channels"):
        norm_of(MAX_CHANNELS + 1)


def test_a_row_of_nothing_is_nothing_without_eps() -> None:
    assert reference(norm_of(2, eps=0.0), [[0, 0]]).tolist() == [[0.0, 0.0]]
    assert reference(norm_of(2, eps=0.0, rms=True), [[0, 0]]).tolist() == [[0.0, 0.0]]


def test_rows_of_any_integers_are_normalised() -> None:
    norm = norm_of(4, "s8.4")
    rows = np.array([[1, 2, -3, 100]], dtype=np.int8)
    assert (
        norm.run(rows).tolist()
        == norm.run(rows.astype(np.int64)).tolist()
        == norm.run(rows.tolist()).tolist()
    )
