"""What outside tools say about generated Verilog."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw.tools import YOSYS, require_simulator


def lint(folder: Path, sources: Sequence[str], top: str) -> None:
    """Fail where Verilator warns."""
    require_simulator().run("--lint-only", "-Wall", "--top-module", top, *sources, cwd=folder)


def elaborated(folder: Path, sources: Sequence[str], top: str) -> dict[str, Any]:
    """Yosys's netlist of a module: ports and cells; fails where Yosys finds a problem in the design."""
    read = f"read_verilog {' '.join(sources)}; hierarchy -check -top {top}; proc; check -assert"
    YOSYS.require().run("-p", f"{read}; write_json netlist.json", cwd=folder)
    found: dict[str, Any] = json.loads((folder / "netlist.json").read_text())["modules"][top]
    return found
