"""The report: everything measured about a run, in `summary.json`, on the terminal and as a page.

Public, from Python (everything else may change):

- `summary.summarize`: the figures of a run.
- `compare.compare`: two runs, side by side.
- `traffic.Network`: tokens, channels and widths, and the bytes that norms move.
"""

__all__ = ["compare", "summary", "traffic"]
