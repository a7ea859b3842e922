"""Every example runs and shows what it says it does."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
MAX_LINES = 60


def run(name, *words):
    """Output of an example in the current folder."""
    command = [sys.executable, str(EXAMPLES / name), *words]
    return _output(command)


def _output(command):
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_examples_are_short_and_all_tested():
    scripts = {path.name: path for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    own, readme = Path(__file__).read_text(), (EXAMPLES.parent / "README.md").read_text()
    for name, path in scripts.items():
        assert f'"{name}"' in own or f"examples/{name}" in readme, name  # test_readme.py runs those
        if path.suffix == ".py":
            assert len(path.read_text().splitlines()) < MAX_LINES, name


@pytest.mark.slow
def test_one_layer_is_evolved_and_drawn(tmp_path):
    text = run("evolve_one_layer.py")
    r2, ceiling = map(float, re.search(r"R2 ([\d.]+); any function of x alone: ([\d.]+)", text).groups())
    assert 0.98 * ceiling < r2 < 1
    picture = tmp_path / text.split("picture: ")[1].strip()
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.tools
def test_a_unit_is_simulated_on_every_code():
    text = run("simulate_a_unit.py")
    assert "mine.v: 256 codes checked, 0 mismatches" in text
    assert "every_code: passed" in text
    assert "failed" not in text


@pytest.mark.slow
def test_norms_of_a_timm_model_are_swapped_and_what_that_costs_is_got_back():
    text = run("swap_norms_of_a_timm_model.py")
    assert len(re.findall(r"^[\w.]*norm\d?: .*tanh", text, re.MULTILINE)) == 5
    original, swapped, refitted = (float(v) for v in re.findall(r"^\D+(0\.\d{4})$", text, re.MULTILINE))
    assert original > 0.9
    assert swapped < refitted
    assert refitted > original - 0.05


def test_the_notebook_runs_and_is_stored_without_output():
    book = json.loads((EXAMPLES / "formula_to_unit.ipynb").read_text())
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])
    text = _output([sys.executable, "-c", "\n".join("".join(cell["source"]) for cell in cells)])
    found = dict(re.findall(r"^(\w+) +(\d+) LUT6, 0 ulp$", text, re.MULTILINE))
    assert {"half_table", "bipartite", "table"} <= set(found)
    error, half_step = map(float, re.search(r"largest error ([\d.]+), half a step ([\d.]+)", text).groups())
    assert error <= half_step
