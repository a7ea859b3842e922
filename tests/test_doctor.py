"""What is installed, what is missing, and how to get it."""

from importlib import metadata

import pytest

import sw.doctor
from sw.cli import main
from sw.doctor import EXTRAS, PROGRAMS, Need, needs

REQUIREMENTS = [
    "numpy>=1.26",
    "amaranth[builtin-yosys]>=0.5.4",
    'no-such-package>=2; extra == "model"',
    'cocotb>=2.0; extra == "sim"',
    'gplearn>=0.4.3; extra == "bench"',
]


def test_needs_are_those_of_the_metadata_with_their_versions():
    found = {need.name: need for need in needs(REQUIREMENTS)}
    assert set(found) == {"numpy", "amaranth", "no-such-package", "cocotb", *PROGRAMS}
    assert found["numpy"] == Need("", "numpy", metadata.version("numpy"))
    assert found["no-such-package"] == Need("model", "no-such-package", None)
    assert [need.group for need in needs(REQUIREMENTS)] == ["", "", "model", "sim", *["sim"] * len(PROGRAMS)]


def test_every_group_of_the_package_is_listed():
    assert {need.group for need in needs()} == set(EXTRAS)


def test_all_is_there_where_the_tests_run(capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    row = next(line for line in text.splitlines() if " numpy " in line)
    assert row.split()[-1] == metadata.version("numpy")
    assert text.endswith("everything is there\n")


@pytest.mark.parametrize("program", [None, "perl"])
def test_what_is_missing_is_named_with_the_remedy(monkeypatch, capsys, program):
    listed = needs(REQUIREMENTS)
    if program:
        listed = [Need(n.group, n.name, None if n.name == program else n.version) for n in listed]
    monkeypatch.setattr(sw.doctor, "needs", lambda: listed)
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert f"{EXTRAS['model']}: pip install '.[model]' in the clone brings no-such-package\n" in text
    assert (f"{EXTRAS['sim']}: the system's package manager has perl\n" in text) == (program == "perl")
    assert f"{2 if program else 1} missing; the rest works\n" in text
