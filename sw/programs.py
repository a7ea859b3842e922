"""Integer programs as files."""

from __future__ import annotations

from pathlib import Path

from sw.ir.errors import InputError
from sw.ir.program import Program


def read_program(path: Path) -> Program:
    """The program that a file holds, ``programs/<site>.json`` of a run.

    Raises:
        InputError: It cannot be read, or holds none; the text names the file.
    """
    try:
        return Program.from_json(path.read_text(encoding="utf-8"))
    except InputError as error:
        raise InputError(f"'{path}': {error}") from error
    except OSError as error:
        raise InputError(f"program '{path}' cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"program '{path}' must be JSON, not bytes that are no text") from error
