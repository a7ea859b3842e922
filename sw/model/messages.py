"""What an error of another library says, for a line of ours."""

from __future__ import annotations


def first_line(error: Exception) -> str:
    """The first line of an error's text; its type where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
