"""What the known forms reach at a site when their constants are fitted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gp.fitness import Split, Target, bin_pairs, r2
from gp.rewrite import substitute
from sw.ir.errors import InputError
from sw.ir.expr import Expr, X, clip, const, evaluate, node
from sw.ir.formats import FloatArray
from sw.ir.parse import parse


@dataclass(frozen=True, slots=True)
class Form:
    """A family of functions: its formula for given constants, and where a search for them starts.

    Constants are dimensionless but for the ``slopes``, the factors before x, which are positive.
    """

    build: Callable[..., Expr]
    starts: tuple[tuple[float, ...], ...] = ((1.0, 0.0), (1.0, 0.8), (1.0, -0.8))
    """Values of all constants; slopes in units of the slopes that are tried."""
    slopes: tuple[int, ...] = (0,)
    """Which constants are slopes."""
    shifts: tuple[tuple[int, int], ...] = ()
    """Which are added to x times which slope."""
    is_scaled: bool = True
    """Whether an outer scale and offset are free."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A form with the constants that suit a site best: y ~ scale * expr(x) + offset."""

    name: str
    expr: Expr
    scale: float
    offset: float
    r2: float
    """Of the held-out pairs, weighted."""
    parameters: tuple[float, ...]
    """The constants in ``expr``, as the form's ``build`` takes them."""


def _line(slope: float, shift: float = 0.0) -> Expr:
    """A line, slope * x + shift, of constants short enough to print and read again."""
    scaled = node("mul", const(float(np.float32(slope))), X)
    return scaled if shift == 0 else node("add", scaled, const(_short(shift)))


def _short(value: float) -> float:
    return math.ldexp(round(math.ldexp(value, 20)), -20)


def _clip(slope: float, shift: float = 0.0) -> Expr:
    return clip(_line(slope, shift), const(-1), const(1))


def _of_line(shape: str) -> Form:
    """The form shape(slope * x + shift)."""
    formula = parse(shape)
    return Form(lambda slope, shift: substitute(formula, _line(slope, shift)), shifts=((1, 0),))


def _silu(slope: float, shift: float) -> Expr:
    return node("mul", _line(slope), node("sigmoid", _line(slope, shift)))


def _line_tanh(slope: float, share: float) -> Expr:
    return node("add", node("mul", const(_short(share)), _line(slope)), node("tanh", _line(slope)))


def _two_clips(slope: float, shift: float, slope_2: float, shift_2: float, share: float) -> Expr:
    return node("add", _clip(slope, shift), node("mul", const(_short(share)), _clip(slope_2, shift_2)))


_tanh = Form(lambda slope: node("tanh", _line(slope)), starts=((1.0,),))

_SECOND_CLIPS = ((0.25, 0.0, 1.0), (0.25, 0.0, -0.3), (0.1, -1.5, 3.0), (0.1, 1.5, 3.0), (0.03, 0.0, 3.0))
"""Slope, shift and weight to start from, where the first clip has slope 1, shift 0 and weight 1."""

BASELINES = ("linear", "clip", "scaled_dyt", "dyt", "derf")
"""The forms that are reported: a x + b; a clip(c x) + b; a tanh(c x) + b; tanh(c x) (DyT, arXiv
2503.10622); a erf(c x + s) + b (Derf, arXiv 2512.10938)."""

# An odd function is g(relu(u)) - g(relu(-u)) with g(0) = 0: exact at 0, where u/|u| is not.
FORMS: dict[str, Form] = {
    "linear": Form(lambda: X, starts=((),), slopes=()),
    "clip": Form(_clip, starts=((1.0,),)),
    "scaled_dyt": _tanh,
    "dyt": Form(_tanh.build, starts=((1.0,),), is_scaled=False),
    "derf": _of_line("erf(x)"),
    "atan": _of_line("atan(x)"),
    "cubic": _of_line("1/(relu(-x)**3 + 1) - 1/(relu(x)**3 + 1)"),
    "exp_root": _of_line("exp(-sqrt(relu(-x))) - exp(-sqrt(relu(x)))"),
    "exp": _of_line("exp(min(x, 0)) - exp(min(-x, 0))"),
    "inverse_root": _of_line("x/sqrt(square(x) + 1)"),
    "clip_shifted": Form(_clip, shifts=((1, 0),)),
    "clip_log_square": _of_line("clip(log(square(relu(x)) + 1) - log(square(relu(-x)) + 1), -1, 1)"),
    "clip_log": _of_line("clip(log(relu(x) + 1) - log(relu(-x) + 1), -1, 1)"),
    # |u|^(2/3) below 1/256, the finest constant of hardware formulas, is 0.025, and cancels at 0.
    "clip_power": _of_line(
        "clip(exp(0.6666666666666666*log(max(x, 0.00390625)))"
        " - exp(0.6666666666666666*log(max(-x, 0.00390625))), -1, 1)"
    ),
    "root_sigmoid": _of_line("x/(sqrt(square(x) + 1) + 1)"),
    "log_ratio": _of_line("1/(log(relu(-x) + 1) + 1) - 1/(log(relu(x) + 1) + 1)"),
    "sin_clip": _of_line("sin(clip(x, -1.5707963267948966, 1.5707963267948966))"),
    "softsign": _of_line("x/(abs(x) + 1)"),
    "asinh": _of_line(
        "log(relu(x) + sqrt(square(relu(x)) + 1)) - log(relu(-x) + sqrt(square(relu(-x)) + 1))"
    ),
    "silu": Form(_silu, shifts=((1, 0),)),
    "line_tanh": Form(_line_tanh, starts=((1.0, 0.0),)),
    "two_clips": Form(
        _two_clips,
        starts=(
            *((1.0, shift, 1.0, -shift, 1.0) for shift in (0.75, 3.0)),
            *((1.0, 0.0, ratio, shift, share) for ratio, shift, share in _SECOND_CLIPS),
        ),
        slopes=(0, 2),
        shifts=((1, 0), (3, 2)),
    ),
}
"""The reported forms, the other shapes of Derf's library (arXiv 2512.10938), and sums that evolution finds.
Every one is finite for all |u| < 1e100."""

_FINE_BINS = 4096
_NUM_SLOPES = 16
_FIRST_STEP, _SMALL_STEP, _LAST_STEP = 0.5, 0.05, 2e-3
_ENOUGH = 3e-6
"""A descent ends with a round of small steps that gains less than this share of the loss."""
_MAX_ROUNDS = 80
_MARGIN, _MAX_SHIFT, _MAX_LOG = 30.0, 16.0, 50.0
"""How far beyond the slopes that are tried, and from 0, constants may go: some forms are best at infinity."""


def fit_forms(split: Split, names: Iterable[str] | None = None) -> dict[str, Fitted]:
    """Forms of ``FORMS`` (None: all), fitted to the learning pairs and scored on the held-out ones.

    Raises:
        InputError: There is no form of a name.
    """
    wanted = list(FORMS) if names is None else list(names)
    for name in wanted:
        if name not in FORMS:
            raise InputError(f"form must be one of {', '.join(FORMS)}, not '{name}'")
    coarse = bin_pairs(split.x, split.y, split.w, growth_penalty=0.0)
    fine = _fine(split)
    return {name: _fitted(split, coarse, fine, name) for name in wanted}


def fit_homogeneous(targets: Sequence[Target], *, is_scaled: bool = True) -> float:
    """The one alpha of tanh(alpha x) that has the least squared error summed over all targets.

    With ``is_scaled`` every target has a scale and an offset of its own, otherwise they are 1 and 0.
    """

    def loss(slope: float) -> float:
        return sum(_affine(t, evaluate(_tanh.build(slope), t.x), is_scaled)[2] for t in targets)

    return _search(_tanh, loss, _slopes(targets))[0]


def score_form(split: Split, expr: Expr, *, is_scaled: bool, name: str = "") -> Fitted:
    """A given function at a site: with the best outer affine of the learning pairs, or with 1 and 0."""
    return _scored(split, _fine(split), Fitted(name or str(expr), expr, 1.0, 0.0, 0.0, ()), is_scaled)


def _fine(split: Split) -> Target:
    return bin_pairs(split.x, split.y, split.w, growth_penalty=0.0, num_bins=_FINE_BINS)


def _fitted(split: Split, coarse: Target, fine: Target, name: str) -> Fitted:
    form = FORMS[name]

    def loss(*constants: float) -> float:
        return _affine(coarse, evaluate(form.build(*constants), coarse.x), form.is_scaled)[2]

    best = _search(form, loss, _slopes([coarse]))
    unscored = Fitted(name, form.build(*best), 1.0, 0.0, 0.0, best)
    return _scored(split, fine, unscored, form.is_scaled)


def _scored(split: Split, fine: Target, form: Fitted, is_scaled: bool) -> Fitted:
    scale, offset, _ = _affine(fine, evaluate(form.expr, fine.x), is_scaled)
    predicted = scale * evaluate(form.expr, split.held_x) + offset
    score = r2(split.held_y, predicted, split.held_w)
    return Fitted(form.name, form.expr, scale, offset, score, form.parameters)


def _affine(target: Target, value: FloatArray, is_scaled: bool) -> tuple[float, float, float]:
    """Scale, offset and squared error, noise within bins not counted; a constant has scale 0."""
    weight, y = target.weight[:-2], target.y[:-2]
    value = value[:-2]
    scale, offset = 1.0, 0.0
    if is_scaled:
        mean_y, centred = float(weight @ y), value - float(weight @ value)
        square = float(weight @ (centred * centred))
        varies = square > 1e-24 * float(weight @ (value * value))  # more than rounding does
        scale = float(weight @ (centred * (y - mean_y))) / square if varies else 0.0
        offset = mean_y - scale * float(weight @ value)
    error = float(weight @ (scale * value + offset - y) ** 2)
    return scale, offset, error if math.isfinite(error) else math.inf


def _slopes(targets: Sequence[Target]) -> FloatArray:
    """Slopes from those that hardly bend any x to those that bend nearly all, evenly in the logarithm."""
    magnitudes = [np.sort(np.abs(t.x[:-2])) for t in targets]
    largest = max(float(m[-1]) for m in magnitudes) or 1.0
    small = min(float(m[len(m) // 20]) for m in magnitudes)
    return np.geomspace(0.3 / largest, 10.0 / max(small, 1e-9 * largest), _NUM_SLOPES)


def _search(form: Form, loss: Callable[..., float], slopes: FloatArray) -> tuple[float, ...]:
    """The constants of least loss, slopes near the given ones: the best of a descent from every start.

    A point of the descent has logarithms for slopes; and shifts as they would be at the first slope, so
    that a change of the slope leaves the place where its line crosses 0.
    """
    lowest, highest = math.log(slopes[0] / _MARGIN), math.log(slopes[-1] * _MARGIN)
    shifts = dict(form.shifts)

    def constants(point: Sequence[float], logs: Sequence[float]) -> tuple[float, ...]:
        """The constants of a point whose slopes started at ``logs``."""
        values = list(point)
        for i in form.slopes:
            values[i] = float(np.float32(math.exp(min(max(point[i], lowest), highest))))
        for i, j in shifts.items():
            values[i] *= math.exp(min(point[j] - logs[j], _MAX_LOG))
        return tuple(
            v if i in form.slopes else _short(min(max(v, -_MAX_SHIFT), _MAX_SHIFT))
            for i, v in enumerate(values)
        )

    def loss_from(logs: Sequence[float]) -> Callable[[Sequence[float]], float]:
        return lambda point: loss(*constants(point, logs))

    if not form.slopes:
        return ()
    found = []
    for start in form.starts:
        points = [
            [math.log(v * base) if i in form.slopes else v for i, v in enumerate(start)] for base in slopes
        ]
        first = min(points, key=lambda p: loss(*constants(p, p)))
        found.append(constants(_descend(loss_from(first), first), first))
    return min(found, key=lambda c: loss(*c))


def _descend(loss: Callable[[Sequence[float]], float], start: Sequence[float]) -> Sequence[float]:
    """A point of less loss: one coordinate after the other, then once along what all of them gained.

    A step that helps doubles, one that does not turns round and shrinks (Rosenbrock 1960; the common
    step is Hooke and Jeeves', 1961).
    """
    best, best_loss, steps = list(start), loss(start), [_FIRST_STEP] * len(start)
    for _ in range(_MAX_ROUNDS):
        before, before_loss = best, best_loss
        for i in range(len(steps)):
            moved = [*best[:i], best[i] + steps[i], *best[i + 1 :]]
            moved_loss = loss(moved)
            gains = moved_loss < best_loss
            steps[i] *= 2.0 if gains else -0.5
            if gains:
                best, best_loss = moved, moved_loss
        largest = max(map(abs, steps))
        if largest < _LAST_STEP or (
            largest < _SMALL_STEP and 0 < before_loss - best_loss < _ENOUGH * best_loss
        ):
            break
        if best != before and len(steps) > 1:
            moved = [2 * b - a for a, b in zip(before, best, strict=True)]
            moved_loss = loss(moved)
            if moved_loss < best_loss:
                best, best_loss = moved, moved_loss
    return best
