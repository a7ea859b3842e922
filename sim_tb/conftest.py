"""The option by which pytest is told which units to verify."""

from __future__ import annotations

from pathlib import Path

import pytest

collect_ignore = ["pytorch.py"]  # nothing to collect there, and it would load torch


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--manifest``."""
    parser.addoption(
        "--manifest",
        action="append",
        type=Path,
        default=[],
        metavar="FILE.json",
        help="manifest.json, or one unit's JSON file, to verify in Verilator; may be given again",
    )
