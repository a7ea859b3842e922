"""A norm as files, beside which the files of units may lie, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw import measure
from hw.emit import TOP_PREFIX, check_name, make_unit_folder, unit_verilog
from hw.fusesoc_core import core_id, core_text
from hw.layernorm import build, timing
from hw.streams import buses
from sw.files import write_json, write_text
from sw.ir.affine import Affine
from sw.ir.layernorm import LayerNorm

_LIBRARY = "norms"


def emit_norm(norm: LayerNorm, variant: str, *, name: str, folder: Path, lanes: int = 1) -> dict[str, Any]:
    """Write ``<name>.v``, ``.core`` and ``.json`` into a folder that may exist already.

    Ports, packing and module name are those of units, so tops and wrappers for units take a norm as well.

    Returns:
        What the JSON file says: ``name expression input output channels lanes variant latency_cycles
        interval_cycles row_memory_bits eps guard_bits affine bound_lsb verilog top``. The expression is
        ``LayerNorm`` or ``RMSNorm``; ``affine`` is null or holds the formats ``gamma`` and ``beta`` and the
        lists of codes ``gamma_raw`` and ``beta_raw``. So ``LayerNorm`` can be made from it again.

    Raises:
        InputError: The name is no Verilog identifier, the folder cannot be written, there is no such variant,
            or ``lanes`` is out of range.
    """
    check_name(name)
    cycles = timing(norm, variant, lanes=lanes)
    make_unit_folder(folder, name)
    body: dict[str, Any] = {
        "name": name,
        "expression": "RMSNorm" if norm.rms else "LayerNorm",
        "input": str(norm.input),
        "output": str(norm.output),
        "channels": norm.channels,
        "lanes": lanes,
        "variant": variant,
        "latency_cycles": cycles.latency_cycles,
        "interval_cycles": cycles.interval_cycles,
        "row_memory_bits": cycles.row_memory_bits(norm, lanes),
        "eps": norm.eps,
        "guard_bits": norm.guard_bits,
        "affine": None if norm.affine is None else _affine_entry(norm.affine),
        "bound_lsb": norm.bound_lsb,
        "verilog": f"{name}.v",
        "top": f"{TOP_PREFIX}{name}",
    }
    write_text(folder / body["verilog"], unit_verilog(build(norm, variant, lanes=lanes), body["top"]))
    description = "{expression} of {channels} channels, {input} to {output}, {variant}".format(**body)
    core = core_text(
        core_id(_LIBRARY, name), description=description, files=[body["verilog"]], top=body["top"]
    )
    write_text(folder / f"{name}.core", core)
    write_json(folder / f"{name}.json", body)
    return body


def _affine_entry(affine: Affine) -> dict[str, Any]:
    formats = {"gamma": str(affine.gamma), "beta": str(affine.beta)}
    return formats | {"gamma_raw": list(affine.gamma_raw), "beta_raw": list(affine.beta_raw)}


def measure_norm(
    norm: LayerNorm,
    variant: str,
    cache: Path,
    *,
    lanes: int = 1,
    families: Sequence[str] = tuple(measure.FLOWS),
    target_mhz: float = 200.0,
    seeds: int = 0,
) -> dict[str, Any]:
    """What a norm costs, with DSP, block RAM and LUT RAM where Yosys takes them.

    Args:
        norm: The norm.
        variant: A key of ``VARIANTS``.
        cache: Folder of earlier answers, as ``hw.measure.resources`` has it.
        lanes: Codes a beat.
        families: Keys of ``hw.measure.FLOWS``.
        target_mhz: Clock that place and route aims at.
        seeds: Seeds of place and route on ECP5; 0: none.

    Returns:
        ``{"latency_cycles", "interval_cycles", "row_memory_bits", "bound_lsb", "families": {family: counts
        as hw.measure.resources gives them}}``, and ``"fmax_mhz"`` as ``hw.measure.fmax_mhz`` gives it.

    Raises:
        ToolError: A tool is missing, too old or fails.
    """
    top = f"{TOP_PREFIX}norm"
    cycles = timing(norm, variant, lanes=lanes)
    text = unit_verilog(build(norm, variant, lanes=lanes), top)
    ports = buses(norm.input, norm.output, lanes)
    return {
        "latency_cycles": cycles.latency_cycles,
        "interval_cycles": cycles.interval_cycles,
        "row_memory_bits": cycles.row_memory_bits(norm, lanes),
        "bound_lsb": norm.bound_lsb,
        **measure.cost(text, top, ports, cache, families=families, target_mhz=target_mhz, seeds=seeds),
    }
