"""From ``Results`` to the body of ``units.json``, and the claims that it decides."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.units.measure import Results
from benchmarks.units.plan import CLIP_LIMITED, CLIP_SHORT, PUBLISHED_TANH, REQUANTIZER, Case, target_mhz

MOST_OVER_REQUANTIZER, MOST_SHORT, MOST_TWO_DIGITS = 4, 30, 36
"""LUT6 of whole units on xc7: beyond the bare requantizer's, of clip(1.5*x), of clip(c*x)."""
PEER_SMALLER_FROM_BITS = 8
ULPS = ("0", "1")

Check = tuple[str, str, bool]
"""A claim, what was measured, whether it holds."""


def summarise(results: Results) -> dict[str, Any]:
    """Everything that ``units.md`` shows."""
    return {
        "cases": [dataclasses.asdict(case) | found for case, found in results.of.items()],
        "wall_s": round(results.wall_s, 1),
        "case_seconds": round(results.seconds, 1),
        "num_new": results.num_new,
    }


def luts(counts: Mapping[str, Any]) -> int:
    """LUTs of the bare data path on xc7."""
    return int(counts["datapath"]["xc7"]["lut"])


def best_peer(found: Mapping[str, Any], max_ulp: int) -> Mapping[str, Any] | None:
    """da4ml's smallest unit that is at most so far off; None if it has none."""
    near = [p for p in found["peers"] if p["max_ulp"] <= max_ulp]
    return min(near, key=luts, default=None)


def checks(results: Results) -> list[Check]:
    """The claims that this benchmark decides."""
    units = {case: found for case, found in results.of.items() if not case.is_clip_check}
    clips = {case.formula: found for case, found in results.of.items() if case.is_clip_check}
    rows = [
        _simulations(results),
        _gates(results),
        *_published(units),
        *_against_peer(units),
        *_clocks(units),
    ]
    return rows + (_clip_rows(clips) if clips else [])


def _verdict(claim: str, cases: Sequence[tuple[str, bool]]) -> Check:
    """A claim about many cases: how many hold, and which do not."""
    failed = [text for text, holds in cases if not holds]
    text = f"{len(cases) - len(failed)} of {len(cases)}"
    return claim, text + (f"; not {', '.join(failed)}" if failed else ""), not failed


def _simulations(results: Results) -> Check:
    cases = [
        (f"{case} ({unit['simulation']})", not unit["simulation"])
        for case, found in results.of.items()
        for unit in (*found["units"].values(), *_fast_ones(found))
    ]
    return _verdict("Verilog, program, PyTorch and rounded function agree on every input code", cases)


def _gates(results: Results) -> Check:
    cases = [
        (f"{case} ({family}: {failure})", not failure)
        for case, found in results.of.items()
        for unit in (*found["units"].values(), *_fast_ones(found), *found["peers"])
        for family, failure in unit["gates"].items()
    ]
    return _verdict("netlists after synthesis give the table on every input code", cases)


def _fast_ones(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [unit["fast"] for unit in found["units"].values() if "fast" in unit]


def _published(units: Mapping[Case, Any]) -> list[Check]:
    rows = []
    for case, found in units.items():
        for ulp in ULPS if case.function == "tanh" else ():
            known = PUBLISHED_TANH.get((*case.widths, int(ulp)))
            if known is None or ulp not in found["units"]:
                continue
            own = luts(found["units"][ulp])
            claim = f"tanh {_widths(case)}, {_accuracy(ulp)}: at most the {known} LUT of the best known"
            rows.append((claim, f"{own} LUT", own <= known))
    return rows


def _against_peer(units: Mapping[Case, Any]) -> list[Check]:
    cases = []
    for case, found in units.items():
        for ulp, unit in found["units"].items():
            peer = best_peer(found, int(ulp))
            if peer is None:
                continue
            own, other = luts(unit), luts(peer)
            is_smaller = own < other if case.widths[0] >= PEER_SMALLER_FROM_BITS else own <= other
            cases.append((f"{case.function} {_widths(case)} {_accuracy(ulp)} ({own}, {other})", is_smaller))
    claim = f"data path never larger than da4ml's on xc7, smaller from {PEER_SMALLER_FROM_BITS} input bits on"
    return [_verdict(claim, cases)] if cases else []


def _clocks(units: Mapping[Case, Any]) -> list[Check]:
    by_target: dict[float, list[tuple[str, bool]]] = {}
    for case, found in units.items():
        target = target_mhz(case.widths[0])
        for ulp, unit in found["units"].items():
            reached = unit["fmax_mhz"]["ecp5"]["median"]
            limit = unit["fmax_mhz"]["ecp5"]["limit"]
            text = f"{case.function} {_widths(case)} {_accuracy(ulp)} ({reached:.0f} MHz, {limit})"
            by_target.setdefault(target, []).append((text, reached >= target))
    return [
        _verdict(
            f"at least {target:g} MHz on ECP5, {'up to' if target == 250 else 'over'} 10 input bits", cases
        )
        for target, cases in by_target.items()
    ]


def _clip_rows(clips: Mapping[str, Any]) -> list[Check]:
    """Whole units on xc7."""
    top = {formula: int(f["units"]["0"]["top"]["xc7"]["lut"]) for formula, f in clips.items() if f["units"]}
    missing = [formula for formula, found in clips.items() if not found["units"]]
    bare, limited, short = (top.get(formula, -1) for formula in (REQUANTIZER, CLIP_LIMITED, CLIP_SHORT))
    others = {f: n for f, n in top.items() if f not in (REQUANTIZER, CLIP_LIMITED)}
    digits = [(f"{f} ({n})", n <= MOST_TWO_DIGITS) for f, n in others.items()]
    digits += [(f"{formula} (no unit)", False) for formula in missing]
    text = f"{limited} LUT against {bare}"
    return [
        (f"{CLIP_LIMITED}: at most {MOST_OVER_REQUANTIZER} LUT over a bare saturating requantizer", text,
         limited <= bare + MOST_OVER_REQUANTIZER),
        (f"{CLIP_SHORT}: at most {MOST_SHORT} LUT", f"{short} LUT", short <= MOST_SHORT),
        _verdict(f"clip(c*x) with two-digit c: at most {MOST_TWO_DIGITS} LUT", digits),
    ]  # fmt: skip


def _widths(case: Case) -> str:
    return "->".join(map(str, case.widths))


def _accuracy(ulp: str) -> str:
    return "exact" if ulp == "0" else "faithful"
