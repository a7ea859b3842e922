"""Pairs (x, y) in an npz file, perhaps with weights: which sites it holds, whether they can be used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from gp.fitness import check_pairs
from sw.arrays import opened_npz
from sw.ir.errors import InputError
from sw.ir.formats import FloatArray

SMALLEST, LARGEST = 1e-9, 1e9
"""Of the largest |x| and |y| of a site; beyond it no fixed-point format or short constant would do."""
MOST_LEVEL = 1e5
"""Of |mean y| over its standard deviation; beyond it squared errors drown in rounding."""
_PARTNERS = {"_x": ("_y",), "_y": ("_x",), "_w": ("_x", "_y")}
"""What must stand beside an array, by the ends of the names."""


@dataclass(frozen=True, slots=True)
class SitePairs:
    """A site of a file of pairs, checked."""

    site: str
    num: int
    absmax: float
    """Largest |x|."""
    weighted: bool
    """Whether the squared errors have weights."""
    sha256: str
    """Of x, y and the weights."""


def read_sites(path: Path, *, weighted: bool = True) -> list[SitePairs]:
    """The sites of a file with vectors ``<site>_x``, ``<site>_y`` and perhaps ``<site>_w``, in its order.

    One site is in memory at a time.

    Args:
        path: The file.
        weighted: Check the weights, too; False where nobody asks for them.

    Raises:
        InputError: The file cannot be read, an array lacks its partner, or pairs cannot be used
            (see ``gp.fitness.check_pairs``).
    """
    with opened_npz(path, "pairs") as arrays:
        return [_checked(arrays, site, weighted) for site in _site_names(path, arrays.files)]


def load_pairs(path: Path, site: str) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """x, y and weights (None: none) of a site, in the file's precision, unchecked.

    Raises:
        InputError: The file cannot be read, or does not hold the site.
    """
    with opened_npz(path, "pairs") as arrays:
        if site not in _site_names(path, arrays.files):
            raise InputError(f"pairs '{path}' must hold site '{site}'")
        return _arrays(arrays, site)


def check_weighted(path: Path, sites: Sequence[SitePairs]) -> None:
    """Let through only sites of a file that all have weights to count their pairs by.

    Raises:
        InputError: One has none.
    """
    bare = [site.site for site in sites if not site.weighted]
    if bare:
        raise InputError(f"pairs '{path}' must hold '{bare[0]}_w' for weights 'sensitivity'")


def _site_names(path: Path, names: list[str]) -> Iterator[str]:
    present = set(names)
    if not present:
        raise InputError(f"pairs '{path}' must hold vectors '<site>_x' and '<site>_y', not nothing")
    for name in names:
        site, ending = name[:-2], name[-2:]
        if ending not in _PARTNERS or not site:
            raise InputError(
                f"arrays of '{path}' must be named '<site>_x', '<site>_y' or '<site>_w', not '{name}'"
            )
        for partner in (site + end for end in _PARTNERS[ending]):
            if partner not in present:
                raise InputError(f"pairs '{path}' must hold '{partner}' beside '{name}'")
        if "/" in site or site.startswith("."):
            raise InputError(f"site names in '{path}' must be usable as file names, not '{site}'")
        if ending == "_x":
            yield site


def _arrays(arrays: NpzFile, site: str) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    w = arrays[f"{site}_w"] if f"{site}_w" in arrays.files else None
    return arrays[f"{site}_x"], arrays[f"{site}_y"], w


def _checked(arrays: NpzFile, site: str, weighted: bool) -> SitePairs:
    x, y, w = _arrays(arrays, site)
    check_pairs(site, x, y, w if weighted else None)
    digest = hashlib.sha256()
    for values in (x, y) if w is None else (x, y, w):
        digest.update(str(values.dtype).encode())
        digest.update(np.ascontiguousarray(values).data)  # no copy, unlike tobytes
    absmax, _ = (_largest(site, name, values) for name, values in (("x", x), ("y", y)))
    with np.errstate(over="ignore"):
        level = abs(float(np.mean(y, dtype=np.float64))) / float(np.std(y, dtype=np.float64))
    if level > MOST_LEVEL:
        raise InputError(
            f"mean of y at site '{site}' must be at most {MOST_LEVEL:g} times its spread, not {level:g}; "
            "subtract it first"
        )
    return SitePairs(site, len(x), absmax, w is not None, digest.hexdigest())


def _largest(site: str, name: str, values: FloatArray) -> float:
    largest = max(-float(values.min()), float(values.max()))
    if not SMALLEST <= largest <= LARGEST:
        raise InputError(
            f"largest |{name}| of site '{site}' must be {SMALLEST:g}..{LARGEST:g}, not {largest:g}; "
            f"scale {name} first"
        )
    return largest
