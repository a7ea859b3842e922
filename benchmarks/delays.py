"""How long single operations take on ECP5 and iCE40: where the delay model of sw.ir.delays comes from.

``make bench-delays`` places and routes units of one operation each, takes the median period over seeds, and
fits the constants of ``sw.ir.delays`` by non-negative least absolute relative errors.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from benchmarks.lut_costs import cases, noise, one_input, two_inputs
from hw.emit import unit_verilog
from hw.measure import fmax_mhz
from hw.pipeline import Unit
from hw.streams import lane_bits
from sw.files import write_json
from sw.ir.delays import TERMS, terms
from sw.ir.program import Program
from sw.ir.schedule import plan
from sw.terminal import progress

TARGET_MHZ = 400.0
ROUNDS = 20
CHOSEN = (
    *("add 4", "add 8", "add 12", "sub 8", "lt 4", "lt 8", "eq 8", "min 8", "select 8"),
    *("add_const 8", "add_const 16", "abs 8", "abs 16", "lt_const 8", "lt_const 16", "eq_const 16"),
    *("clamp_pow2_8 10", "clamp_pow2_8 18", "clamp_any_8 10", "clamp_any_8 18", "negate 8", "negate 16"),
    *(f"lookup_curve {n}x8" for n in (4, 5, 6, 7, 8, 9, 10)),
    *(f"lookup_noise {n}x8" for n in (5, 6, 7, 8)),
    *("mul_unsigned 3x6", "mul_unsigned 4x4", "mul_unsigned 6x6", "mul_signed 8x4", "mul_signed 8x8"),
)


def tables() -> dict[str, Program]:
    """Tables whose address drives many LUTs, and tables in front of an adder."""
    made: dict[str, Program] = {}
    for n in (5, 6, 7, 8):
        for m in (16, 24, 32):
            made[f"lookup_noise {n}x{m}"] = one_input(
                n, lambda b, x, n=n, m=m: b.lookup(x, noise(n, m)), signed=False
            )
        made[f"lookup_add {n}x12"] = two_inputs(
            8, lambda b, x, y, n=n: b.add(x, b.lookup(b.low(y, n), noise(n, 12)))
        )
    return made


def measure(
    programs: Mapping[str, Program], family: str, seeds: int, cache: Path, jobs: int
) -> dict[str, float]:
    """Nanoseconds from register to register of each unit."""
    found: dict[str, float] = {}

    def period(name: str) -> float:
        program = programs[name]
        text = unit_verilog(Unit(program, plan(program, 1.0)), "unit")
        buses = {"s_axis_tdata": lane_bits(program.input), "m_axis_tdata": lane_bits(program.output)}
        reached = fmax_mhz(
            text, "unit", buses, target_mhz=TARGET_MHZ, seeds=seeds, cache=cache, family=family
        )
        return 1000.0 / float(reached["median"])

    with progress(f"delays of {family}", len(programs)) as done, ThreadPoolExecutor(jobs) as pool:
        for name, value in zip(programs, pool.map(period, programs), strict=True):
            found[name] = value
            done(name)
    return found


def fit(programs: Mapping[str, Program], periods: Mapping[str, float]) -> dict[str, float]:
    """Nanoseconds a unit of each term, the register's among them."""
    rows = np.array([[1.0, *(_row(programs[name]))] for name in periods])
    wanted = np.array(list(periods.values()))
    weight = np.ones(len(wanted))
    for _ in range(ROUNDS):
        factor = np.sqrt(weight) / wanted
        costs, _ = nnls(rows * factor[:, None], wanted * factor)
        weight = 1.0 / np.maximum(np.abs(rows @ costs / wanted - 1.0), 1e-2)
    return dict(zip(("register", *TERMS), (round(float(c), 3) for c in costs), strict=True))


def _row(program: Program) -> list[float]:
    """What lies on the longest path of a unit of few operations: all of them."""
    total = np.zeros(len(TERMS))
    for index in range(len(program.instrs)):
        total += [terms(program.instrs, index).get(name, 0.0) for name in TERMS]
    return total.tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/delays.json"))
    parser.add_argument("--cache", type=Path, default=Path("build/delays"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    every = cases()
    programs = {name: every[name] for name in CHOSEN} | tables()
    body = {}
    for family in ("ecp5", "ice40"):
        periods = measure(programs, family, args.seeds, args.cache, args.jobs)
        costs = fit(programs, periods)
        predicted = {
            n: costs["register"] + sum(c * costs[t] for t, c in zip(TERMS, _row(p), strict=True))
            for n, p in programs.items()
        }
        body[family] = {"costs": costs, "periods": periods, "predicted": predicted}
        print(family, costs)
        for name, value in periods.items():
            print(f"  {name:20} {value:6.2f} ns, predicted {predicted[name]:6.2f}")
    write_json(args.out, body)


if __name__ == "__main__":
    main()
