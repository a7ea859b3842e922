"""The contract without hardware: every reader of a unit's map is heard, and none may differ."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from sim_tb.contract import Replay, codes_to_check, describe_difference, examine
from sim_tb.unit import UnitFiles
from sw.arrays import codes_digest
from sw.ir import interpret
from sw.ir.build import Builder
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat

FORMAT = FixedFormat.parse("s6.2")


def halved(offset: int = 0):
    """A program for 0.5*x rounded half to even: (x + (x >> 1 & 1)) >> 1, plus an offset."""
    b = Builder(FORMAT)
    return b.build(b.add(b.shr(b.add(b.x, b.low(b.shr(b.x, 1), 1)), 1), b.const(offset)), FORMAT)


@pytest.fixture
def unit(tmp_path):
    table_raw = interpret.table(halved())
    np.save(tmp_path / "half.table.npy", table_raw.astype(np.int8))
    return UnitFiles(
        site="blocks.0.norm1",
        name="half",
        expression="0.5*x",
        input=FORMAT,
        output=FORMAT,
        lanes=1,
        latency_cycles=1,
        max_ulp=0,
        table_sha256=codes_digest(table_raw),
        table=tmp_path / "half.table.npy",
        verilog=tmp_path / "half.v",
        top="half",
    )


@pytest.fixture
def without_torch(monkeypatch):
    """As on a machine without torch, which also takes long to load."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))


def failures(contract):
    return {check.name: check.message for check in contract.checks if check.status == "failed"}


@pytest.mark.usefixtures("without_torch")
def test_a_sound_unit_has_nothing_to_complain_about(unit):
    contract = examine(unit, halved(), None, seed=0)
    assert failures(contract) == {}
    assert contract.expected.codes_raw.tolist() == FORMAT.codes().tolist()
    assert contract.expected.models_raw["interpreter"].tolist() == interpret.table(halved()).tolist()
    assert contract.expected.replay_raw.size == 0


def test_without_a_program_the_stored_table_speaks(unit):
    contract = examine(unit, None, None, seed=0)
    assert failures(contract) == {}
    assert list(contract.expected.models_raw) == ["stored table", "rounded formula"]
    skipped = {check.name: check.message for check in contract.checks if check.status == "skipped"}
    assert skipped == dict.fromkeys(("pytorch_module", "float_path"), "no program beside the unit")


@pytest.mark.usefixtures("without_torch")
def test_without_torch_its_checks_say_so(unit):
    contract = examine(unit, halved(), None, seed=0)
    skipped = {check.name: check.message for check in contract.checks if check.status == "skipped"}
    assert skipped == dict.fromkeys(("pytorch_module", "float_path"), "torch is not installed")


@pytest.mark.slow
def test_pytorch_speaks_too(unit):
    pytest.importorskip("torch")
    contract = examine(unit, halved(), None, seed=0)
    assert [check.status for check in contract.checks] == ["passed"] * 4
    models = contract.expected.models_raw
    assert models["PyTorch module"].tolist() == models["interpreter"].tolist()
    assert contract.float_path_differences == 0


def test_one_changed_table_bit_is_found_without_a_program(unit):
    stored = np.load(unit.table)
    stored[40] ^= 4
    np.save(unit.table, stored)
    found = failures(examine(unit, None, None, seed=0))
    assert found["stored_table"] == "table 'half.table.npy' has another sha256 than the one stated"
    assert found["formula"] == "more than 0 ulp from '0.5*x': code 8 gives 0, not 4"


@pytest.mark.usefixtures("without_torch")
def test_a_changed_table_with_a_matching_digest_is_found(unit):
    stored = np.load(unit.table)
    stored[40] ^= 4
    np.save(unit.table, stored)
    forged = replace(unit, table_sha256=codes_digest(stored))
    found = failures(examine(forged, halved(), None, seed=0))
    assert (
        found["stored_table"] == "table 'half.table.npy' differs from the interpreter: code 8 gives 0, not 4"
    )


@pytest.mark.usefixtures("without_torch")
def test_a_changed_digest_is_found(unit):
    found = failures(examine(replace(unit, table_sha256="0" * 64), halved(), None, seed=0))
    assert found == {"stored_table": "table 'half.table.npy' has another sha256 than the one stated"}


def test_a_short_table_is_found(unit):
    np.save(unit.table, np.zeros(3, dtype=np.int8))
    found = failures(examine(unit, None, None, seed=0))
    assert found["stored_table"] == found["formula"] == "table 'half.table.npy' has 3 entries, not 64"


def test_a_program_of_another_format_is_found(unit):
    b = Builder(FixedFormat.parse("s6.1"))
    program = b.build(b.x, FixedFormat.parse("s6.1"))
    found = failures(examine(unit, program, None, seed=0))
    assert found["stored_table"] == "program maps s6.1 to s6.1, not s6.2 to s6.2"


@pytest.mark.parametrize(("allowed", "complains"), [(0, True), (1, False)])
def test_the_formula_binds_within_the_stated_ulp(unit, allowed, complains):
    table_raw = interpret.table(halved(1))
    np.save(unit.table, table_raw)
    shifted = replace(unit, max_ulp=allowed, table_sha256=codes_digest(table_raw))
    assert ("formula" in failures(examine(shifted, None, None, seed=0))) == complains


def test_a_formula_nobody_can_read_is_refused(unit):
    with pytest.raises(InputError, match="gelu"):
        examine(replace(unit, expression="gelu(x)"), None, None, seed=0)


def test_replay_goes_to_the_simulator(unit):
    rows = np.ones((2, 3), dtype=np.int64)
    contract = examine(unit, None, Replay(rows, 2 * rows), seed=0)
    assert contract.expected.replay_raw.tolist() == rows.tolist()
    assert contract.expected.replay_out_raw.tolist() == (2 * rows).tolist()


@pytest.mark.parametrize("text", ["s16.11", "u1.0", "s2.0"])
def test_narrow_inputs_are_checked_on_every_code(text):
    format = FixedFormat.parse(text)
    assert codes_to_check(format, 0).tolist() == format.codes().tolist()


@pytest.mark.parametrize("text", ["s17.3", "u24.0", "s32.0"])
def test_wide_inputs_are_checked_at_corners_and_at_random(text):
    format = FixedFormat.parse(text)
    codes_raw = codes_to_check(format, 1)
    assert {format.min_raw, format.max_raw, 0, 1} <= set(codes_raw.tolist())
    assert (np.diff(codes_raw) > 0).all()
    assert 40_000 < len(codes_raw) <= 65_542
    assert not np.array_equal(codes_raw, codes_to_check(format, 2))


def test_differences_are_spelt_out_in_part():
    codes_raw = np.arange(6)
    assert describe_difference(codes_raw, codes_raw, codes_raw) == ""
    text = describe_difference(codes_raw, codes_raw + 1, codes_raw)
    assert text.startswith("code 0 gives 1, not 0; code 1 gives 2, not 1;")
    assert text.endswith("; 2 more")
