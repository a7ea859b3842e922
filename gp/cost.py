"""What a candidate costs: LUTs of its realised map, a quick guess at them, and the paper's two counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gp.grid import num_digits
from gp.primitives import ARITY, CONSTANT
from sw.ir.expr import Expr
from sw.ir.formats import FixedFormat, IntArray
from sw.ir.realize import Realization, plan_kind, realize
from sw.ir.realize.target import Target

FLOPS = dict.fromkeys(("add", "sub", "mul", "div", "min", "max", "square"), 1) | {"tanh": 23, "sigmoid": 22}
"""The paper's prices (v2), and 1 for simple arithmetic that it lacks."""
FREE = ("x", "const", "neg", "clip", "abs", "relu", "floor")
"""A sign, a bounds check, or bits that are not read."""
FUNCTION = 23
"""Any other function, like tanh."""

_GUESS = {
    "add": 20.0,
    "min": 20.0,
    "max": 20.0,
    "neg": 10.0,
    "abs": 14.0,
    "clip": 14.0,
    "tanh": 110.0,
    "sigmoid": 110.0,
}
_GUESS_SCALE = 18.0
"""A product with a constant of few signed digits."""
_GUESS_PRODUCT = 150.0
_GUESS_BIAS = 6.0
"""An added constant; at best it makes a rounding unnecessary."""
_GUESS_TABLE = 160.0
"""No map from 16 to 8 bits costs much more: at worst it is a piecewise-linear table."""


def guess(names: Sequence[str]) -> float:
    """Roughly the LUT6 of a skeleton's cheapest realisation, without looking at its map; microseconds."""
    total = 0.0
    is_constant: list[bool] = []
    for name in reversed(names):
        args = [is_constant.pop() for _ in range(ARITY[name])]
        is_constant.append(name == CONSTANT)
        if name == "mul":
            total += _GUESS_SCALE if any(args) else _GUESS_PRODUCT
        else:
            total += _GUESS.get(name, 0.0)
    return min(total, _GUESS_TABLE + len(names))


def guess_expr(expr: Expr) -> float:
    """Roughly the LUT6 of a formula's cheapest realisation; products count the digits of their factor."""
    return min(sum(_own_guess(e) for e in set(expr.walk())), _GUESS_TABLE + nodes(expr))


def _own_guess(e: Expr) -> float:
    factors = [a.value for a in e.args if a.value is not None]
    if e.op in ("add", "sub"):
        return _GUESS_BIAS if factors else _GUESS["add"]
    if e.op != "mul":
        return _GUESS.get(e.op, 0.0)
    return _GUESS_SCALE * (num_digits(factors[0]) - 1) if factors else _GUESS_PRODUCT


def nodes(expr: Expr) -> int:
    """Operations and leaves, the paper's first price; the limits of a clip do not count."""
    return 1 + sum(nodes(a) for a in (expr.args[:1] if expr.op == "clip" else expr.args))


def flops(expr: Expr) -> int:
    """The paper's second price (arXiv 2605.14047 v2, as reported): a sum or product of n terms costs n - 1.

    tanh 23, sigmoid 22, an integer power p costs p - 1; clip, negation and a factor of -1 are free.
    """
    inner = sum(flops(a) for a in expr.args)
    if expr.op == "mul" and any(a.value == -1 for a in expr.args):
        return inner
    if expr.op == "pow":
        return inner + max(abs(expr.power) - 1, 0) + (expr.power < 0)
    return inner + (0 if expr.op in FREE else FLOPS.get(expr.op, FUNCTION))


def skeleton_flops(names: Sequence[str]) -> float:
    """The paper's second price as its search counts it: a clip costs 1, so that they do not pile up."""
    return float(sum(1 if n == "clip" else FLOPS.get(n, 0) + (n in ("double", "half")) for n in names))


SKELETON_PRICES: dict[str, Callable[[Sequence[str]], float]] = {
    "lut6": guess,
    "nodes": lambda names: float(len(names)),
    "flops": skeleton_flops,
}
"""What steers a search, by the name of the price: of a tree's node names, without its map."""

EXPR_PRICES: dict[str, Callable[[Expr], float]] = {
    "nodes": lambda expr: float(nodes(expr)),
    "flops": lambda expr: float(flops(expr)),
}
"""Prices that a formula alone decides."""


@dataclass(slots=True)
class Pricer:
    """Realises formulas between two formats, each one once, and says what they cost.

    Args:
        kind: The kind of realisation, or ``auto`` for the cheapest.
        max_ulp: 0 for exact, 1 for faithful.
        by: ``lut6`` (of the realised map), or the paper's ``nodes`` or ``flops`` (of the formula).
    """

    input: FixedFormat
    output: FixedFormat
    kind: str = "auto"
    max_ulp: int = 0
    by: str = "lut6"
    _known: dict[tuple[Expr, str], Realization] = field(default_factory=dict)

    def realize(self, expr: Expr, kind: str = "auto") -> Realization:
        """The realisation of a formula's map; its ``lut6`` is the exact price.

        Where the pricer's own kind is ``auto``, only ``kind`` is tried.

        Raises:
            InputError: There is none of this kind.
        """
        wanted = kind if self.kind == "auto" else self.kind
        if (expr, wanted) not in self._known:
            made = realize(expr, self.input, self.output, kind=wanted, max_ulp=self.max_ulp)
            self._known[expr, wanted] = made
        return self._known[expr, wanted]

    def sketch(self, expr: Expr, map: IntArray, kind: str) -> Realization:
        """The realisation of one kind, of a map that is known but for ties: in a fraction of the time."""
        target = Target(expr, self.input, self.output, map, self.max_ulp)
        return plan_kind(kind if self.kind == "auto" else self.kind, target)

    def price(self, expr: Expr, realization: Realization) -> float:
        """What a realised formula costs."""
        return EXPR_PRICES[self.by](expr) if self.by in EXPR_PRICES else realization.lut6

    def bound(self, expr: Expr) -> float:
        """What a formula costs at least, roughly, without its map."""
        return EXPR_PRICES[self.by](expr) if self.by in EXPR_PRICES else guess_expr(expr)
