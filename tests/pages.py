"""What stands in the fences of a documentation page, and how it is run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

from sw import cli

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
MAKE = ["make", "--no-print-directory", "-f", str(ROOT / "Makefile"), f"BIN={BIN}", "READY="]
"""Targets in the current folder, with the environment that runs the tests."""
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
"""Tiny models are slower on several threads."""


def fences(page: Path, *languages: str) -> list[tuple[str, str]]:
    """The language and the text of a page's fenced blocks in these languages."""
    found = re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [(language, text) for language, text in found if language in languages]


def is_install(command: str) -> bool:
    """Whether a command makes an environment or fills it; the tests have theirs and run none of these."""
    return bool(re.match(r"python3 -m venv |\.venv/bin/pip install ", command))


def run_page(page: Path, *, without: Collection[str] = ()) -> None:
    """Run all commands and Python examples of a page but what installs, in its order, in the current folder.

    ``without``: commands that another test runs.
    """
    for language, text in fences(page, "sh", "python"):
        if language == "python":
            run_python(text)
        else:
            for line in text.splitlines():
                if line not in without and not is_install(line):
                    run_command(line)


def run_python(text: str) -> str:
    """Run an example in a Python of its own; what it prints."""
    return _run([sys.executable, "-c", text], text)


def run_command(line: str) -> None:
    """Run a command as a reader would; ``normforge`` in this process, which has loaded torch already."""
    program, *words = shlex.split(line, comments=True)
    if program == ".":
        return  # nothing that a child could do for us; this environment is on
    if program == "normforge":
        assert cli.main(words) == 0, line
    else:
        _run([*{"make": MAKE, "python": [sys.executable]}[program], *words], line)


def _run(command: list[str], shown: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ONE_THREAD)
    assert done.returncode == 0, f"{shown}\n{done.stdout}\n{done.stderr}"
    return done.stdout
