"""Integer programs as files."""

from __future__ import annotations

from pathlib import Path

from sw.files import read_text
from sw.ir.errors import InputError
from sw.ir.program import Program


def read_program(path: Path) -> Program:
    """The program that a file holds, ``programs/<site>.json`` of a run.

    Raises:
        InputError: It cannot be read, or holds none; the text names the file.
    """
    text = read_text(path)
    try:
        return Program.from_json(text)
    except InputError as error:
        raise InputError(f"'{path}': {error}") from error
