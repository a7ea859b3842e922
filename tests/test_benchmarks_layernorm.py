from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.layernorm import CASES, PATH, norm_of, table
from hw.layernorm import VARIANTS, timing
from sw.files import read_json

ROOT = Path(__file__).parents[1]


def test_the_page_shows_what_was_measured() -> None:
    assert table(read_json(PATH)) in (ROOT / "docs/layernorm.md").read_text()


def test_what_was_measured_is_what_is_built_now() -> None:
    found = read_json(PATH)["cases"]
    assert list(found) == list(CASES)
    for name, fields in CASES.items():
        lanes = fields.get("lanes", 1)
        norm = norm_of(**{key: value for key, value in fields.items() if key != "lanes"})
        for variant in VARIANTS:
            cycles = timing(norm, variant, lanes=lanes)
            measured = found[name][variant]
            assert measured["latency_cycles"] == cycles.latency_cycles
            assert measured["interval_cycles"] == cycles.interval_cycles
            assert measured["bound_lsb"] == pytest.approx(norm.bound_lsb)
