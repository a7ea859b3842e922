"""The stage ``evolve``: a scalar function for every site, and its integer program.

Tasks are sites x seeds. Each finished one is kept in ``evolve/<site>.<seed>.json`` beside a digest of
all that decided it, so a run that was killed goes on where it stopped and ends with the same files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gp.cost import Pricer
from gp.front import Archive, Point, choose, significant
from gp.pairs import SitePairs, read_sites
from gp.parallel import run_all
from gp.task import Task, run_task
from sw.config import EvolveConfig, RunConfig, UnitConfig, from_dict
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.run_dir import RunDir, make_folder, read_json, write_json, write_text
from sw.stage import Stage

INTEGER_BITS = 2
"""Bits between sign and binary point of an output format: s8.5 holds +-3.97, and y is about +-3."""
MIN_DIFFERENCE = 5e-4
"""Of functions whose R^2 differs by less, the dearer ones do not count when a knee is looked for."""
TOLERANCE = 5e-3
"""R^2 that is given up for LUTs: the cheapest function so close to the knee is taken instead of it."""
MIN_WIDTH, MAX_WIDTH = 2, 16
"""Widest formats whose map is enumerated again and again."""


def evolve_run(run: RunDir) -> None:
    """Evolve every captured site of a run."""
    captured = read_json(run.capture_stats)["sites"]
    sites = read_sites(run.captures)
    for site in sites:
        if site.site not in captured:
            raise InputError(f"'{run.capture_stats}' must describe site '{site.site}' of '{run.captures}'")
    inputs = {s.site: FixedFormat.parse(captured[s.site]["input"]) for s in sites}
    _evolve(run, run.captures, sites, inputs, output_format(run.config.unit))


def evolve_pairs(
    pairs: Path,
    out: Path,
    *,
    in_width: int = 16,
    out_width: int = 8,
    input: str | None = None,
    output: str | None = None,
    generations: int | None = None,
    budget_s: float = 0.0,
    seed: int = 0,
    jobs: int = 0,
) -> RunDir:
    """Evolve functions from anybody's pairs; needs no model and no torch.

    Writes ``functions.json`` and ``programs/<site>.json`` into ``out``, and what lets a killed call go on.

    Args:
        out: Made if it is not there.
        seed: Of the split and of every search.
        pairs: An npz with float vectors ``<site>_x`` and ``<site>_y``.
        in_width: Input bits; the binary point leaves one bit of room above each site's largest |x|.
        out_width: Output bits.
        input: Input format of every site, such as ``s16.11``; wins over ``in_width``.
        output: Output format, such as ``s8.5``; wins over ``out_width``.
        generations: Per site and seed; the default is the configuration's.
        budget_s: Wall-clock cap a site in seconds, checked between generations; 0: none.
        jobs: Worker processes; 0: one a core.

    Raises:
        InputError: Pairs, formats or folder cannot be used.
    """
    fixed_input = None if input is None else _checked_format("input", input)
    fixed_output = None if output is None else _checked_format("output", output)
    evolve: dict[str, Any] = {"budget_s": float(budget_s), "jobs": jobs}
    if generations is not None:
        evolve["generations"] = generations
    unit = {
        "in_width": fixed_input.width if fixed_input else in_width,
        "out_width": fixed_output.width if fixed_output else out_width,
    }
    config = from_dict(
        {"name": "pairs", "seed": seed, "model": {"name": "none"}, "unit": unit, "evolve": evolve}
    )
    sites = read_sites(pairs)
    run = RunDir(make_folder(out), config)
    inputs = {s.site: fixed_input or _covering(s, config) for s in sites}
    _evolve(run, pairs, sites, inputs, fixed_output or output_format(config.unit))
    return run


def output_format(unit: UnitConfig) -> FixedFormat:
    """The output format of a unit's width; f is scaled to fill it, so its binary point is a convention."""
    return FixedFormat(unit.out_width, unit.out_width - 1 - INTEGER_BITS)


def _covering(site: SitePairs, config: RunConfig) -> FixedFormat:
    return FixedFormat.covering(site.absmax * 2.0**config.capture.headroom_bits, config.unit.in_width)


def _checked_format(name: str, text: str) -> FixedFormat:
    fixed = FixedFormat.parse(text)
    if not MIN_WIDTH <= fixed.width <= MAX_WIDTH:
        raise InputError(
            f"{name} format must have {MIN_WIDTH}..{MAX_WIDTH} bits, not {fixed.width} ('{fixed}')"
        )
    return fixed


def _evolve(
    run: RunDir,
    pairs: Path,
    sites: Sequence[SitePairs],
    inputs: Mapping[str, FixedFormat],
    output: FixedFormat,
) -> None:
    settings, unit = run.config.evolve, run.config.unit
    tasks = [
        Task(
            site=site.site,
            index=index,
            run_seed=run.config.seed,
            pairs=str(pairs),
            pairs_sha256=site.sha256,
            input=str(inputs[site.site]),
            output=str(output),
            kind=unit.realize,
            max_ulp=int(unit.faithful),
            settings=settings,
        )
        for site in sites
        for index in range(settings.seeds)
    ]
    results = _results(run, tasks)
    entries: dict[str, Any] = {}
    for site in sites:
        own = [(t, results[t]) for t in tasks if t.site == site.site]
        entries[site.site] = _decide(run, own)
    write_json(run.functions, {"sites": entries})


def _results(run: RunDir, tasks: Sequence[Task]) -> dict[Task, dict[str, Any]]:
    """The result of every task, from its file where that is still valid."""
    results: dict[Task, dict[str, Any]] = {}
    for task in tasks:
        path = _task_file(run, task)
        kept = _read_if_valid(path, task)
        if kept is not None:
            results[task] = kept

    def keep(task: Task, result: dict[str, Any]) -> None:
        write_json(_task_file(run, task), result)
        results[task] = result

    run_all(
        run_task,
        [t for t in tasks if t not in results],
        keep,
        workers=run.config.evolve.jobs,
        label="evolve",
        name_of=lambda t: f"{t.site} seed {t.index}",
    )
    return results


def _task_file(run: RunDir, task: Task) -> Path:
    return run.root / "evolve" / f"{task.site}.{task.index}.json"


def _read_if_valid(path: Path, task: Task) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        body: dict[str, Any] = read_json(path)
    except InputError:
        return None
    return body if body.get("digest") == task.digest() else None


def _decide(run: RunDir, results: Sequence[tuple[Task, dict[str, Any]]]) -> dict[str, Any]:
    """A site's entry of ``functions.json``: the seeds' fronts merged, one point chosen and realised."""
    first, reference = results[0]
    archive: Archive[dict[str, Any]] = Archive()
    for _, result in results:
        for entry in result["front"]:
            archive.add(entry["price_lut6"], 1.0 - entry["train_r2"], entry)
    front = archive.items
    chosen = front[_choice(archive.points, run.config.evolve.choose)]
    input, output = FixedFormat.parse(first.input), FixedFormat.parse(first.output)
    realized = Pricer(input, output, first.kind, first.max_ulp).realize(parse(chosen["expression"]))
    write_text(run.program(first.site), realized.program.to_json())
    reached = [max(e["r2"], e["r2_fixed"]) for e in front]
    return {
        "expression": chosen["expression"],
        "scale": chosen["scale"],
        "offset": chosen["offset"],
        "input": str(input),
        "output": str(output),
        "r2": chosen["r2"],
        "r2_fixed": chosen["r2_fixed"],
        "ceiling": max([reference["ceiling"], *(b["r2"] for b in reference["baselines"].values()), *reached]),
        "price_lut6": chosen["price_lut6"],
        "realization": chosen["realization"],
        "max_ulp": chosen["max_ulp"],
        "baselines": reference["baselines"],
        "seed": chosen["seed"],
        "stopped_by": "budget" if any(r["stopped_by"] == "budget" for _, r in results) else "generations",
        "front": front,
    }


def _choice(points: Sequence[Point], rule: str) -> int:
    """The rule's choice; for ``knee`` the cheapest point that is within ``TOLERANCE`` of the knee."""
    different = significant(points, MIN_DIFFERENCE) if rule == "knee" else range(len(points))
    chosen = different[choose([points[i] for i in different], rule)]
    if rule != "knee":
        return chosen
    good_enough = [i for i, (_, error) in enumerate(points) if error <= points[chosen][1] + TOLERANCE]
    return min(good_enough, key=lambda i: points[i])


def _outputs(run: RunDir) -> list[Path]:
    sites = read_json(run.capture_stats)["sites"] if run.capture_stats.exists() else {}
    return [run.functions, *(run.program(site) for site in sites)]


EVOLVE_KEYS = sorted({field.name for field in dataclasses.fields(EvolveConfig)} - {"jobs"})
"""What changes a result: all but how many work on it."""

STAGE = Stage(
    name="evolve",
    help="search a scalar function for every norm site",
    sections=(
        *(f"evolve.{key}" for key in EVOLVE_KEYS),
        *(f"unit.{key}" for key in ("in_width", "out_width", "realize", "faithful")),
    ),
    inputs=lambda run: [run.captures, run.capture_stats],
    outputs=_outputs,
    body=evolve_run,
)

if __name__ == "__main__":
    from gp.command import main

    raise SystemExit(main())
