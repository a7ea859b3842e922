"""What the norms of a run's network cost, replaced or not: hardware side by side, bytes moved, cycles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hw.rivals import EVOLVED
from sw.arrays import opened_npz
from sw.config import ReportConfig
from sw.files import read_json
from sw.ir.formats import FixedFormat
from sw.report.cycles import hg_pipe_attention, hg_pipe_mlp, interval
from sw.report.traffic import VITS, WAYS, Machine, Network, layernorm
from sw.run_dir import RunDir

GIGA = 1e9
BITS_PER_KIB = 8 * 1024


@dataclass(frozen=True, slots=True)
class Site:
    """A norm of the network, as its input looks."""

    name: str
    tokens: int
    network: Network


def sites(run: RunDir) -> list[Site]:
    """Every replaced norm, with the rows that an image brings it, by recorded activations and manifest."""
    recorded = read_json(run.accuracy("quantized"))["recorded_images"]
    found = []
    with opened_npz(run.replay, "recorded activations") as stored:
        for unit in read_json(run.manifest)["units"]:
            rows, channels = stored[f"{unit['site']}_raw"].shape
            in_bits, out_bits = (FixedFormat.parse(unit[key]).width for key in ("input", "output"))
            network = Network(
                tokens=rows // recorded, channels=channels, norms=1, in_bits=in_bits, out_bits=out_bits
            )
            found.append(Site(unit["site"], network.tokens, network))
    return found


def comparison(run: RunDir) -> dict[str, Any]:
    """The units of ``synth/rivals.json``, and how many LUTs each takes for an element a cycle.

    Returns:
        The file's content; every unit also has ``elements_per_cycle``, ``per_element_per_cycle`` (family ->
        LUTs, hard blocks beside them) and ``times_evolved`` (family -> that over the evolved unit's).
    """
    body: dict[str, Any] = read_json(run.rivals)
    units = body["units"]
    for unit in units.values():
        rate = body["channels"] / unit["row_cycles"]
        unit["elements_per_cycle"] = rate
        unit["per_element_per_cycle"] = {
            family: counts["lut"] / rate for family, counts in unit["families"].items()
        }
    own = units[EVOLVED]["per_element_per_cycle"]
    for unit in units.values():
        unit["times_evolved"] = {
            family: luts / max(own[family], 1) for family, luts in unit["per_element_per_cycle"].items()
        }
    return body


def traffic(found: Sequence[Site], config: ReportConfig) -> dict[str, Any]:
    """Bytes that the replaced norms move for an image, the least time for it, and the same for larger ViTs.

    Returns:
        ``{"bandwidth_gb_s", "compute_gop_s", "buffer_kib", "ridge", "row_bits", "layernorm", "ways": {way:
        {"reads", "writes", "bytes", "of_layernorm", "operations", "intensity", "microseconds",
        "gop_s"}}, "growth": [{"network", "tokens", "channels", "norms", "row_kib", "megabytes": {way:
        MB}}]}``. ``layernorm`` is the way that the stated buffer allows; ``of_layernorm`` is against two
        passes.
    """
    machine = Machine(bandwidth=config.bandwidth_gb_s * GIGA, compute=config.compute_gop_s * GIGA)
    networks = [site.network for site in found]
    widest = max(networks, key=lambda network: network.row_bits)
    two_passes = sum(WAYS[1].bytes(network) for network in networks)
    elements = sum(network.elements for network in networks)
    ways = {}
    for way in WAYS:
        moved = sum(way.bytes(network) for network in networks)
        intensity = way.operations * elements / moved if moved else None
        ways[way.name] = {
            "reads": way.reads,
            "writes": way.writes,
            "bytes": moved,
            "of_layernorm": moved / two_passes,
            "operations": way.operations,
            "intensity": intensity,
            "microseconds": 1e6 * sum(machine.seconds(way, network) for network in networks),
            "gop_s": (machine.compute if intensity is None else machine.operations_a_second(intensity))
            / GIGA,
        }
    return {
        "bandwidth_gb_s": config.bandwidth_gb_s,
        "compute_gop_s": config.compute_gop_s,
        "buffer_kib": config.buffer_kib,
        "ridge": machine.ridge,
        "row_bits": widest.row_bits,
        "layernorm": layernorm(widest, round(config.buffer_kib * BITS_PER_KIB)).name,
        "ways": ways,
        "growth": [_growth(name, network) for name, network in VITS.items()],
    }


def _growth(name: str, network: Network) -> dict[str, Any]:
    return {
        "network": name,
        "tokens": network.tokens,
        "channels": network.channels,
        "norms": network.norms,
        "row_kib": network.row_bits / BITS_PER_KIB,
        "megabytes": {way.name: way.bytes(network) / 1e6 for way in WAYS},
    }


def cycles(found: Sequence[Site], body: Mapping[str, Any]) -> dict[str, Any]:
    """Cycles at the site of the comparison, and the published pipeline that they would stand in.

    Returns:
        ``{"site", "tokens", "units": {name: {"first", "row", "image"}}, "hg_pipe": {...}}``: cycles until the
        first result, from row to row, and for all rows of an image.
    """
    tokens = next(site.tokens for site in found if site.name == body["site"])
    beats = -(-body["channels"] // body["lanes"])
    units = {
        name: {
            "first": unit["latency_cycles"],
            "row": unit["row_cycles"],
            "image": (tokens - 1) * unit["row_cycles"] + unit["latency_cycles"] + beats,
        }
        for name, unit in body["units"].items()
    }
    with_norm, with_scalar = hg_pipe_mlp(scalar=False), hg_pipe_mlp(scalar=True)
    return {
        "site": body["site"],
        "tokens": tokens,
        "units": units,
        "hg_pipe": {
            "norm": with_norm[0].cycles,
            "scalar": with_scalar[0].cycles,
            "products": with_norm[1].cycles,
            "softmax": hg_pipe_attention().cycles,
            "block_with_norm": interval(with_norm),
            "block_with_scalar": interval(with_scalar),
        },
    }
