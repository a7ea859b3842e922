"""FPGA parts of the vendors that a project can be written for, and what edalize must be told about them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sw.ir.errors import InputError

Options = Callable[[re.Match[str], float], dict[str, Any]]
"""edalize's options from the part and the clock in MHz."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Vendor:
    """A tool of edalize that implements designs for an FPGA."""

    part: str
    """Taken where the user names none."""
    pattern: str
    """What a part must look like."""
    options: Options
    is_flow: bool = True
    """In edalize's flow API; else in its older tool API."""

    def options_for(self, part: str, fmax_mhz: float) -> dict[str, Any]:
        """Edalize's options.

        Raises:
            InputError: The part is none of this vendor's.
        """
        found = re.fullmatch(self.pattern, part, re.IGNORECASE)
        if found is None:
            raise InputError(f"part must be one such as {self.part}, not {part!r}")
        return self.options(found, fmax_mhz)


def _part_alone(part: re.Match[str], fmax_mhz: float) -> dict[str, Any]:
    return {"part": part.group()}


def _quartus(part: re.Match[str], fmax_mhz: float) -> dict[str, Any]:
    starts = (start for start in _QUARTUS_FAMILIES if part.group().upper().startswith(start))
    return {"device": part.group(), "family": _QUARTUS_FAMILIES[next(starts)]}


_QUARTUS_FAMILIES = {
    **{"EP4CGX": "Cyclone IV GX", "EP4CE": "Cyclone IV E", "5C": "Cyclone V", "5AGX": "Arria V"},
    **{"5S": "Stratix V", "10CL": "Cyclone 10 LP", "10CX": "Cyclone 10 GX", "10M": "MAX 10"},
    **{"10A": "Arria 10", "1S": "Stratix 10", "AG": "Agilex 7", "A5": "Agilex 5"},
}
"""Family of a device by how its name begins."""


def _nextpnr(chip: list[str], fmax_mhz: float, *more: str) -> dict[str, Any]:
    # As in other tools, a clock that is missed is a figure to read, not an error.
    return {"nextpnr_options": [*chip, "--freq", f"{fmax_mhz:g}", "--timing-allow-fail", *more]}


def _ecp5(part: re.Match[str], fmax_mhz: float) -> dict[str, Any]:
    kind = {"U": "", "UM": "um-", "UM5G": "um5g-"}[part["kind"].upper()]
    package = {"BG": "CABGA", "MG": "CSFBGA", "TG": "TQFP"}[part["package"].upper()] + part["pins"]
    chip = [f"--{kind}{part['size']}k", "--package", package, "--speed", part["speed"]]
    # No board is known, so pins go where place and route likes.
    return _nextpnr(chip, fmax_mhz, "--lpf-allow-unconstrained")


_ICE40_PACKAGES = {
    "LP384": "CM36 CM49 QN32",
    "HX1K LP1K": "SWG16TR CB81 CB121 CB132 CM36 CM49 CM81 CM121 QN84 TQ144 VQ100",
    "HX4K LP4K": "CB132 CM81 CM121 CM225 TQ144 BG121",
    "HX8K LP8K": "CB132 CM81 CM121 CM225 BG121 CT256",
    "UP3K UP5K": "SG48 UWG30",
    "U1K U2K U4K": "SG48",
}
"""Packages that nextpnr-ice40 0.11 has for chips."""


def _ice40(part: re.Match[str], fmax_mhz: float) -> dict[str, Any]:
    chip, package = part["chip"].upper(), part["package"].upper()
    known = next(p.split() for chips, p in _ICE40_PACKAGES.items() if chip in chips.split())
    if package not in known:
        raise InputError(f"package of iCE40{chip} must be one of {', '.join(known)}, not '{part['package']}'")
    return _nextpnr([f"--{chip.lower()}", "--package", package.lower()], fmax_mhz)


VENDORS: dict[str, Vendor] = {
    "vivado": Vendor(part="xc7a100tcsg324-1", pattern=r"x[acq][\w-]+", options=_part_alone),
    "quartus": Vendor(
        part="5CSEMA5F31C6",
        pattern=rf"({'|'.join(_QUARTUS_FAMILIES)})\w+",
        options=_quartus,
        is_flow=False,
    ),
    "trellis": Vendor(
        part="LFE5U-25F-6BG381C",
        pattern=r"LFE5(?P<kind>U|UM|UM5G)-(?P<size>12|25|45|85)F-(?P<speed>[678])"
        r"(?P<package>BG|MG|TG)(?P<pins>\d+)[CI]?",
        options=_ecp5,
    ),
    "icestorm": Vendor(
        part="iCE40HX8K-CT256",
        pattern=r"iCE40(?P<chip>HX1K|HX4K|HX8K|LP384|LP1K|LP4K|LP8K|UP3K|UP5K|U[124]K)-(?P<package>\w+)",
        options=_ice40,
    ),
    "diamond": Vendor(part="LFE5U-25F-6BG381C", pattern=r"L[\w-]+", options=_part_alone, is_flow=False),
    "radiant": Vendor(part="LIFCL-40-9BG400C", pattern=r"[Li][\w-]+", options=_part_alone, is_flow=False),
    "gowin": Vendor(part="GW2A-LV18PG256C8/I7", pattern=r"GW[\w/-]+", options=_part_alone),
}
"""Every vendor's tool by the name that edalize gives it."""


def vendor_options(tool: str, part: str, fmax_mhz: float) -> dict[str, Any]:
    """Edalize's options for a tool and a part; an empty part is the vendor's default.

    Raises:
        InputError: There is no such tool, or the part is none of its.
    """
    if tool not in VENDORS:
        raise InputError(f"vendor must be one of {', '.join(VENDORS)}, not '{tool}'")
    vendor = VENDORS[tool]
    return vendor.options_for(part or vendor.part, fmax_mhz)
