"""What the JSON of a unit or a norm must be before any of it names a file or a length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sw.ir.errors import InputError

MOST = 65536
"""Of any length that a description states."""


def is_name(text: Any) -> bool:
    """Whether a text can be part of a Verilog identifier and of a file's name."""
    return isinstance(text, str) and text != "" and text.isascii() and f"_{text}".isidentifier()


def check_keys(entry: Any, keys: Sequence[str], thing: str, path: Path) -> None:
    """Let through only an object of ``path`` that has all keys.

    Raises:
        InputError: It is none, and the text names the first key that is missing; or its name is unfit for
            a file.
    """
    missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
    if missing:
        raise InputError(f"description of a {thing} in '{path}' must have the key '{missing[0]}'")
    name = entry["name"] if "name" in keys else "none"
    # It names a folder.
    if not is_name(name):
        raise InputError(
            f"name of a {thing} in '{path}' must be letters, digits and underscores, not {name!r}"
        )


def check_words(entry: Mapping[str, Any], keys: Sequence[str], thing: str, path: Path) -> None:
    """Let through only an object of ``path`` whose keys, and ``site`` if it has one, are texts.

    Raises:
        InputError: One is none, or the site is no name.
    """
    words = {key: entry[key] for key in keys} | {"site": entry.get("site", entry["name"])}
    for key, word in words.items():
        if not isinstance(word, str) or not word:
            raise InputError(f"'{key}' of a {thing} in '{path}' must be a text, not {word!r}")
    if "/" in words["site"]:
        raise InputError(f"site of a {thing} in '{path}' must be a name, not {words['site']!r}")


def check_numbers(
    entry: Mapping[str, Any], ranges: Mapping[str, tuple[int, int]], thing: str, path: Path
) -> None:
    """Let through only an object of ``path`` whose keys are integers within their ranges.

    Raises:
        InputError: One is none, or lies outside.
    """
    for key, (least, most) in ranges.items():
        number = entry[key]
        if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
            raise InputError(
                f"'{key}' of {thing} '{entry['name']}' in '{path}' must be {least}..{most}, not {number!r}"
            )


def is_file(path: Path) -> bool:
    """Whether a file is there; a name that no file can have is none."""
    try:
        return path.is_file()
    except OSError:
        return False
