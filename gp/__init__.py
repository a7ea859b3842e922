"""The search: one scalar function for every norm site, by its fit and by its price in hardware.

Public, from Python (everything else may change):

- `evolve.evolve_pairs`: functions for anybody's arrays of inputs and outputs, without a model.
- `fitness.split_pairs`: pairs of one site, divided into those to learn from, to choose on and to judge by.
- `baselines.fit_forms`: DyT, Derf, clip and the other known forms, fitted to such pairs.
"""

from sw import public

__all__ = ["baselines", "evolve", "fitness"]
__getattr__ = public.modules(__name__, __all__)
