"""``normforge compare RUN RUN``: two finished runs next to each other, in the terminal or as a page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from sw.files import make_folder, read_json, write_text
from sw.ir.errors import InputError
from sw.report.page import page
from sw.report.tables import ACCURACIES
from sw.terminal import table_console

NAMES = ("A", "B")
"""What tables call the two runs."""
SUMMARY_KEYS = ("config", "versions", "accuracy", "total", "sites")
"""What is read of a run's ``summary.json``."""
UNNAMED = ("name", "runs_dir")
"""Keys of a configuration that say nothing about a run."""


def print_comparison(first: Path, second: Path, html: Path | None) -> int:
    """Print two runs; write the page where a file for it is named.

    Raises:
        InputError: As ``compare``, or the page cannot be written.
    """
    body = compare(first, second)
    show(body, table_console())
    if html is not None:
        make_folder(html.absolute().parent)
        write_text(html, page("compare.html", body, names=ACCURACIES))
        print(f"the page: {html}")
    return 0


def compare(first: Path, second: Path) -> dict[str, Any]:
    """What two runs have in common and where they differ.

    Returns:
        ``{"runs": [folder, folder], "config": {key: [a, b]}, "versions": {tool: [a, b]}, "accuracy": {which:
        {"mean": [a, b], "std": [a, b], "n": [a, b], "difference", "error"}}, "total": {family: [a, b]},
        "family", "sites": {site: {"expression", "r2_fixed", "lut", "mhz": [a, b]}}}``. LUTs of sites are
        those of ``family``, the first that both have. Configuration and versions hold only what differs,
        sites and families what either run has; None stands for what a run lacks.
        ``error`` is the standard error of a difference over seeds, None where a run has one seed.

    Raises:
        InputError: A folder is no run, or its report was not made.
    """
    summaries = [_summary(path) for path in (first, second)]
    configs = [_flat(summary["config"]) for summary in summaries]
    a, b = summaries
    family = next((name for name in a["total"] if name in b["total"]), None)
    return {
        "runs": [str(first), str(second)],
        "config": _different(*configs),
        "versions": _different(a["versions"], b["versions"]),
        "accuracy": {
            which: _accuracies(a["accuracy"][which], b["accuracy"][which])
            for which in ACCURACIES
            if which in a["accuracy"] and which in b["accuracy"]
        },
        "total": {
            family: [s["total"].get(family, {}).get("lut_per_lane") for s in summaries]
            for family in _keys(a["total"], b["total"])
        },
        "family": family,
        "sites": _sites(a, b, family),
    }


def _summary(run: Path) -> dict[str, Any]:
    path = run / "report" / "summary.json"
    if not path.exists():
        raise InputError(f"run '{run}' must have a report to be compared; 'normforge run' makes it")
    body = read_json(path)
    missing = [key for key in SUMMARY_KEYS if not isinstance(body, dict) or key not in body]
    if missing:
        raise InputError(
            f"'{path}' must be the summary of a run, with the key '{missing[0]}'; "
            "'normforge report CONFIG' makes it again"
        )
    return dict(body)


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as ``section.key``."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        elif prefix or key not in UNNAMED:
            found[f"{prefix}{key}"] = value
    return found


def _keys(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Of both, in their order."""
    return [*a, *(key for key in b if key not in a)]


def _different(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {key: [a.get(key), b.get(key)] for key in _keys(a, b) if a.get(key) != b.get(key)}


def _accuracies(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    several = min(a["n"], b["n"]) > 1
    error = math.hypot(a["std"] / math.sqrt(a["n"]), b["std"] / math.sqrt(b["n"])) if several else None
    body: dict[str, Any] = {key: [a[key], b[key]] for key in ("mean", "std", "n")}
    return body | {"difference": b["mean"] - a["mean"], "error": error}


def _sites(a: Mapping[str, Any], b: Mapping[str, Any], family: str | None) -> dict[str, dict[str, list[Any]]]:
    found = [{site["site"]: site for site in summary["sites"]} for summary in (a, b)]

    def both(site: str) -> Iterator[dict[str, Any]]:
        for sites in found:
            entry = sites.get(site)
            if entry is None:
                yield dict.fromkeys(("expression", "r2_fixed", "lut", "mhz"))
                continue
            counts = entry["resources"].get(family)
            yield {
                "expression": entry["expression"],
                "r2_fixed": entry["r2_fixed"],
                "lut": counts and counts["lut_per_lane"],
                "mhz": entry["fmax_mhz"] and entry["fmax_mhz"]["median"],
            }

    return {
        site: {key: [one[key] for one in both(site)] for key in ("expression", "r2_fixed", "lut", "mhz")}
        for site in _keys(*found)
    }


def show(body: Mapping[str, Any], console: Console) -> None:
    """Print a comparison: what differs in the configuration, accuracy, LUTs, sites."""
    for name, run in zip(NAMES, body["runs"], strict=True):
        console.print(f"{name}: {run}", markup=False, highlight=False)
    for title, key in (("configuration keys", "config"), ("versions", "versions")):
        if body[key]:
            table = _table(f"{title} that differ")
            _columns(table, "", *NAMES)
            for name, (left, right) in body[key].items():
                table.add_row(name, *("-" if value is None else str(value) for value in (left, right)))
            console.print(table)
    table = _table("accuracy on the test split, mean over seeds")
    _columns(table, "model", *NAMES, "difference, points")
    for which, entry in body["accuracy"].items():
        left, right = (f"{100 * mean:.2f} %" for mean in entry["mean"])
        error = "" if entry["error"] is None else f" +- {100 * entry['error']:.2f}"
        table.add_row(ACCURACIES[which], left, right, f"{100 * entry['difference']:+.2f}{error}")
    console.print(table)
    table = _table("LUTs a lane of all units")
    _columns(table, "family", *NAMES)
    for family, pair in body["total"].items():
        table.add_row(family, *(_number(value, ".0f") for value in pair))
    console.print(table)
    luts = f"LUTs a lane on {body['family']}" if body["family"] else "LUTs"
    table = _table(f"sites: R² of the integer map, {luts}, MHz")
    _columns(table, "site", *(f"{what} {name}" for what in ("R²", "LUT", "MHz") for name in NAMES))
    for site, entry in body["sites"].items():
        pairs = (("r2_fixed", ".4f"), ("lut", ".0f"), ("mhz", ".0f"))
        table.add_row(site, *(_number(value, form) for key, form in pairs for value in entry[key]))
    console.print(table)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def _columns(table: Table, first: str, *rest: str) -> None:
    table.add_column(first, no_wrap=True)
    for heading in rest:
        table.add_column(heading, justify="right", overflow="fold")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
