from __future__ import annotations

from pathlib import Path

import pytest

from hw.emit import emit_unit
from hw.units import read_units, read_verilog
from sw.files import read_json, write_json
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.realize import realize


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The JSON of a unit."""
    made = realize(parse("tanh(x)"), FixedFormat.parse("s6.3"), FixedFormat.parse("s6.5"))
    described = {"expression": "tanh(x)", "realization": made.kind, "max_ulp": 0}
    emit_unit(made.program, name="u", folder=tmp_path, **described)
    return tmp_path / "u.json"


def test_what_was_written_is_read_back(path: Path) -> None:
    ((unit, folder),) = read_units(path)
    assert unit == read_json(path)
    assert folder == path.parent
    assert read_verilog(unit, folder) == (path.parent / "u.v").read_text()
    write_json(path.with_name("manifest.json"), {"units": [unit, unit]})
    assert read_units(path.with_name("manifest.json")) == 2 * [(unit, folder)]


def test_a_description_without_a_key_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "u.json", {"name": "u"})
    with pytest.raises(InputError, match=r"^description of a unit in '.*u\.json' must have the key 'input'$"):
        read_units(tmp_path / "u.json")


@pytest.mark.parametrize("units", [3, [], {}])
def test_a_manifest_without_units_is_refused(tmp_path: Path, units: object) -> None:
    write_json(tmp_path / "manifest.json", {"units": units})
    with pytest.raises(InputError, match=r"^manifest '.*' must hold a list 'units' with at least one unit$"):
        read_units(tmp_path / "manifest.json")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("lanes", "2", r"'lanes' of unit 'u' in '.*' must be 1\.\.64, not '2'"),
        ("lanes", True, r"'lanes' of unit 'u' in '.*' must be 1\.\.64, not True"),
        ("lanes", 65, r"'lanes' of unit 'u' in '.*' must be 1\.\.64, not 65"),
        ("top", None, r"'top' of a unit in '.*' must be a text, not None"),
        ("input", "x", r"format must look like"),
        ("channels", 64, r"'.*u\.json' must describe a unit, not a norm"),
    ],
)
def test_a_description_with_a_wrong_value_is_refused(
    path: Path, key: str, value: object, message: str
) -> None:
    write_json(path, read_json(path) | {key: value})
    with pytest.raises(InputError, match=f"^{message}"):
        read_units(path)


def test_verilog_that_cannot_be_read_is_named(path: Path) -> None:
    ((unit, folder),) = read_units(path)
    (folder / "u.v").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"^'.*u\.v' cannot be read: no text$"):
        read_verilog(unit, folder)
    (folder / "u.v").unlink()
    with pytest.raises(InputError, match=r"^'.*u\.v' cannot be read: No such file or directory$"):
        read_verilog(unit, folder)
