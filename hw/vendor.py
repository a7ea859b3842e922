"""``--vendor`` and ``--part``: the arguments, and what they start."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hw.parts import VENDORS, vendor_options
from sw.ir.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of sub-commands that can write a vendor's project."""
    parser.add_argument(
        "--vendor", metavar="TOOL", help=f"also write a project for one of {', '.join(VENDORS)}"
    )
    parser.add_argument(
        "--part",
        default="",
        metavar="PART",
        help="FPGA of that project; if none is named, one of the tool's that the last line names",
    )


def check_arguments(args: argparse.Namespace, fmax_mhz: float) -> None:
    """Refuse arguments with which no project can be written, before anything else is done.

    Raises:
        InputError: No such vendor or part, a part without a vendor, or edalize is missing.
    """
    if args.vendor is None:
        if args.part:
            raise InputError(f"--part must come with --vendor, not alone as '{args.part}'")
        return
    vendor_options(args.vendor, args.part, fmax_mhz)
    if importlib.util.find_spec("edalize") is None:
        raise InputError(
            "edalize must be installed for --vendor, not missing; pip install '.[vendor]' in the clone"
        )


def write_asked(args: argparse.Namespace, folder: Path, body: Mapping[str, Any], fmax_mhz: float) -> None:
    """Write the project that the arguments ask for, if any, and say where it is."""
    if args.vendor is not None:
        from hw.project import write_project

        project = write_project(folder, body, tool=args.vendor, part=args.part, fmax_mhz=fmax_mhz)
        part = args.part or VENDORS[args.vendor].part
        print(f"{project}: project for {args.vendor}, part {part}")
