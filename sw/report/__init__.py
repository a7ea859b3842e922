"""The report: everything measured about a run, in `summary.json`, on the terminal and as a page.

Public, from Python (everything else may change):

- `summary.summarize`: the figures of a run.
- `compare.compare`: two runs, side by side.
- `traffic.Network`: a network's norms: tokens, channels, widths.
- `traffic.Way`: how a norm reads and writes, and the bytes that it moves in a network; `traffic.WAYS` are
  those of the report.
"""

from sw import public

__all__ = ["compare", "summary", "traffic"]
__getattr__ = public.modules(__name__, __all__)
