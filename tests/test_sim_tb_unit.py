"""Reading a unit's files."""

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from sim_tb.unit import UnitFiles, read_manifest
from sw.arrays import codes_digest
from sw.descriptions import check_keys
from sw.ir.errors import InputError

ENTRY = {
    "name": "tanh",
    "expression": "tanh(x)",
    "input": "s4.2",
    "output": "s3.1",
    "lanes": 2,
    "latency_cycles": 3,
    "ii": 1,
    "realization": "table",
    "max_ulp": 0,
    "table_sha256": "0",
    "table": "tanh.table.npy",
    "verilog": "tanh.v",
    "top": "normforge_tanh",
}


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "tanh.table.npy", np.arange(16, dtype=np.int8))
    (tmp_path / "tanh.v").write_text("")
    return tmp_path


def write(folder, body, name="tanh.json"):
    (folder / name).write_text(json.dumps(body))
    return folder / name


def test_unit_is_read_with_paths_beside_its_json(folder):
    unit = UnitFiles.read(write(folder, ENTRY))
    assert (unit.site, str(unit.input), unit.lanes, unit.latency_cycles) == ("tanh", "s4.2", 2, 3)
    assert unit.verilog == folder / "tanh.v"
    assert unit.read_table().tolist() == list(range(16))
    assert unit.read_table().dtype == np.int64


def test_manifest_names_the_sites(folder):
    (unit,) = read_manifest(write(folder, {"units": [ENTRY | {"site": "blocks.0.norm1"}]}, "manifest.json"))
    assert unit.site == "blocks.0.norm1"


def test_digest_is_that_of_little_endian_int64():
    wanted = hashlib.sha256(struct.pack("<3q", -1, 0, 7)).hexdigest()
    assert codes_digest(np.array([-1, 0, 7])) == wanted


def test_missing_key_is_named(folder):
    path = write(folder, {key: value for key, value in ENTRY.items() if key != "lanes"})
    with pytest.raises(InputError, match=r"unit in '.*tanh.json' must have the key 'lanes'"):
        UnitFiles.read(path)


def test_other_json_is_refused(folder):
    with pytest.raises(InputError, match="must have the key 'name'"):
        UnitFiles.read(write(folder, [1, 2]))


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        UnitFiles.read(tmp_path / "none.json")


def test_missing_verilog_is_named(folder):
    path = write(folder, ENTRY)
    (folder / "tanh.v").unlink()
    with pytest.raises(InputError, match=r"unit 'tanh' needs '.*tanh.v', which is missing"):
        UnitFiles.read(path)


def test_slower_units_are_refused(folder):
    with pytest.raises(InputError, match=r"ii of unit 'tanh' in '.*' must be 1, not 2"):
        UnitFiles.read(write(folder, ENTRY | {"ii": 2}))


@pytest.mark.parametrize("thing", ["unit", "norm"])
def test_a_name_that_leads_out_of_the_folder_is_refused(thing):
    message = rf"^name of a {thing} in 'u\.json' must be letters, digits and underscores, not '\.\./x'$"
    with pytest.raises(InputError, match=message):
        check_keys({"name": "../x"}, ("name",), thing, Path("u.json"))


def test_broken_table_is_refused(folder):
    unit = UnitFiles.read(write(folder, ENTRY))
    (folder / "tanh.table.npy").write_bytes(b"no")
    with pytest.raises(InputError, match=r"'.*tanh\.table\.npy' must be an npy file of numbers"):
        unit.read_table()


def test_table_of_real_numbers_is_refused(folder):
    unit = UnitFiles.read(write(folder, ENTRY))
    np.save(folder / "tanh.table.npy", np.zeros((4, 4)))
    with pytest.raises(InputError, match=r"must be a row of integers, not float64 \(4, 4\)"):
        unit.read_table()


@pytest.mark.parametrize("body", [[], {}, {"units": []}, {"units": 3}])
def test_manifest_without_units_is_refused(folder, body):
    with pytest.raises(InputError, match="must hold a list 'units' with at least one unit"):
        read_manifest(write(folder, body, "manifest.json"))
