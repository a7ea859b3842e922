"""``make bench-units``: its plan, claims and text on results made by hand, da4ml's maps, and a tiny run."""

import json
import re
from fractions import Fraction

import numpy as np
import pytest

from benchmarks.units import measure as measuring
from benchmarks.units import peer
from benchmarks.units.__main__ import main, write
from benchmarks.units.measure import Results, measure
from benchmarks.units.plan import (
    CLIP_LIMITED,
    CLIP_SHORT,
    FUNCTIONS,
    REQUANTIZER,
    WIDTHS,
    Plan,
    read_widths,
    two_digit_constants,
)
from benchmarks.units.summary import best_peer, checks, summarise
from benchmarks.units.tables import document
from sim_tb.gate_level import flowing, sequences
from sim_tb.netlist import synthesised
from sw.ir.csd import signed_digits
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.refmap import reference_map

# the plan


@pytest.mark.parametrize("case", Plan(clip_constants=()).cases(), ids=str)
def test_functions_cover_their_domain_and_fill_their_range(case):
    input, output = FixedFormat.parse(case.input), FixedFormat.parse(case.output)
    assert -input.to_real(input.min_raw) == (8 if "clip" in case.formula else 4)
    assert case.widths in WIDTHS
    map = reference_map(parse(case.formula), input, output)
    assert np.abs(map).max() > 0.5 * output.max_raw
    saturated = np.mean((map == output.max_raw) | (map == output.min_raw))
    assert saturated < 0.5 or case.function in ("tanh", "erf")  # these stay near 1 far out
    assert case.fmax_mhz == (250 if input.width <= 10 else 200)


def test_every_function_at_every_width_then_the_clips():
    cases = Plan().cases()
    assert len([c for c in cases if not c.is_clip_check]) == len(FUNCTIONS) * len(WIDTHS) == 60
    formulas = [c.formula for c in cases if c.is_clip_check]
    assert formulas[:3] == [REQUANTIZER, CLIP_LIMITED, CLIP_SHORT]
    assert len(set(formulas)) == len(formulas) == 2 + len(two_digit_constants())  # 1.5 is one of them
    assert {(c.input, c.output) for c in cases if c.is_clip_check} == {("s16.11", "s8.5")}


def test_constants_have_two_digits():
    constants = two_digit_constants()
    assert len(constants) == 30
    assert 0.5 <= min(constants) < 0.52
    assert 3.9 < max(constants) < 4
    for value in constants:
        assert len(signed_digits(int(Fraction(value) * 256))) == 2, value


def test_widths_are_read():
    assert read_widths(" 6->6, 16->8,") == ((6, 6), (16, 8))
    for text in ("6", "6->x", "6->3", "17->8", "6->6->6"):
        with pytest.raises(InputError, match=r"^widths must look like '6->6,12->8' and be 4\.\.16, not '"):
            read_widths(text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"functions": ("cosh",)}, r"^function must be one of tanh, erf, .*, not 'cosh'$"),
        ({"seeds": 0}, r"^number of seeds must be at least 1, not 0$"),
        ({"jobs": 0}, r"^number of jobs must be at least 1, not 0$"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(InputError, match=message):
        Plan(**settings)


def test_wrong_arguments_are_one_line(capsys):
    assert main(["--functions", "cosh"]) == 2
    assert capsys.readouterr().err.startswith("unit bench: function must be one of tanh, ")


# claims


def counts(lut):
    return {family: {"lut": lut, "ff": 9} for family in ("xc7", "ecp5", "ice40")}


def unit(lut, *, max_ulp=0, mhz=260.0, gates="", simulation=""):
    return {
        **{"kind": "half_table", "max_ulp": max_ulp, "price_lut6": 20.0, "latency_cycles": 3},
        "simulation": simulation,
        **{"datapath": counts(lut), "top": counts(lut + 1), "gates": {"xc7": gates}},
        "hard_blocks": {"dsp": 0, "bram": 0},
        "fast": {
            "kind": "pwl",
            "top": counts(lut + 5),
            "latency_cycles": 6,
            "gates": {"ecp5": gates},
            "simulation": "",
        },
        "fmax_mhz": {
            family: {"median": mhz, "seeds": [mhz], "target": 250.0, "limit": "w1_q1 to w2_q2: 4 cells"}
            for family in ("ecp5", "ice40")
        },
    }


def other(lut, max_ulp=0):
    clock = {"ecp5": {"median": 260.0, "seeds": [260.0], "target": 250.0}}
    return unit(lut, max_ulp=max_ulp) | {"way": "table", "fmax_mhz": clock}


def results(*, lut=24, faithful=20, mhz=260.0, gates="", simulation="", peers=(28,), clips=(14, 18, 30, 36)):
    plan = Plan(functions=("tanh",), widths=((8, 8),), clip_constants=(0.625,))
    found = {
        "units": {
            "0": unit(lut, mhz=mhz, gates=gates, simulation=simulation),
            "1": unit(faithful, max_ulp=1),
        },
        "peers": [other(n) for n in peers],
        "reasons": ["no operation for tanh"],
        "seconds": 60.0,
    }
    made = dict.fromkeys(plan.cases(), found)
    for case, lut in zip([c for c in made if c.is_clip_check], clips, strict=True):
        made[case] = {"units": {"0": unit(lut - 1)}, "peers": [], "reasons": [], "seconds": 6.0}
    return Results(made, 40.0, 3), plan


def failing(**changes):
    return [claim for claim, _, holds in checks(results(**changes)[0]) if not holds]


def test_all_claims_hold():
    rows = checks(results()[0])
    assert [holds for *_, holds in rows] == [True] * 8
    assert ("tanh 8->8, exact: at most the 25 LUT of the best known", "24 LUT", True) in rows


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        (
            {"simulation": "every_code: code 1"},
            "Verilog, program, PyTorch and rounded function agree on every input code",
        ),
        ({"gates": "code 1"}, "netlists after synthesis give the table on every input code"),
        ({"lut": 26}, "tanh 8->8, exact: at most the 25 LUT of the best known"),
        ({"peers": (24,)}, "data path never larger than da4ml's on xc7, smaller from 8 input bits on"),
        ({"mhz": 249.0}, "at least 250 MHz on ECP5, up to 10 input bits"),
        ({"clips": (13, 18, 30, 36)}, f"{CLIP_LIMITED}: at most 4 LUT over a bare saturating requantizer"),
        ({"clips": (14, 18, 31, 36)}, f"{CLIP_SHORT}: at most 30 LUT"),
        ({"clips": (14, 18, 30, 37)}, "clip(c*x) with two-digit c: at most 36 LUT"),
    ],
)
def test_a_claim_fails(changes, claim):
    assert failing(**changes) == [claim]


def test_a_failure_names_the_case():
    text = next(t for _, t, holds in checks(results(peers=(24,))[0]) if not holds)
    assert text == "1 of 2; not tanh 8->8 exact (24, 24)"


def test_what_limits_a_slow_unit_is_told():
    text = next(t for _, t, holds in checks(results(mhz=249.0)[0]) if not holds)
    assert text == "1 of 2; not tanh 8->8 exact (249 MHz, w1_q1 to w2_q2: 4 cells)"


def test_the_best_peer_is_no_further_off():
    found = {"peers": [other(30), other(20, max_ulp=1), other(25)]}
    assert best_peer(found, 0)["datapath"]["xc7"]["lut"] == 25
    assert best_peer(found, 1)["datapath"]["xc7"]["lut"] == 20
    assert best_peer({"peers": []}, 1) is None


def test_without_a_peer_nothing_is_compared():
    assert not any("da4ml" in claim for claim, *_ in checks(results(peers=())[0]))


@pytest.mark.tools
def test_the_whole_text():
    found, plan = results(lut=26)
    text = document(found, plan)
    for piece in (
        "| tanh 8->8, exact: at most the 25 LUT of the best known | 26 LUT | **no** |",
        "| s8.5 -> s8.0 | 0 | half_table | 27 (26) | 27 (26) | 27 (26) | 9 | 0 | 0 | 3 | pwl | 31 | 31 | 6 |",
        "| s8.5 -> s8.0 | 1 | table (0 ulp) | 20 | 28 | 20 | 28 | 20 | 28 | 9 | 9 | 260 | 260 |",
        "| `clip(1.5*x)` | half_table | 30 (29) | 3 |",
        "It took 0.7 minutes, 2 at a time, for 3 cases, and ",
    ):
        assert piece in text
    assert all(line.count("|") >= 4 for line in text.splitlines() if line.startswith("|"))
    table = text.split("## Units\n\n")[1].split("\n\n")[0]
    assert len({line.count("|") for line in table.splitlines()}) == 1
    json.dumps(summarise(found), allow_nan=False)


# da4ml


S8 = FixedFormat.parse("s8.4")


@pytest.mark.tools
@pytest.mark.parametrize(
    ("formula", "output", "ways"),
    [("clip(1.54*x)", "s8.4", {"table", "operations"}), ("exp(-abs(x))", "u6.6", {"table"})],
)
def test_da4mls_netlist_is_the_same_map(formula, output, ways, tmp_path):
    pytest.importorskip("da4ml")
    output = FixedFormat.parse(output)
    map = reference_map(parse(formula), S8, output)
    made, reasons = peer.peers(parse(formula), S8, output, map)
    assert {p.way for p in made if p.max_ulp == 0} == ways
    assert reasons == ([] if "operations" in ways else ["no operation for exp"])
    for p in made:
        assert np.abs(p.table - map).max() == p.max_ulp <= 1
        netlist = synthesised(p.verilog, peer.TOP, "ice40", tmp_path)
        rng = np.random.default_rng(0)
        codes = sequences(S8, rng)
        assert flowing(netlist, codes, p.table[codes + 128], output, p.latency_cycles, rng) == ""


def test_verilog_is_edited_for_yosys():
    text = (
        'module lookup_table #(parameter MEM_FILE = "") (); (* rom_style = (1 <= 2) ? "a" : "b" *)\n'
        "initial begin $readmemh(MEM_FILE, lut_rom); end endmodule\n"
        'module core (); lookup_table #(2, 8, "t.mem") op_1 (v0, v1); endmodule'
    )
    found = peer.readable(text, {"t.mem": "0F\nXX\nA0\n01"})
    assert "lookup_table_0 #(2, 8) op_1 (v0, v1);" in found
    assert "initial begin lut_rom[0] = 'h0F; lut_rom[2] = 'hA0; lut_rom[3] = 'h01; end" in found
    assert not re.search(r"readmemh|rom_style|module lookup_table ", found)


# measuring


def test_what_is_done_stays_done(tmp_path, monkeypatch):
    calls = []

    def measured(case, cache):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(case)
        return {"units": {}, "peers": [], "reasons": [], "seconds": 1.5}

    monkeypatch.setattr(measuring, "measure_case", measured)
    monkeypatch.setattr(measuring, "tools", lambda: ["Yosys 1"])
    settings = {"widths": ((6, 6),), "clip_constants": (), "jobs": 1, "cache": tmp_path}
    plan = Plan(functions=("tanh", "erf", "gelu"), **settings)
    with pytest.raises(KeyboardInterrupt):
        measure(plan)
    done, calls = calls, []
    found = measure(plan)
    assert done + calls == plan.cases()
    assert (found.num_new, found.seconds) == (1, 4.5)
    assert measure(Plan(functions=("gelu",), **settings)).num_new == 0


@pytest.mark.tools
@pytest.mark.slow
def test_a_tiny_benchmark(tmp_path):
    plan = Plan(
        functions=("tanh",), widths=((6, 6),), seeds=1, jobs=1, clip_constants=(), cache=tmp_path / "cache"
    )
    write(plan, tmp_path)
    body = json.loads((tmp_path / "units.json").read_text())
    (case,) = body["cases"]
    exact = case["units"]["0"]
    assert (exact["max_ulp"], exact["kind"]) == (0, "table")
    assert 1 <= exact["datapath"]["xc7"]["lut"] <= 6  # a table of 64 entries is one LUT6 an output bit
    assert exact["top"]["ice40"]["lut"] > exact["datapath"]["ice40"]["lut"]
    assert exact["fmax_mhz"]["ice40"]["median"] > 100
    assert exact["gates"] == dict.fromkeys(("xc7", "ecp5", "ice40"), "")
    assert all(holds for claim, _, holds in body["checks"] if "netlists" in claim)
    assert "## Units" in (tmp_path / "units.md").read_text()
