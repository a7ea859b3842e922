import json
import re
from pathlib import Path

from amaranth.sim import Simulator

from hw.parts import VENDORS
from hw.pipeline import Unit
from sw.config import REGIMES, AlignConfig
from sw.ir.design import OBJECTIVES
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.pipelining import Pipelining, pipelined
from sw.ir.program import ARITY, VERSION, Op
from sw.ir.realize import KINDS, realize

ROOT = Path(__file__).parents[1]


def test_the_specification_lists_every_operation():
    text = (ROOT / "docs/ir.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\d) \| (\d) \|", text, re.MULTILINE)
    assert [(Op(name), (int(a), int(p))) for name, a, p in rows] == [(op, ARITY[op]) for op in Op]
    assert f'"version": {VERSION}' in text


def test_the_timing_diagram_is_what_the_unit_does():
    """Its inputs are played to the unit that the page names, cycle by cycle."""
    text = (ROOT / "docs/integration.md").read_text()
    options = r"--in (\S+) --out (\S+) --realize (\w+) --latency (\d)"
    command = re.search(rf'normforge compile "([^"]+)" {options}', text)
    assert command
    formats = [FixedFormat.parse(form) for form in command.groups()[1:3]]
    program = realize(parse(command[1]), *formats, kind=command[4]).program
    unit = Unit(*pipelined(program, Pipelining(latency=int(command[5]))))
    assert f"latency {unit.latency_cycles}." in text
    rows = {n: v.split() for n, v in re.findall(r"^ *([sm]_axis_t\w+)((?: +[\d.]+)+)$", text, re.M)}
    assert len(rows) == 8
    played: dict[str, list[str]] = {name: [] for name in rows}

    async def bench(ctx):
        ports = {"s_axis": unit.i, "m_axis": unit.o}
        signals = {name: getattr(ports[name[:6]], name[7:]) for name in rows}
        given = [n for n in rows if n.startswith("s_axis") and n != "s_axis_tready"] + ["m_axis_tready"]
        for cycle in range(len(rows["s_axis_tvalid"])):
            for name in given:
                if rows[name][cycle] != ".":
                    ctx.set(signals[name], int(rows[name][cycle]))
            for name in rows:
                waits = name[7:] in {"tdata", "tlast"} and not ctx.get(signals[f"{name[:6]}_tvalid"])
                played[name].append("." if waits else str(ctx.get(signals[name])))
            await ctx.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert played == rows


def test_the_page_names_every_vendor():
    text = (ROOT / "docs/integration.md").read_text()
    sentence = text[text.index("`--vendor` is one of") :].split(". It", 1)[0]
    assert re.findall(r"`(\w+)`", sentence) == list(VENDORS)


def test_the_compiler_s_page_names_every_kind_and_objective():
    page = (ROOT / "docs/compile.md").read_text()
    for name in (*KINDS, *OBJECTIVES):
        assert f"`{name}`" in page or f"--objective {name}" in page, name


def test_the_compiler_s_page_has_the_figures_of_the_cost_model():
    page = (ROOT / "docs/compile.md").read_text().replace("\n", " ")
    measured = json.loads((ROOT / "benchmarks/cost_model.json").read_text())
    functions = {s["expression"] for s in measured["samples"] if s["number"] % 6 != 5}
    assert f"fitted to {measured['fitted_on']} realisations of {len(functions)} random functions" in page
    xc7, ecp5 = (measured["families"][family]["test"] for family in ("xc7", "ecp5"))
    shares = f"{100 * xc7['median_share']:.0f} % for LUT6 of xc7 and {100 * ecp5['median_share']:.0f} %"
    assert f"On {xc7['num']} realisations of other functions the median error is {shares}" in page


def test_the_page_on_regimes_has_their_settings():
    text = (ROOT / "docs/realign.md").read_text()
    rows = {m[1]: m[0] for m in re.finditer(r"^\| `(\S+)` .*$", text, re.MULTILINE)}
    del rows["align.regime"]
    assert set(rows) == set(REGIMES)
    for name, settings in REGIMES.items():
        align = AlignConfig(regime=name, **settings)
        assert f"{align.lr:.0e}".replace("e-0", "e-") in rows[name]
        assert ("refit" in rows[name]) == (align.refit == "writers")
        assert ("everything" in rows[name]) == (align.trained == "all")
        assert (f"{align.kd_weight:g} T² KL" in rows[name]) == (align.kd_weight > 0)
        assert (f"drop-path {align.drop_path:g}" in rows[name]) == (align.drop_path > 0)
