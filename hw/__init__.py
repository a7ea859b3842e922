"""Hardware: integer programs and norms as Amaranth components, their Verilog, what that costs, and proofs.

Public, from Python (everything else may change):

- `compile.Order`: a formula, its formats, and what its unit is to be like.
- `compile.compile_formula`: the unit of an order, written into a folder. An order's clock and latency are a
  `sw.ir.pipelining.Pipelining`.
- `pipeline.Unit`: any integer program, as `sw.ir.schedule.plan` spreads it over registers, as an Amaranth
  component, to build into a design of one's own.
- `emit.emit_unit`: Verilog, table and description of an integer program.
- `layernorm.emit.emit_norm`: the same of a LayerNorm or RMSNorm.
- `measure.resources`: cells of Verilog by Yosys for three families.
- `measure.fmax_mhz`: the clock of Verilog by nextpnr.
- `streams.buses`: the data ports of a unit and their bits, which `fmax_mhz` asks for.
"""

from sw import public

__all__ = ["compile", "emit", "layernorm", "measure", "pipeline", "streams"]
__getattr__ = public.modules(__name__, __all__)
