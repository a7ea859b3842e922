from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from sw.cli import main
from sw.files import read_json, write_json, write_text
from sw.report.compare import compare, show
from tests.test_report_page import check_page


def site(name, lut, mhz=250.0):
    return {
        "site": name,
        "expression": f"clip({lut}*x)",
        "r2_fixed": 0.9,
        "resources": {"xc7": {"lut_per_lane": lut}},
        "fmax_mhz": None if mhz is None else {"median": mhz},
    }


def a_run(folder, *, generations, mean, n, sites, numpy="2.0"):
    write_text(folder / "config.toml", "")  # that of the last stage, which need not be the report's
    config = {"name": folder.name, "seed": 0, "evolve": {"generations": generations}}
    accuracy = {"mean": mean, "std": 0.03, "n": n, "seeds": list(range(n))}
    write_json(
        folder / "report" / "summary.json",
        {
            "config": config,
            "versions": {"numpy": numpy, "torch": "2.13"},
            "accuracy": {"original": accuracy, "quantized": accuracy},
            "total": {"xc7": {"lut_per_lane": sum(s["resources"]["xc7"]["lut_per_lane"] for s in sites)}},
            "sites": sites,
        },
    )
    return folder


@pytest.fixture
def runs(tmp_path):
    first = a_run(tmp_path / "a", generations=5, mean=0.5, n=9, sites=[site("n1", 10), site("n2", 20, None)])
    second = a_run(tmp_path / "b", generations=7, mean=0.6, n=4, sites=[site("n1", 12)], numpy="2.1")
    return first, second


def test_only_what_differs_is_listed(runs):
    body = compare(*runs)
    assert body["config"] == {"evolve.generations": [5, 7]}
    assert body["versions"] == {"numpy": ["2.0", "2.1"]}


def test_a_difference_has_the_standard_error_of_both_means(runs):
    original = compare(*runs)["accuracy"]["original"]
    assert original["difference"] == pytest.approx(0.1)
    assert original["error"] == pytest.approx(math.sqrt(0.03**2 / 9 + 0.03**2 / 4))


def test_one_seed_has_no_error(tmp_path, runs):
    lonely = a_run(tmp_path / "c", generations=5, mean=0.7, n=1, sites=[site("n1", 3)])
    assert compare(runs[0], lonely)["accuracy"]["original"]["error"] is None


def test_sites_of_either_run_are_there(runs):
    body = compare(*runs)
    assert body["sites"]["n1"]["lut"] == [10, 12]
    assert body["sites"]["n2"] == {
        "expression": ["clip(20*x)", None],
        "r2_fixed": [0.9, None],
        "lut": [20, None],
        "mhz": [None, None],
    }
    assert body["total"] == {"xc7": [30, 12]}


def test_luts_of_sites_are_of_a_family_that_both_have(runs):
    path = runs[0] / "report" / "summary.json"
    body = read_json(path)
    body["total"] = {"ice40": {"lut_per_lane": 99}} | body["total"]
    for entry in body["sites"]:
        entry["resources"]["ice40"] = {"lut_per_lane": 50}
    write_json(path, body)
    found = compare(*runs)
    assert (found["family"], found["sites"]["n1"]["lut"]) == ("xc7", [10, 12])
    write_json(path, body | {"total": {"ice40": {"lut_per_lane": 99}}})
    found = compare(*runs)
    assert (found["family"], found["sites"]["n1"]["lut"]) == (None, [None, None])
    console = Console(width=160, record=True, file=io.StringIO())
    show(found, console)
    assert "None" not in console.export_text()


def test_the_terminal_shows_both(runs):
    console = Console(width=160, record=True, file=io.StringIO())
    show(compare(*runs), console)
    text = console.export_text()
    for words in ("evolve.generations", "50.00 %", "+10.00 +- 1.80", "n2"):
        assert words in text


def test_the_page_holds_the_same_figures(runs, tmp_path, capsys):
    target = tmp_path / "new" / "compare.html"
    assert main(["compare", *map(str, runs), "-o", str(target)]) == 0
    assert str(target) in capsys.readouterr().out
    check_page(target.read_text(), compare(*runs))


def test_a_folder_without_a_report_is_named(runs, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["compare", str(runs[0]), str(tmp_path / "empty")]) == 2
    error = capsys.readouterr().err
    assert f"run '{tmp_path / 'empty'}' must have a report to be compared" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("body", [{}, [], {"config": {}, "versions": {}}])
def test_a_summary_that_is_none_is_named(runs, capsys, body):
    write_json(runs[1] / "report" / "summary.json", body)
    assert main(["compare", *map(str, runs)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    key = "accuracy" if body else "config"
    text = f"summary.json' must be the summary of a run, with the key '{key}'"
    assert line.endswith(f"{text}; 'normforge report CONFIG' makes it again")
