"""What ``make bench-units`` measures: functions at widths, published figures, clips with short constants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sw.ir.errors import InputError
from sw.ir.expr import evaluate
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse


@dataclass(frozen=True, slots=True)
class Function:
    """A function over [-2^reach_bits, 2^reach_bits); ``{top}`` in its formula is the largest output code."""

    formula: str
    reach_bits: int = 2
    has_sign: bool = True


FUNCTIONS: dict[str, Function] = {
    "tanh": Function("{top}*tanh(x)"),
    "erf": Function("erf(x)"),
    "sigmoid": Function("sigmoid(x)", has_sign=False),
    "gelu": Function("0.5*x*(1 + erf(0.7071067811865476*x))"),
    "atan": Function("atan(x)"),
    "exp": Function("exp(-abs(x))", has_sign=False),
    "clip": Function("clip(1.54*x)", 3),
    "scaled_clip": Function("0.54*clip(2.98*x)", 3),
    "clip_line": Function("-0.488*x + clip(2.85*x) + 0.217", 3),
    "two_tanh": Function("tanh(x) + tanh(x + 0.27)"),
}
WIDTHS = ((6, 6), (8, 8), (10, 8), (12, 8), (16, 8), (12, 12))
QUICK_FUNCTIONS, QUICK_WIDTHS = ("tanh", "clip"), WIDTHS[:2]

PUBLISHED_TANH: dict[tuple[int, int, int], int] = {
    **{(6, 6, 0): 5, (8, 8, 0): 25, (10, 8, 0): 54, (12, 8, 0): 122, (12, 12, 0): 291},
    **{(10, 8, 1): 45, (12, 8, 1): 50, (16, 8, 1): 48, (12, 12, 1): 130},
}
"""(input bits, output bits, max_ulp) -> LUTs on xc7 of the smallest hand-written data path for tanh that we
know: full, half and bipartite tables and lines without stream control, Yosys 0.23 ``synth_xilinx -flatten
-nobram -nolutram -nodsp``."""

CLIP_FORMATS = FixedFormat(16, 11), FixedFormat(8, 5)
CLIP_LIMITED, CLIP_SHORT, REQUANTIZER = "clip(x, -2.25, 2.25)", "clip(1.5*x)", "x"


def two_digit_constants() -> list[float]:
    """2^a + 2^b and 2^a - 2^b within [0.5, 4), no two digits side by side, the lower one within 6 places."""
    values = {2.0**a + sign * 2.0**b for a in range(-1, 3) for b in range(a - 6, a - 1) for sign in (1, -1)}
    return sorted(v for v in values if 0.5 <= v < 4)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A function at its formats, the clock that its unit aims at, and how often it is placed."""

    function: str
    formula: str
    input: str
    output: str
    fmax_mhz: float
    seeds: int
    families: tuple[str, ...] = ("xc7", "ecp5", "ice40")
    is_clip_check: bool = False
    """Only LUTs on xc7, of the exact unit."""

    @property
    def widths(self) -> tuple[int, int]:
        return FixedFormat.parse(self.input).width, FixedFormat.parse(self.output).width

    def __str__(self) -> str:
        return f"{self.formula} {self.input} -> {self.output}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is measured.

    Raises:
        InputError: An unknown function, or seeds or jobs below 1.
    """

    functions: tuple[str, ...] = tuple(FUNCTIONS)
    widths: tuple[tuple[int, int], ...] = WIDTHS
    seeds: int = 5
    jobs: int = 2
    clip_constants: tuple[float, ...] = field(default_factory=lambda: tuple(two_digit_constants()))
    """Of which clip(c*x) is measured."""
    cache: Path = Path("build/units_bench")

    def __post_init__(self) -> None:
        for name in self.functions:
            if name not in FUNCTIONS:
                raise InputError(f"function must be one of {', '.join(FUNCTIONS)}, not '{name}'")
        for name, number in (("seeds", self.seeds), ("jobs", self.jobs)):
            if number < 1:
                raise InputError(f"number of {name} must be at least 1, not {number}")

    def cases(self) -> list[Case]:
        """Every function at every width, then the clips of the checks."""
        return [self._case(name, *pair) for name in self.functions for pair in self.widths] + [*self._clips()]

    def _case(self, name: str, wi: int, wo: int) -> Case:
        function = FUNCTIONS[name]
        input = FixedFormat(wi, wi - 1 - function.reach_bits)
        top = (1 << (wo - 1)) - 1
        formula = function.formula.format(top=top)
        return Case(
            function=name,
            formula=formula,
            input=str(input),
            output=str(_filled(formula, input, wo, has_sign=function.has_sign)),
            fmax_mhz=target_mhz(wi),
            seeds=self.seeds,
        )

    def _clips(self) -> Iterator[Case]:
        if not self.clip_constants:
            return
        constants = [f"clip({c!r}*x)" for c in self.clip_constants]
        for formula in dict.fromkeys((REQUANTIZER, CLIP_LIMITED, CLIP_SHORT, *constants)):
            input, output = map(str, CLIP_FORMATS)
            yield Case(
                function="clip check",
                formula=formula,
                input=input,
                output=output,
                fmax_mhz=target_mhz(CLIP_FORMATS[0].width),
                seeds=0,
                families=("xc7",),
                is_clip_check=True,
            )


def target_mhz(input_width: int) -> float:
    """The clock that a unit must reach on ECP5, and for which its registers are placed."""
    return 250.0 if input_width <= 10 else 200.0


def _filled(formula: str, input: FixedFormat, width: int, *, has_sign: bool) -> FixedFormat:
    """The output format whose range the function fills; 1 itself may saturate."""
    values = np.abs(evaluate(parse(formula), input.to_real(input.codes())))
    largest = float(values.max()) * (1 - 2.0**-width)
    if not has_sign:
        return FixedFormat(width, width - int(np.ceil(np.log2(largest))), signed=False)
    return FixedFormat(width, width - 1 - int(np.ceil(np.log2(largest))))


def read_widths(text: str) -> tuple[tuple[int, int], ...]:
    """``6->6,8->8`` as pairs.

    Raises:
        InputError: It does not look like that, or a width is out of range.
    """
    pairs = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        sides = part.split("->")
        if len(sides) != 2 or not all(s.strip().isdigit() and 4 <= int(s) <= 16 for s in sides):
            raise InputError(f"widths must look like '6->6,12->8' and be 4..16, not '{part}'")
        pairs.append((int(sides[0]), int(sides[1])))
    return tuple(pairs)
