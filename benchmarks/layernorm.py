"""What LayerNorm and RMSNorm cost: ``python -m benchmarks.layernorm``, into ``layernorm.json``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hw.layernorm import VARIANTS
from hw.layernorm.emit import measure_norm
from hw.tools import NEXTPNR_ECP5, YOSYS
from sw.files import read_json, write_json
from sw.ir.affine import Affine
from sw.ir.formats import FixedFormat
from sw.ir.layernorm import LayerNorm

PATH = Path(__file__).with_suffix(".json")
INPUT, OUTPUT = "s16.11", "s8.5"
CASES = {
    "LayerNorm, 192 channels": {"channels": 192},
    "LayerNorm, 768 channels": {"channels": 768},
    "with affine, 192 channels": {"channels": 192, "affine": True},
    "with affine, 768 channels": {"channels": 768, "affine": True},
    "two lanes, 192 channels": {"channels": 192, "lanes": 2},
    "RMSNorm, 192 channels": {"channels": 192, "rms": True},
}
HEADINGS = ("", "variant", "LUT6", "FF", "DSP", "BRAM", "LUT4", "FF", "DSP", "BRAM", "MHz")


def norm_of(channels: int, *, affine: bool = False, rms: bool = False) -> LayerNorm:
    """A norm at the formats of the benchmark; its 8-bit affine is drawn at random."""
    rng = np.random.default_rng(0)
    drawn = Affine.of(rng.uniform(-1.3, 1.3, channels), rng.normal(0, 0.3, channels)) if affine else None
    formats = FixedFormat.parse(INPUT), FixedFormat.parse(OUTPUT)
    return LayerNorm(input=formats[0], output=formats[1], channels=channels, rms=rms, affine=drawn)


def measure(seeds: int, cache: Path) -> dict[str, Any]:
    """Every case in both variants, on all families."""
    found: dict[str, Any] = {"tools": {tool.name: tool.require().version for tool in (YOSYS, NEXTPNR_ECP5)}}
    found["cases"] = {}
    for name, fields in CASES.items():
        lanes = fields.get("lanes", 1)
        norm = norm_of(**{key: value for key, value in fields.items() if key != "lanes"})
        found["cases"][name] = {
            variant: measure_norm(norm, variant, cache, lanes=lanes, seeds=seeds) for variant in VARIANTS
        }
        print(name, flush=True)
    return found


def table(found: dict[str, Any]) -> str:
    """As docs/layernorm.md shows it."""
    rows = [HEADINGS, ("---",) * len(HEADINGS)]
    for name, variants in found["cases"].items():
        for variant, cost in variants.items():
            xc7, ecp5 = (cost["families"][family] for family in ("xc7", "ecp5"))
            counts = [str(f[kind]) for f in (xc7, ecp5) for kind in ("lut", "ff", "dsp", "bram")]
            rows.append((name, variant, *counts, f"{cost['fmax_mhz']['median']:.0f}"))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="of place and route, the median counts")
    parser.add_argument("--cache", type=Path, default=Path("build/layernorm_bench"))
    args = parser.parse_args(argv)
    write_json(PATH, measure(args.seeds, args.cache.resolve()))
    print(table(read_json(PATH)))


if __name__ == "__main__":
    main()
