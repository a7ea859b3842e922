"""From (x, y) pairs of one norm to a function that hardware can compute, and its picture.

The pairs here are a LayerNorm's over 64 channels, on tokens of different spread. For a norm of yours, give an
npz file with the arrays ``<site>_x`` and ``<site>_y`` (``runs/digits/captures.npz`` has nine sites).
"""

import sys
from pathlib import Path

import numpy as np

from gp.evolve import evolve_pairs


def layernorm_pairs(path: Path) -> Path:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 64)) * rng.lognormal(0.0, 0.3, size=(200, 1))
    y = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-6)
    np.savez(path, norm_x=x.ravel(), norm_y=y.ravel())
    return path


if __name__ == "__main__":  # worker processes import this file
    pairs = Path(sys.argv[1]) if len(sys.argv) > 1 else layernorm_pairs(Path("example_pairs.npz"))
    run = evolve_pairs(pairs, Path("example_evolved"), population=20, generations=2, seeds=1, choose="knee")
    for site, found in run.read_functions().items():
        print(f"{site}: f(x) = {found['expression']}, y ~ {found['scale']:.4g} f(x) + {found['offset']:.4g}")
        print(f"  from {found['input']} to {found['output']}, about {found['price_lut6']:.0f} LUT6")
        print(f"  R2 {found['r2_fixed']:.4f}; any function of x alone: {found['ceiling']:.4f}")
        print(f"  picture: {run.root / 'evolve/figures' / site}.png")
