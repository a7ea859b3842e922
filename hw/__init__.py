"""Hardware: integer programs and norms as Amaranth components, their Verilog, what that costs, and proofs.

Public, from Python (everything else may change):

- `compile.Order`: a formula, its formats, and what its unit is to be like.
- `compile.compile_formula`: the unit of an order, written into a folder.
- `pipeline.Unit`: any integer program as an Amaranth component, to build into a design of one's own.
- `emit.emit_unit`: Verilog, table and description of an integer program.
- `layernorm.emit.emit_norm`: the same of a LayerNorm or RMSNorm.
- `measure.resources`: cells of Verilog by Yosys for three families.
- `measure.fmax_mhz`: the clock of Verilog by nextpnr.
"""

__all__ = ["compile", "emit", "layernorm", "measure", "pipeline"]
