"""A formula becomes Verilog, and a simulator tries it on every input code, flowing and stalled."""

from pathlib import Path

from hw.compile import Order, compile_formula
from sim_tb.request import Settings, UnitRequest
from sim_tb.unit import UnitFiles
from sim_tb.verification import verify

folder = Path("example_unit")
order = Order(formula="0.5*clip(2.5*x) - 0.1*tanh(x)", input="s8.5", output="s8.5", name="mine")
unit, designs = compile_formula(order, folder)
for design in designs:
    cycles = design.schedule.latency_cycles
    print(f"{design.realization.kind:<10} about {design.lut6:3.0f} LUT6, latency {cycles}")

request = UnitRequest(unit=UnitFiles.read(folder / "mine.json"))
(report,) = verify([request], Settings(folder=folder / "sim"))
print(f"{unit['verilog']}: {report.codes_checked} codes checked, {report.mismatches} mismatches")
for check in report.checks:
    print(f"  {check.name}: {check.status}")
