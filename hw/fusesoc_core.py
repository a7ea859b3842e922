"""FuseSoC core files: how other people's builds find generated Verilog (CAPI2)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

VERSION = "0.1.0"


def core_id(library: str, name: str) -> str:
    """FuseSoC's name of a core, ``normforge:<library>:<name>:<version>``."""
    return f"normforge:{re.sub(r'[^A-Za-z0-9_.-]', '_', library)}:{name}:{VERSION}"


def core_text(
    identifier: str, *, description: str, files: Sequence[str], top: str, depend: Sequence[str] = ()
) -> str:
    """A core with the fileset ``rtl`` and the targets ``default`` and ``lint`` (Verilator).

    Args:
        identifier: As ``core_id`` makes it.
        description: One line for ``fusesoc core list``.
        files: Verilog, relative to the core file.
        top: Top module.
        depend: Identifiers of the cores that the Verilog instantiates.
    """
    needed = f"\n    depend: {json.dumps(list(depend))}" if depend else ""
    return f"""CAPI=2:
name: {identifier}
description: {json.dumps(description)}
filesets:
  rtl:
    files: {json.dumps(list(files))}
    file_type: verilogSource{needed}
targets:
  default: &default
    filesets: [rtl]
    toplevel: {top}
  lint:
    <<: *default
    description: Verilator with all warnings; the files state their exceptions
    flow: lint
    flow_options:
      tool: verilator
      verilator_options: [-Wall]
"""
