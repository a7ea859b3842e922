"""What a person sees while a stage works: progress on stderr, tables on stdout."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_LINE_EVERY_S = 20.0
PLAIN_WIDTH = 120
"""Columns of a table that goes to a file or a pipe."""


class Step(Protocol):
    """Counts steps done and shows a short text beside them."""

    def __call__(self, note: str = "", count: int = 1) -> None: ...


def table_console() -> Console:
    """Where tables go: stdout, as wide as the terminal, or 120 columns where there is none."""
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)


@contextlib.contextmanager
def progress(label: str, total: int) -> Iterator[Step]:
    """A progress bar on stderr; away from a terminal, a plain line now and then.

    Yields:
        What to call after every step.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_lines(label, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=total, note="")

        def step(note: str = "", count: int = 1) -> None:
            bar.update(task, advance=count, note=note)

        yield step


def _plain_lines(label: str, total: int) -> Step:
    done = 0
    last = time.monotonic()

    def step(note: str = "", count: int = 1) -> None:
        nonlocal done, last
        done += count
        if time.monotonic() - last > PLAIN_LINE_EVERY_S:
            last = time.monotonic()
            print(f"{label}: {done}/{total} {note}".rstrip(), file=sys.stderr, flush=True)

    return step
