from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import speed
from sw.files import read_json


def test_the_page_shows_what_was_measured() -> None:
    assert speed.page(read_json(speed.PATH)) == speed.PATH.with_suffix(".md").read_text()


def test_people_wait_no_longer_than_promised() -> None:
    waits = read_json(speed.PATH)["waits"]
    assert waits["`normforge --help`"]["after"]["cpu"] < 0.3
    assert waits["`normforge compile`, 8 bits"]["after"]["wall"] < 3
    assert all(
        way["after"]["wall"] <= 1.1 * way["before"]["wall"] for way in waits.values() if "before" in way
    )


def test_a_line_without_another_way_leaves_the_place_empty() -> None:
    waits = {
        "a": {"after": {"wall": 1.5, "cpu": 1.25}},
        "b": {"before": {"wall": 9.0, "cpu": 1.0}, "after": {"wall": 2.0, "cpu": 1.0}},
    }
    text = speed.page({"machine": "2 cores", "waits": waits})
    assert "| a |  | 1.50 | 1.25 |\n| b | 9.00 | 2.00 | 1.00 |" in text


def test_seconds_are_those_of_the_command(tmp_path: Path) -> None:
    sleeping = speed.seconds([sys.executable, "-c", "import time; time.sleep(0.5)"], tmp_path)
    assert sleeping["wall"] > 0.5 > sleeping["cpu"]
    busy = speed.seconds(
        [sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"], tmp_path
    )
    assert busy["cpu"] >= 0.5


def test_a_command_that_fails_ends_the_benchmark(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="ended with 3"):
        speed.seconds([sys.executable, "-c", "raise SystemExit(3)"], tmp_path)
