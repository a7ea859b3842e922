"""What a Program should cost in logic, without synthesis: a linear model of its features.

The costs are fitted to synthesized functions (``benchmarks/cost_model``), which also says how far off
predictions are for other functions.
"""

from __future__ import annotations

from collections.abc import Sequence

from sw.ir.features import Counts, features, table_counts
from sw.ir.program import Op, Program

COSTS: dict[str, Counts] = {
    "xc7": {
        **{"adder_bit": 0.691, "constant_adder": 0.835, "constant_adder_bit": 0.162},
        **{"subtractor_bit": 0.831, "sign_bit": 0.847, "product_bit": 1.411},
        **{"compare_bit": 0.803, "compare_constant_bit": 0.032, "equal_constant_bit": 0.309},
        **{"multiplexer_bit": 0.633, "clamp_bit": 1.024, "clamp_beyond_bit": 0.753},
        **{"clamp_odd": 1.076, "lut6_piece": 0.88, "lut6_near": 0.689},
        **{"lut6_far": 0.364},
    },
    "ecp5": {
        **{"adder_bit": 0.877, "constant_adder": 3.588, "constant_adder_bit": 0.556},
        **{"subtractor_bit": 0.937, "sign_bit": 2.128, "product_bit": 2.333},
        **{"compare_bit": 1.244, "equal_constant_bit": 0.406, "multiplexer_bit": 0.954},
        **{"clamp_bit": 1.388, "clamp_beyond_bit": 8.453, "clamp_odd": 7.14},
        **{"lut4_piece": 0.647, "lut4_near": 0.709, "lut4_far": 1.449},
    },
}
"""Family -> LUTs a unit of each feature: LUT6 of xc7, LUT4 of ECP5."""

STREAM_CONTROL = 1.0
"""LUTs that valid, ready and last add to a unit."""


def lut6(program: Program, *, blocks: frozenset[int] = frozenset()) -> float:
    """Predicted 6-input LUTs of a one-lane unit for the program, stream control included.

    Args:
        blocks: Look-ups from block memory, which cost no LUT.

    >>> from sw.ir.build import Builder
    >>> from sw.ir.formats import FixedFormat
    >>> b = Builder(FixedFormat.parse("s8.0"))
    >>> lut6(b.build(b.shr(b.x, 2), FixedFormat.parse("s6.-2")))
    1.0
    """
    return luts(program, "xc7", blocks=blocks)


def luts(program: Program, family: str, *, blocks: frozenset[int] = frozenset()) -> float:
    """Predicted LUTs in a family of ``COSTS``, as ``lut6``."""
    costs = COSTS[family]
    total = sum(costs.get(name, 0.0) * count for name, count in features(program).items())
    for index in blocks:
        assert program.instrs[index].op is Op.LOOKUP
        table = program.tables[program.instrs[index].params[0]]
        total -= table_luts(table, program.instrs[program.instrs[index].args[0]].width, family)
    return STREAM_CONTROL + max(total, 0.0)


def table_luts(values: Sequence[int], address_bits: int, family: str = "xc7") -> float:
    """Predicted LUTs of a table alone."""
    costs = COSTS[family]
    return sum(costs.get(name, 0.0) * count for name, count in table_counts(values, address_bits).items())


def table_lut6(values: Sequence[int], address_bits: int) -> float:
    """``table_luts`` of xc7."""
    return table_luts(values, address_bits)
