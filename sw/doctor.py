"""``normforge doctor``: what is installed, in which version, and how to get what is missing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

from rich import box
from rich.table import Table

from sw.terminal import table_console

PACKAGE = "normforge"
EXTRAS = {
    "": "compile, evolve --pairs, hdl",
    "model": "train, capture, align, quantize, export: your own model",
    "hf": "images of Hugging Face's library",
    "sim": "verify: simulation of every code",
    "synth": "synth, rivals, compile --realize all: resources and clock",
    "formal": "make formal: proofs",
    "vendor": "hdl, compile --vendor: projects for vendors' tools",
    "cluster": "evolve --scheduler: many machines",
}
"""Groups of packages, and the commands that need them; '' always comes along."""
PROGRAMS = {"g++": "sim", "make": "sim", "perl": "sim"}
"""Programs that Verilator calls, and the group that needs them; the system's package manager has them."""
_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Need:
    """Something that a group needs; no version: it is not there."""

    group: str
    name: str
    version: str | None


def needs(requirements: Sequence[str] | None = None) -> list[Need]:
    """Everything that the groups need, in their order.

    Args:
        requirements: As a package's metadata have them; None: those of this package.
    """
    found = metadata.requires(PACKAGE) or [] if requirements is None else requirements
    packages = [(_group(requirement), _NAME.findall(requirement)[0]) for requirement in found]
    listed = [Need(group, name, _package_version(name)) for group, name in packages if group in EXTRAS]
    listed += [Need(group, name, _program_version(name)) for name, group in PROGRAMS.items()]
    return sorted(listed, key=lambda need: list(EXTRAS).index(need.group))


def doctor() -> int:
    """Print what is there and what is not; 0 if nothing is missing, else 1."""
    listed = needs()
    table = Table(
        title=f"Python {sys.version.split()[0]}, {_device()}", title_justify="left", box=box.SIMPLE_HEAD
    )
    for heading in ("for", "needs", "version"):
        table.add_column(heading)
    for group, purpose in EXTRAS.items():
        own = [need for need in listed if need.group == group]
        for number, need in enumerate(own):
            table.add_row(purpose if number == 0 else "", need.name, need.version or "missing")
    console = table_console()
    console.print(table)
    missing = [need for need in listed if need.version is None]
    for group in dict.fromkeys(need.group for need in missing):
        print(_remedy(group, [need.name for need in missing if need.group == group]))
    print("everything is there" if not missing else f"{len(missing)} missing; the rest works")
    return 1 if missing else 0


def _remedy(group: str, names: Sequence[str]) -> str:
    programs = [name for name in names if name in PROGRAMS]
    packages = [name for name in names if name not in PROGRAMS]
    extra = f"pip install '.[{group}]'" if group else "pip install ."
    how = [f"{extra} in the clone brings {', '.join(packages)}"] if packages else []
    how += [f"the system's package manager has {', '.join(programs)}"] if programs else []
    return f"{EXTRAS[group]}: " + "; ".join(how)


def _group(requirement: str) -> str:
    """The extra that a requirement belongs to, or ''."""
    extra = re.search(r"""extra\s*==\s*['"]([^'"]+)['"]""", requirement)
    return extra[1] if extra else ""


def _package_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _program_version(name: str) -> str | None:
    """What a program says of itself first that looks like a version."""
    if shutil.which(name) is None:
        return None
    said = subprocess.run([name, "--version"], capture_output=True, text=True, check=False).stdout
    number = re.search(r"\d+(\.\d+)+", said)
    return number[0] if number else "present"


def _device() -> str:
    """Whether models would run on a GPU."""
    try:
        from sw.model.runtime import device
    except ModuleNotFoundError:
        return "no torch"
    return f"models on the {'GPU' if device().type == 'cuda' else 'CPU'}"
