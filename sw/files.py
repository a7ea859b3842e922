"""Files that get to their place whole or not at all, and are read with a line for what is wrong with them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sw.arrays import BROKEN_ARRAY, content_of
from sw.ir.errors import InputError

DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What writing to an open file may end with; such an error names no file."""
SCRATCH = ".part"
"""End of the name of a file that is being written; it begins with a dot."""
_SCRATCH_NAME = re.compile(rf"\..*\.(\d+)\.\d+{re.escape(SCRATCH)}")
"""A file's name, and the process and thread that write it."""


def make_folder(path: Path) -> Path:
    """Create a folder and check that files can be written in it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"folder '{path}' cannot be written: {error.strerror}") from error
    return path


def process_rank() -> tuple[int, int]:
    """(which of the processes that work on one stage this is, how many there are), as torchrun says.

    Raises:
        InputError: The environment's ``RANK`` or ``WORLD_SIZE`` is no number.
    """
    number = _environment_number("WORLD_SIZE", 1)
    return (_environment_number("RANK", 0) if number > 1 else 0), number


def _environment_number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal():
        raise InputError(f"environment variable '{name}' must be a number, not {text!r}")
    return int(text)


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it if the block ends well, and else disappears.

    Of several processes that work on one stage only the first leaves files.

    Raises:
        InputError: No file of that name can be written.
    """
    if os.path.isdir(path):  # unlike Path.is_dir it takes a name of any length
        raise InputError(f"'{path}' must be a file that can be replaced, not a folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = _scratch(path)
    try:
        yield scratch
        if process_rank()[0] == 0:
            os.replace(scratch, path)
    except OSError as error:
        if error.filename == str(scratch) or error.errno in DISK_TROUBLE:
            raise InputError(f"'{path}' cannot be written: {error.strerror}") from error
        raise
    finally:
        with contextlib.suppress(OSError):  # what went wrong before says more
            scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A folder in a folder, for files that come in several; it disappears with what is left in it."""
    scratch = _scratch(folder / "files")
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _scratch(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}{SCRATCH}")


def remove_abandoned(folder: Path) -> None:
    """Remove what processes that are gone had begun to write by ``atomic``, anywhere below a folder.

    A process of our own number is one that is gone: in a container all have the same.
    """
    for path in folder.rglob(f".*{SCRATCH}"):
        found = _SCRATCH_NAME.fullmatch(path.name)
        if found is None or (int(found[1]) != os.getpid() and _is_alive(int(found[1]))):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:  # it is, and somebody else's
        return True
    except (OSError, OverflowError):
        return False
    return True


def keep_only(folder: Path, wanted: Iterable[Path]) -> None:
    """Remove a folder's own files that are not wanted: what an earlier run with other sites left."""
    keep = set(wanted)
    for path in folder.glob("*"):
        if path.is_file() and path not in keep:
            path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def write_json(path: Path, body: Any) -> None:
    """Write JSON whole or not at all; NaN and infinity are refused."""
    write_text(path, json.dumps(body, indent=2, allow_nan=False) + "\n")


def write_npz(path: Path, arrays: dict[str, Any]) -> None:
    """Write named arrays whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    with atomic(path) as scratch:
        scratch.write_bytes(buffer.getvalue())


def read_text(path: Path) -> str:
    """Read a text file.

    Raises:
        InputError: The file is missing, or no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"'{path}' cannot be read: {getattr(error, 'strerror', None) or 'no text'}"
        ) from error


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        InputError: The file is missing or broken.
    """
    text = read_text(path)  # apart: its error is a ValueError, too
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"'{path}' is not JSON: {error}") from error
    except RecursionError as error:
        raise InputError(f"'{path}' is not JSON that anybody wrote: it is nested too deeply") from error


def read_npy(path: Path) -> np.ndarray:
    """Read one array of numbers.

    Raises:
        InputError: The file is missing, or holds something else.
    """
    try:
        with path.open("rb") as file:  # numpy leaves it open where it finds a torn npz
            array = np.load(file, allow_pickle=False)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror or error}") from error
    except BROKEN_ARRAY as error:
        raise InputError(f"'{path}' must be an npy file of numbers, not {content_of(path)}") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"'{path}' must be an npy file of one array, not an npz")
    return array


def file_digest(path: Path) -> str:
    """sha256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
