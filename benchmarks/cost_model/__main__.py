"""``make bench-cost``: synthesize random functions, fit what their features cost, test on other functions."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np
from amaranth.back import verilog

from benchmarks.cost_model.fit import PER_FAMILY, errors, fit, predict
from benchmarks.cost_model.functions import Sample, samples
from benchmarks.cost_model.measure import FMAX_MHZ, measure
from benchmarks.lut_costs import cases
from hw.measure import resources
from hw.pipeline import Datapath
from sw.files import write_json
from sw.ir.features import FEATURES, features
from sw.ir.program import Program
from sw.ir.schedule import plan

ANCHORS = ("eq_const 8", "eq_const 12", "eq_const 16")
TEST_EVERY = 6
"""Of so many functions one is kept for the test."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--functions", type=int, default=540)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/cost_model.json"))
    parser.add_argument("--cache", type=Path, default=Path("build/cost_model"))
    args = parser.parse_args()
    found = [s for ulp in (0, 1) for s in samples(args.functions // 2, args.seed + ulp, max_ulp=ulp)]
    counts, times = zip(*(_timed(s) for s in found), strict=True)
    rows = np.array(counts)
    registers = np.array([plan(s.realization.program, FMAX_MHZ).register_bits for s in found], dtype=float)
    is_test = np.array([s.number % TEST_EVERY == TEST_EVERY - 1 for s in found])
    body = {
        "functions": args.functions,
        "realizations": len(found),
        "fitted_on": int((~is_test).sum()),
        "prediction_ms": float(np.median(times)),
        "families": {},
        "samples": [_describe(s) for s in found],
    }
    for family in PER_FAMILY:
        cells = measure(found, family, args.cache, jobs=args.jobs)
        luts = np.array([c["lut"] for c in cells], dtype=float)
        flops = np.array([c["ff"] for c in cells], dtype=float)
        own_rows, own_luts = anchors(family, args.cache)
        costs = fit(np.vstack([rows[~is_test], own_rows]), np.concatenate([luts[~is_test], own_luts]), family)
        predicted = predict(rows, costs)
        own = {
            "costs": costs,
            "anchors": own_luts.tolist(),
            "fit": dataclasses.asdict(errors(predicted[~is_test], luts[~is_test])),
            "test": dataclasses.asdict(errors(predicted[is_test], luts[is_test])),
            "test_by_kind": _by_kind(found, is_test, predicted, luts),
            "flip_flops": dataclasses.asdict(errors(registers, flops)),
            "luts": luts.tolist(),
            "predicted": predicted.round(1).tolist(),
        }
        body["families"][family] = own
        print(
            family, own["costs"], own["fit"], own["test"], own["test_by_kind"], own["flip_flops"], sep="\n  "
        )
    write_json(args.out, body)


def anchors(family: str, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features and LUTs of single operations that hardly any sample has."""
    every = cases()
    rows, luts = [], []
    for name in ANCHORS:
        program = every[name]
        text = verilog.convert(Datapath(program, plan(program, 1.0)), name="lane", emit_src=False)
        luts.append(float(resources(text, ["lane"], family, cache)["lane"]["lut"]))
        rows.append(row_of(program))
    return np.array(rows), np.array(luts)


def row_of(program: Program) -> np.ndarray:
    """The features in their order."""
    counts = features(program)
    return np.array([counts.get(name, 0.0) for name in FEATURES])


def _timed(sample: Sample) -> tuple[np.ndarray, float]:
    start = time.perf_counter()
    row = row_of(sample.realization.program)
    return row, 1e3 * (time.perf_counter() - start)


def _describe(s: Sample) -> dict[str, object]:
    return {
        "expression": s.text,
        "input": str(s.input),
        "output": str(s.output),
        "kind": s.realization.kind,
        "max_ulp": s.realization.max_ulp,
        "number": s.number,
    }


def _by_kind(
    found: list[Sample], chosen: np.ndarray, predicted: np.ndarray, luts: np.ndarray
) -> dict[str, dict[str, float]]:
    kinds = np.array([s.realization.kind for s in found])
    return {
        str(kind): dataclasses.asdict(errors(predicted[which], luts[which]))
        for kind in np.unique(kinds)
        if (which := chosen & (kinds == kind)).any()
    }


if __name__ == "__main__":
    main()
