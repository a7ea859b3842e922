"""Pairs (x, y) in an npz file: which sites it holds, and whether they can be used."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gp.fitness import check_pairs
from sw.ir.errors import InputError

SMALLEST, LARGEST = 1e-9, 1e9
"""Of the largest |x| of a site; beyond it no fixed-point format or short constant would do."""


@dataclass(frozen=True, slots=True)
class SitePairs:
    """A site of a file of pairs, checked."""

    site: str
    num: int
    absmax: float
    """Largest |x|."""
    sha256: str
    """Of x and y."""


def read_sites(path: Path) -> list[SitePairs]:
    """The sites of a file with vectors ``<site>_x`` and ``<site>_y``, in the file's order.

    One site is in memory at a time.

    Raises:
        InputError: The file cannot be read, an array lacks its partner, or pairs cannot be used
            (see ``gp.fitness.check_pairs``).
    """
    try:
        with path.open("rb") as file:
            arrays = np.load(file)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise InputError(f"pairs '{path}' must be an npz file, not a single array")
            return [_checked(arrays, site) for site in _site_names(path, arrays.files)]
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"pairs '{path}' cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"pairs '{path}' must be an npz file of numbers: {error}") from error


def _site_names(path: Path, names: list[str]) -> Iterator[str]:
    present = set(names)
    if not present:
        raise InputError(f"pairs '{path}' must hold vectors '<site>_x' and '<site>_y', not nothing")
    for name in names:
        site, ending = name[:-2], name[-2:]
        if ending not in ("_x", "_y") or not site:
            raise InputError(f"arrays of '{path}' must be named '<site>_x' or '<site>_y', not '{name}'")
        partner = f"{site}_{'y' if ending == '_x' else 'x'}"
        if partner not in present:
            raise InputError(f"pairs '{path}' must hold '{partner}' beside '{name}'")
        if "/" in site or site.startswith("."):
            raise InputError(f"site names in '{path}' must be usable as file names, not '{site}'")
        if ending == "_x":
            yield site


def _checked(arrays: np.lib.npyio.NpzFile, site: str) -> SitePairs:
    x, y = arrays[f"{site}_x"], arrays[f"{site}_y"]
    check_pairs(site, x, y)
    digest = hashlib.sha256()
    for values in (x, y):
        digest.update(str(values.dtype).encode() + values.tobytes())
    absmax = float(np.max(np.abs(x)))
    if not SMALLEST <= absmax <= LARGEST:
        raise InputError(
            f"largest |x| of site '{site}' must be {SMALLEST:g}..{LARGEST:g}, not {absmax:g}; scale x first"
        )
    return SitePairs(site, len(x), absmax, digest.hexdigest())
