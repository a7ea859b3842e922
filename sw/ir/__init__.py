"""Arithmetic: formulas, fixed-point formats, and the integer programs that everything else reads.

Public, from Python (everything else may change):

- `parse.parse`: a formula from its text.
- `expr.evaluate`: a formula's values in float64.
- `formats.FixedFormat`: a fixed-point format, such as `s16.11`.
- `refmap.reference_map`: the correctly rounded output code of every input code.
- `realize.realize`: the cheapest program of a formula at its formats.
- `realize.target.Target`: a formula's map at its formats, as kinds of realisation take it.
- `realize.candidates`: the map's programs of all kinds.
- `realize.cheapest`: the best of them.
- `program.Program`: integer operations, one after the other, as JSON, too.
- `interpret.table`: a program's output for every input code.
- `pipelining.Pipelining`: a clock, a latency, and whose delays count.
- `schedule.plan`: the register stages of a program for a clock.
- `layernorm.LayerNorm`: the integers of a LayerNorm or RMSNorm unit.
- `errors.InputError`: what bad input raises, everywhere.
"""

from sw import public

__all__ = [
    "errors",
    "expr",
    "formats",
    "interpret",
    "layernorm",
    "parse",
    "pipelining",
    "program",
    "realize",
    "refmap",
    "schedule",
]
__getattr__ = public.modules(__name__, __all__)
