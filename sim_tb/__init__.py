"""Simulation: every unit on every input code in Verilator, under stalls and on recorded activations.

Public, from Python (everything else may change):

- `unit.UnitFiles`: a unit as its description on disk names it.
- `norm.NormFiles`: a norm, likewise.
- `request.UnitRequest`: such a unit, and activations to replay through it.
- `request.NormRequest`: the same of a LayerNorm or RMSNorm.
- `request.Settings`: where results go, and how long units are stalled.
- `verification.verify`: a report of each request.
"""

from sw import public

__all__ = ["norm", "request", "unit", "verification"]
__getattr__ = public.modules(__name__, __all__)
