"""What a person sees while a stage works: progress on stderr, tables on stdout."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sw.files import process_rank

PLAIN_LINE_EVERY_S = 20.0
PLAIN_WIDTH = 120
"""Columns of a table that goes to a file or a pipe."""


class Step(Protocol):
    """Counts steps done and shows a short text beside them."""

    def __call__(self, note: str = "", count: int = 1) -> None: ...


class _Console(Console):
    """rich's, but a reader that left is for whoever called to deal with, not the end of the process."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def table_console() -> Console:
    """Where tables go: stdout, as wide as the terminal, or 120 columns where there is none."""
    return _Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)


@contextlib.contextmanager
def progress(label: str, total: int, *, done: int = 0) -> Iterator[Step]:
    """A progress bar on stderr; away from a terminal, a plain line now and then. Both say the time left.

    Of several processes that work on one stage only the first shows anything.

    Args:
        label: What is done.
        total: Steps in all.
        done: Of these, steps that an earlier process did.

    Yields:
        What to call after every step.
    """
    console = Console(stderr=True, quiet=process_rank()[0] > 0)
    if not console.is_terminal:
        yield _plain_lines(label, total, done, console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=total, completed=done, note="")

        def step(note: str = "", count: int = 1) -> None:
            bar.update(task, advance=count, note=note)

        yield step


def _plain_lines(label: str, total: int, first: int, console: Console) -> Step:
    done = first
    begin = last = time.monotonic()

    def step(note: str = "", count: int = 1) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if now - last > PLAIN_LINE_EVERY_S:
            last = now
            left = (now - begin) / (done - first) * (total - done)
            line = f"{label}: {done}/{total}, {_duration(left)} left {note}".rstrip()
            console.print(line, soft_wrap=True, markup=False, highlight=False)

    return step


def _duration(seconds: float) -> str:
    """The time in its two largest units."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    )
