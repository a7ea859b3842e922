"""LUTs of single operations on xc7, as Yosys maps them, one by one; sw.ir.price is fitted to whole functions.

``make bench`` takes a few minutes and writes ``benchmarks/lut_costs.json``. Each operation is measured as
the bare data path of a one-operation Program, so nothing but that operation and flip-flops is counted.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from amaranth.back import verilog

from hw.measure import resources
from hw.pipeline import Datapath
from sw.files import write_json
from sw.ir.build import Builder, Wire
from sw.ir.formats import FixedFormat
from sw.ir.interpret import MAX_TABLE_BITS
from sw.ir.program import Op, Program
from sw.ir.schedule import plan
from sw.terminal import progress

MakeWire = Callable[[Builder, Wire, Wire], Wire]


def two_inputs(width: int, make: MakeWire) -> Program:
    """A program on two operands of ``width`` bits: the input's upper end, signed, and its lower end."""
    total = min(2 * width, MAX_TABLE_BITS)
    builder = Builder(FixedFormat(total, 0))
    result = make(builder, builder.shr(builder.x, total - width), builder.low(builder.x, width))
    return finished(builder, result)


def one_input(width: int, make: Callable[[Builder, Wire], Wire], *, signed: bool = True) -> Program:
    builder = Builder(FixedFormat(width, 0, signed))
    return finished(builder, make(builder, builder.x))


def finished(builder: Builder, result: Wire) -> Program:
    lo, hi = builder.range(result)
    width = max(hi.bit_length(), (-lo - 1).bit_length() if lo < 0 else 0) + (lo < 0)
    return builder.build(result, FixedFormat(max(width, 2), 0, lo < 0))


def unsigned_mul(a: int, b: int) -> Program:
    builder = Builder(FixedFormat(a + b, 0, False))
    return finished(builder, builder.mul(builder.shr(builder.x, b), builder.low(builder.x, b)))


def signed_mul(a: int, b: int) -> Program:
    builder = Builder(FixedFormat(a + b, 0))
    return finished(builder, builder.mul(builder.shr(builder.x, b), builder.low(builder.x, b)))


def curve(address_bits: int, out_bits: int) -> list[int]:
    """A smooth table (tanh): what realisations store."""
    size = 1 << address_bits
    return [int(v) for v in np.rint(np.tanh(np.arange(size) / size * 3) * ((1 << out_bits) - 1))]


def noise(address_bits: int, out_bits: int) -> list[int]:
    """A table without structure: an upper bound."""
    return [int(v) for v in np.random.default_rng(0).integers(0, 1 << out_bits, 1 << address_bits)]


def half_even(builder: Builder, x: Wire, shift: int) -> Wire:
    """Round to the nearest multiple of 2^shift, ties to even: add half-1 plus the kept lowest bit, floor."""
    odd = builder.low(builder.shr(x, shift), 1)
    half = builder.const((1 << (shift - 1)) - 1)
    return builder.shr(builder.add(builder.add(x, half), odd), shift)


def half_even_late(builder: Builder, x: Wire, shift: int) -> Wire:
    """The same: round half up, then take one back on an odd tie."""
    up = builder.shr(builder.add(x, builder.const(1 << (shift - 1))), shift)
    tie = builder.eq(builder.low(x, shift), builder.const(1 << (shift - 1)))
    return builder.sub(up, builder.select(tie, builder.low(up, 1), builder.const(0)))


def cases() -> dict[str, Program]:
    """Name -> one-operation program."""
    made: dict[str, Program] = {}
    for w in (4, 8, 12, 16):
        made[f"add {w}"] = two_inputs(w, lambda b, x, y: b.add(x, y))
        made[f"sub {w}"] = two_inputs(w, lambda b, x, y: b.sub(x, y))
        made[f"lt {w}"] = two_inputs(w, lambda b, x, y: b.lt(x, y))
        made[f"eq {w}"] = two_inputs(w, lambda b, x, y: b.eq(x, y))
        made[f"min {w}"] = two_inputs(w, lambda b, x, y: b.min(x, y))
    for w in (4, 8, 12, 15):
        made[f"select {w}"] = two_inputs(w, lambda b, x, y: b.select(b.low(y, 1), x, b.shr(y, 1)))
    for w in (8, 12, 16):
        made[f"add_const {w}"] = one_input(w, lambda b, x: b.add(x, b.const(37)))
        made[f"neg {w}"] = one_input(w, lambda b, x: b.neg(x))
        made[f"abs {w}"] = one_input(w, lambda b, x: b.abs(x))
        made[f"abs_clamp {w}"] = one_input(w, lambda b, x, w=w: b.clamp(b.abs(x), 0, (1 << (w - 1)) - 1))
        made[f"lt_const {w}"] = one_input(w, lambda b, x: b.lt(x, b.const(37)))
        made[f"eq_const {w}"] = one_input(w, lambda b, x: b.eq(x, b.const(37)))
        made[f"clamp_pow2_8 {w + 2}"] = one_input(w + 2, lambda b, x: b.clamp(x, -128, 127))
        made[f"clamp_any_8 {w + 2}"] = one_input(w + 2, lambda b, x: b.clamp(x, -99, 101))
        made[f"negate {w}"] = one_input(w, lambda b, x: b.negate(b.low(x, 1), b.shr(x, 1)))
        made[f"half_even_4 {w}"] = one_input(w, lambda b, x: half_even(b, x, 4))
        made[f"half_even_late_4 {w}"] = one_input(w, lambda b, x: half_even_late(b, x, 4))
    for n in (4, 5, 6, 7, 8, 9, 10, 11, 12):
        made[f"lookup_curve {n}x8"] = one_input(n, lambda b, x, n=n: b.lookup(x, curve(n, 8)), signed=False)
    for n in (4, 5, 6, 7, 8, 9, 10):
        made[f"lookup_noise {n}x8"] = one_input(n, lambda b, x, n=n: b.lookup(x, noise(n, 8)), signed=False)
    for a, b in ((3, 6), (4, 4), (6, 6), (8, 8), (10, 8), (8, 4)):
        made[f"mul_unsigned {a}x{b}"] = unsigned_mul(a, b)
        made[f"mul_signed {a}x{b}"] = signed_mul(a, b)
    return made


def measure(programs: dict[str, Program], cache: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    with progress("lut costs", len(programs)) as done:
        for name, program in programs.items():
            assert any(i.op is not Op.INPUT for i in program.instrs), name
            lane = Datapath(program, plan(program, 1.0))
            text = verilog.convert(lane, name="lane", emit_src=False, strip_internal_attrs=True)
            found[name] = resources(text, ["lane"], "xc7", cache)["lane"]
            done(name)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/lut_costs.json"))
    parser.add_argument("--cache", type=Path, default=Path("build/lut_costs"))
    args = parser.parse_args()
    found = measure(cases(), args.cache)
    write_json(args.out, found)
    for name, counts in found.items():
        print(f"{name:24} LUT {counts['lut']:4}  CARRY4 {counts['carry']:3}  MUXF {counts['mux']:3}")


if __name__ == "__main__":
    main()
