"""Arithmetic that carries a rigorous bound of its own rounding error, in float64 and in mpmath.

A value is a pair (v, e) of arrays: the true result lies in [v - e, v + e]. The first-order rules are
those of running error analysis (Higham, Accuracy and Stability of Numerical Algorithms, 3.3), made
rigorous by the remainder of each function's own derivative bound. Sums and products of float64 use
the exact residual (TwoSum, Dekker's product), so a computation without rounding has a bound of zero
and ties are seen as ties.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np

from sw.ir.expr import NUMPY_OPS

Bounded = tuple[Any, Any]
_ULPS = 4
"""What a library function may be off, in units of 2^-53 of its value: two to four last places."""
_ERF_SPARE_BITS = 8
"""Beyond the working precision, where erf is taken for 1."""
_EXP_LIMIT = 1e6
_SIN_BITS = 4096
_FUNCTIONS = ("tanh", "erf", "exp", "log", "sqrt", "atan", "sin", "sigmoid", "floor")


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Elementwise operations of one number type.

    Args:
        unit: Relative size of one rounding.
        tiny: Absolute error of a rounding near zero.
        functions: tanh, erf, exp, log, sqrt, atan, sin, sigmoid, floor of an array.
        sum_residual: Rounding error of ``a + b``, given a, b and the rounded sum.
        product_residual: The same for ``a * b``.
        quotient_residual: A bound of ``|a - b * q|``, given a, b and the rounded quotient q.
        number: The nearest value of an exact number, and the bound of its rounding.
        tie: What lies so close to an integer counts as that integer where ``floor`` asks, and what lies so
            close to 0 as 0 where ``sqrt`` does.
    """

    unit: Any
    tiny: Any
    functions: dict[str, Callable[[Any], Any]]
    sum_residual: Callable[[Any, Any, Any], Any]
    product_residual: Callable[[Any, Any, Any], Any]
    quotient_residual: Callable[[Any, Any, Any], Any]
    number: Callable[[Fraction], Bounded]
    tie: Any = 0.0

    def ops(self) -> dict[str, Callable[..., Bounded]]:
        """The operation table that ``interpret_expr`` wants."""
        return {
            "add": self._add,
            "sub": lambda a, b: self._add(a, _neg(b)),
            "neg": _neg,
            "mul": self._mul,
            "square": lambda a: self._mul(a, a),
            "div": self._div,
            "pow": self._pow,
            "abs": lambda a: (np.abs(a[0]), a[1]),
            "relu": lambda a: _larger(a, (0 * a[0], 0 * a[1])),
            "floor": self._floor,
            "min": lambda a, b: _neg(_larger(_neg(a), _neg(b))),
            "max": _larger,
            "clip": self._clip,
            "tanh": self._lipschitz("tanh", 1.0),
            "erf": self._lipschitz("erf", 1.13),
            "atan": self._lipschitz("atan", 1.0),
            "sin": self._lipschitz("sin", 1.0),
            "sigmoid": self._lipschitz("sigmoid", 0.25, floor=1.0),
            "exp": self._exp,
            "log": self._log,
            "sqrt": self._sqrt,
        }

    def _rounding(self, v: Any) -> Any:
        return self.unit * np.abs(v) + self.tiny

    def _add(self, a: Bounded, b: Bounded) -> Bounded:
        v = a[0] + b[0]
        return v, a[1] + b[1] + self.sum_residual(a[0], b[0], v)

    def _mul(self, a: Bounded, b: Bounded) -> Bounded:
        v = a[0] * b[0]
        spread = np.abs(a[0]) * b[1] + np.abs(b[0]) * a[1] + a[1] * b[1]
        return v, spread + self.product_residual(a[0], b[0], v)

    def _div(self, a: Bounded, b: Bounded) -> Bounded:
        safe = np.abs(b[0]) > b[1]
        divisor = np.where(safe, b[0], 1)
        margin = np.where(safe, np.abs(b[0]) - b[1], 1)
        v = a[0] / divisor
        e = (a[1] + np.abs(v) * b[1] + self.quotient_residual(a[0], divisor, v)) / margin
        return np.where(safe, v, np.nan), np.where(safe, e, np.inf)

    def _pow(self, base: Bounded, power: int) -> Bounded:
        result = self.number(Fraction(1))
        for _ in range(abs(power)):
            result = self._mul(result, base)
        return result if power >= 0 else self._div(self.number(Fraction(1)), result)

    def _clip(self, a: Bounded, lo: Bounded, hi: Bounded) -> Bounded:
        v = np.minimum(np.maximum(a[0], lo[0]), hi[0])
        outside = (a[0] + a[1] < lo[0]) | (a[0] - a[1] > hi[0])
        own = np.where(outside, 0 * a[1], a[1])
        return v, own + np.maximum(lo[1], hi[1])

    def _floor(self, a: Bounded) -> Bounded:
        floor = self.functions["floor"]
        nearest = floor(a[0] + 0.5)
        low, high = (floor(end) for end in enclosure(a))
        # An integer only where the enclosure does not say on which side of it the argument is.
        known = ((np.abs(a[0] - nearest) + a[1]) < self.tie) & (low != high)
        v = np.where(known, nearest, floor(a[0]))
        e = np.maximum(v - low, high - v)
        return v, np.where(known, 0 * e, e)

    def _lipschitz(self, name: str, slope: float, *, floor: float = 0.0) -> Callable[[Bounded], Bounded]:
        def bounded(a: Bounded) -> Bounded:
            v = self.functions[name](a[0])
            return v, a[1] * slope + _ULPS * self._rounding(np.maximum(np.abs(v), floor + 0 * np.abs(v)))

        return bounded

    def _exp(self, a: Bounded) -> Bounded:
        v = self.functions["exp"](a[0])
        spread = np.where(a[1] < 1, v * 2 * a[1], np.inf)  # exp(e) - 1 < 2e below 1
        spread = np.where(a[0] + 2 * a[1] < -_EXP_LIMIT, 0 * v, spread)  # the result is below ``tiny``
        return v, spread + _ULPS * self._rounding(v)

    def _log(self, a: Bounded) -> Bounded:
        safe = a[0] > 2 * a[1]
        inside = np.where(safe, a[0], 1)
        v = self.functions["log"](inside)
        e = 2 * a[1] / inside + _ULPS * self._rounding(v)
        return np.where(safe, v, np.nan), np.where(safe, e, np.inf)

    def _sqrt(self, a: Bounded) -> Bounded:
        positive = a[0] > 2 * a[1]
        zero = ~positive & (((a[0] == 0) & (a[1] == 0)) | (np.abs(a[0]) + a[1] < self.tie))
        safe = positive | zero
        inside = np.where(zero, 0 * a[0], np.where(safe, a[0], 1))
        v = self.functions["sqrt"](inside)
        e = a[1] / np.where(v == 0, 1, v) + self._rounding(v)
        return np.where(safe, v, np.nan), np.where(safe, np.where(zero, 0, e), np.inf)


def enclosure(a: Bounded) -> tuple[Any, Any]:
    """The ends of an interval that holds the true result, rounded outwards; both are v where e is 0."""
    v, e = a
    low, high = v - 2 * e, v + 2 * e
    if np.asarray(low).dtype == object:
        return low, high
    # v - 2e may round back to v, and an enclosure must not shrink to a false tie.
    return np.where(e > 0, np.nextafter(low, -np.inf), low), np.where(e > 0, np.nextafter(high, np.inf), high)


def _neg(a: Bounded) -> Bounded:
    return -a[0], a[1]


def _larger(a: Bounded, b: Bounded) -> Bounded:
    """The maximum, with the error of one alone where it is the larger one for certain."""
    (a_low, a_high), (b_low, b_high) = enclosure(a), enclosure(b)
    either = np.maximum(a[1], b[1])
    e = np.where(a_low > b_high, a[1], np.where(b_low > a_high, b[1], either))
    return np.maximum(a[0], b[0]), e


def _two_sum(a: Any, b: Any, s: Any) -> Any:
    """Knuth's TwoSum: |a + b - s|, exact."""
    back = s - a
    return np.abs((a - (s - back)) + (b - back))


def _two_product(a: Any, b: Any, p: Any) -> Any:
    """Dekker's product: |a * b - p|, exact unless it overflows (then NaN: undecided) or may underflow.

    There it is a bound: half a step of p, and more than any of the parts that underflow.
    """
    ah, bh = _high(a), _high(b)
    al, bl = a - ah, b - bh
    residual = np.abs(((ah * bh - p) + ah * bl + al * bh) + al * bl)
    small = (np.abs(p) < 1e-200) & (a != 0) & (b != 0)
    return np.where(small, np.abs(p) * 2.0**-53 + 1e-290, residual)


def _quotient_residual(a: Any, b: Any, q: Any) -> Any:
    """|a - b * q| in float64, zero if the division was exact."""
    product = q * b
    return 1.000001 * np.abs(a - product) + _two_product(q, b, product)


def _high(a: Any) -> Any:
    scaled = 134217729.0 * np.asarray(a, dtype=np.float64)  # 2^27 + 1, Veltkamp's split
    return scaled - (scaled - a)


def _float_number(exact: Fraction) -> Bounded:
    value = exact.numerator / exact.denominator
    return np.float64(value), np.float64(abs(float(Fraction(value) - exact)) * 1.000001)


FLOAT64 = Arithmetic(
    unit=2.0**-53,
    tiny=1e-300,
    functions={n: NUMPY_OPS[n] for n in _FUNCTIONS},
    sum_residual=_two_sum,
    product_residual=_two_product,
    quotient_residual=_quotient_residual,
    number=_float_number,
)
"""Vectorised float64."""


def multiprecision(bits: int, tie: Any = 0.0) -> Arithmetic:
    """Mpmath numbers in object arrays; use inside ``mpmath.workprec(bits)``."""
    unit = mpmath.mpf(2) ** (1 - bits)

    def number(exact: Fraction) -> Bounded:
        v = mpmath.mpf(exact.numerator) / exact.denominator
        return _scalar(v), _scalar(abs(v) * unit)

    def residual(_a: Any, _b: Any, result: Any) -> Any:
        return np.abs(result) * unit

    def quotient(a: Any, b: Any, q: Any) -> Any:
        return np.abs(a) * unit * 2

    names = {"tanh": mpmath.tanh, "erf": _mp_erf, "exp": _mp_exp, "log": mpmath.log}
    names |= {"sqrt": mpmath.sqrt, "atan": mpmath.atan, "sin": _mp_sin, "sigmoid": _mp_sigmoid}
    names |= {"floor": mpmath.floor}
    functions = {name: np.frompyfunc(f, 1, 1) for name, f in names.items()}
    tiny = mpmath.mpf(2) ** (-8 * bits)
    return Arithmetic(unit, tiny, functions, residual, residual, quotient, number, tie)


def _scalar(v: Any) -> Any:
    box = np.empty((), dtype=object)
    box[()] = v
    return box


def _mp_exp(v: Any) -> Any:
    """exp, infinite beyond e^1000000 and 0 below its inverse: an argument may have millions of bits."""
    if v <= -_EXP_LIMIT:
        return mpmath.mpf(0)
    return mpmath.exp(v) if v < _EXP_LIMIT else mpmath.inf


def _mp_sin(v: Any) -> Any:
    """sin, not a number where its argument is so large that no precision of ours knows its phase."""
    return mpmath.sin(v) if mpmath.isfinite(v) and mpmath.mag(v) < _SIN_BITS else mpmath.nan


def _mp_erf(v: Any) -> Any:
    """erf, which is 1 to all bits sooner than mpmath sees it: 1 - erf(v) < exp(-v^2)."""
    if v * v > (mpmath.mp.prec + _ERF_SPARE_BITS) * mpmath.ln2:
        return mpmath.sign(v)
    return mpmath.erf(v)


def _mp_sigmoid(v: Any) -> Any:
    return 1 / (1 + _mp_exp(-v))
