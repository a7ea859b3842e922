"""The names that a package lists for use from Python: they exist, are documented, typed and no others."""

import importlib
import inspect
import re

import pytest

PACKAGES = ("gp", "hw", "sim_tb", "sw.ir", "sw.model", "sw.report")


def listed(package):
    """Dotted names of a package's docstring."""
    return re.findall(r"^- `([\w.]+)`: .+\.$", importlib.import_module(package).__doc__, re.MULTILINE)


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
