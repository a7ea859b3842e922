"""Arrays as files hold them: their digest, and one line for what is wrong with a file that others wrote."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from sw.ir.errors import InputError
from sw.ir.formats import IntArray

BROKEN_ARRAY = (
    ValueError,
    EOFError,
    SyntaxError,
    tokenize.TokenError,
    MemoryError,
    OverflowError,
    NotImplementedError,  # a kind of compression that zipfile lacks
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy may raise over a damaged file. Its text is not passed on: it advises to unpickle anything."""


def content_of(path: Path) -> str:
    """What a file is that numpy cannot read as numbers, by how it begins."""
    with path.open("rb") as file:
        head = file.read(6)
    if not head:
        return "an empty one"
    is_numpys = head == b"\x93NUMPY" or head.startswith(b"PK")
    return "one that is damaged or holds objects" if is_numpys else "a file of another kind"


def codes_digest(codes: IntArray) -> str:
    """sha256 of integers as little-endian int64, whatever type holds them, as manifests state it."""
    return hashlib.sha256(np.ascontiguousarray(codes, dtype="<i8").tobytes()).hexdigest()


@contextlib.contextmanager
def opened_npz(path: Path, thing: str) -> Iterator[NpzFile]:
    """The arrays of a file; what goes wrong while they are read is an InputError, too.

    Args:
        path: The npz file.
        thing: What it is to hold, for messages.

    Raises:
        InputError: The file is missing, no npz of numbers, or unpacks to more than there is room for.
    """
    try:
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, NpzFile):
                raise InputError(f"{thing} '{path}' must be an npz file, not a single array")
            _check_size(path, arrays)
            yield arrays
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{thing} '{path}' cannot be read: {error.strerror or error}") from error
    except BROKEN_ARRAY as error:
        raise InputError(
            f"{thing} '{path}' must be an npz file of numbers, not {content_of(path)}"
        ) from error


def _check_size(path: Path, arrays: NpzFile) -> None:
    """Before anything is unpacked: a small file may hold far more than there is room for."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    entries = [] if arrays.zip is None else arrays.zip.infolist()
    largest = max((entry.file_size for entry in entries), default=0)
    if largest > memory / 2:
        raise InputError(
            f"an array of '{path}' must fit in half of the memory, {memory / 2**31:.1f} GiB, "
            f"not unpack to {largest / 2**30:.1f} GiB"
        )
