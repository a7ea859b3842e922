"""The names that a package lists for use from Python: they exist, are documented, typed and no others."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
ROOTS = ("gp", "hw", "sim_tb", "sw")
PACKAGES = ("gp", "hw", "sim_tb", "sw.ir", "sw.model", "sw.report")


def listed(package):
    """Dotted names of a package's docstring."""
    return re.findall(r"^- `([\w.]+)`: ", importlib.import_module(package).__doc__, re.MULTILINE)


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_listed_names_exist_documented_and_typed(package):
    names = listed(package)
    assert names
    for name in names:
        module, _, attribute = name.rpartition(".")
        found = getattr(importlib.import_module(f"{package}.{module}"), attribute)
        assert found.__module__.startswith(f"{package}."), "where it is defined"
        assert inspect.getdoc(found), name
        is_error = inspect.isclass(found) and issubclass(found, Exception)
        parameters = [] if is_error else inspect.signature(found).parameters.values()
        assert all(p.annotation is not inspect.Parameter.empty for p in parameters), name


@pytest.mark.parametrize("package", PACKAGES)
def test_modules_of_listed_names_are_the_public_ones(package):
    modules = {name.split(".")[0] for name in listed(package)}
    assert sorted(modules) == importlib.import_module(package).__all__


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_public_modules_need_no_import_of_their_own(package):
    names = importlib.import_module(package).__all__
    script = f"import {package} as p; print(*(getattr(p, n).__name__ for n in {names}), hasattr(p, 'other'))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*(f"{package}.{name}" for name in names), "False"]


def imported(path):
    """(module, name) of every ``from module import name`` of our packages in an example."""
    text = path.read_text()
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        text = "\n".join("".join(cell["source"]) for cell in cells)
    for statement in ast.walk(ast.parse(text)):
        if isinstance(statement, ast.ImportFrom) and statement.module.split(".")[0] in ROOTS:
            yield from ((statement.module, alias.name) for alias in statement.names)


@pytest.mark.parametrize("path", [p for p in EXAMPLES.iterdir() if p.suffix in (".py", ".ipynb")], ids=str)
def test_examples_use_public_names_alone(path):
    public = {f"{package}.{name}" for package in PACKAGES for name in listed(package)}
    public |= {
        f"{package}.{name}" for package in PACKAGES for name in importlib.import_module(package).__all__
    }
    public |= {f"sw.config.{name}" for name in importlib.import_module("sw.config").__all__}
    names = {f"{module}.{name}" for module, name in imported(path)}
    assert names
    assert names <= public
