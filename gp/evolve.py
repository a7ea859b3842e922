"""The stage ``evolve``: a scalar function for every site, and its integer program.

Tasks are sites x seeds. Each finished one is kept in ``evolve/<site>.<seed>.json`` beside a digest of
all that decided it, so a run that was killed goes on where it stopped and ends with the same files.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gp.baselines import fit_homogeneous, score_form
from gp.fitness import bin_pairs
from gp.formats import Formats, checked_format, site_formats
from gp.front import Archive, Point, choose
from gp.pairs import SitePairs, check_weighted, read_sites
from gp.parallel import run_all
from gp.pictures import draw_site
from gp.task import Task, form_json, read_split, run_task
from sw.config import EvolveConfig, from_dict
from sw.files import make_folder, read_json, write_json, write_text
from sw.ir.errors import InputError
from sw.ir.expr import X, const, node
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.run_dir import RunDir
from sw.stage import Stage


def evolve_run(run: RunDir) -> None:
    """Evolve every captured site of a run."""
    captured = read_json(run.capture_stats)["sites"]
    sites = read_sites(run.captures, weighted=run.config.evolve.weights != "none")
    for site in sites:
        if site.site not in captured:
            raise InputError(f"'{run.capture_stats}' must describe site '{site.site}' of '{run.captures}'")
    formats = dict[str, Formats]()
    for site in sites:
        covering = FixedFormat.parse(captured[site.site]["input"])
        formats[site.site] = site_formats(run.captures, site, run.config, covering)
    _evolve(run, run.captures, sites, formats)


def evolve_pairs(
    pairs: Path,
    out: Path,
    *,
    in_width: int | None = None,
    out_width: int | None = None,
    input: str | None = None,
    output: str | None = None,
    seed: int = 0,
    force: bool = False,
    **settings: Any,
) -> RunDir:
    """Evolve functions from anybody's pairs; needs no model and no torch.

    Writes ``functions.json`` and ``programs/<site>.json`` into ``out``, and what lets a killed call go on.

    Args:
        out: Made if it is not there.
        seed: Of the split and of every search.
        pairs: An npz with float vectors ``<site>_x`` and ``<site>_y``.
        in_width: Input bits, by default those of ``UnitConfig``; the binary point leaves one bit of room
            above each site's largest |x|, unless the values near 0 would then be too coarse.
        out_width: Output bits, likewise; the scale fills them, and where no scale folds
            (``affine="none"``) they round each site's y with the least error.
        input: Input format of every site, such as ``s16.11``; wins over ``in_width``.
        output: Output format, such as ``s8.5``; wins over ``out_width``.
        force: Search again what a call before left.
        settings: Keys of ``sw.config.EvolveConfig``, such as ``generations`` or ``jobs``.

    Raises:
        InputError: Pairs, formats or folder cannot be used, or a script calls this while it is imported.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # spawned, and importing the script
        raise InputError(
            "evolve_pairs must stand below 'if __name__ == \"__main__\":' in a script, which workers import"
        )
    given = {"input": input, "output": output}
    fixed = [None if text is None else checked_format(name, text) for name, text in given.items()]
    widths = [f.width if f else width for f, width in zip(fixed, (in_width, out_width), strict=True)]
    unit = {name: w for name, w in zip(("in_width", "out_width"), widths, strict=True) if w is not None}
    config = from_dict(
        {"name": "pairs", "seed": seed, "model": {"name": "none"}, "unit": unit, "evolve": settings}
    )
    sites = read_sites(pairs, weighted=config.evolve.weights != "none")
    if config.evolve.weights == "sensitivity":
        check_weighted(pairs, sites)
    run = RunDir(make_folder(out), config)
    formats = {s.site: site_formats(pairs, s, config, None, *fixed) for s in sites}
    with run.locked():
        if force:
            _forget(run)
        _evolve(run, pairs, sites, formats)
    return run


def _evolve(
    run: RunDir,
    pairs: Path,
    sites: Sequence[SitePairs],
    formats: Mapping[str, Formats],
) -> None:
    settings, unit = run.config.evolve, run.config.unit
    tasks = [
        Task(
            site=site.site,
            index=index,
            run_seed=run.config.seed,
            pairs=str(pairs),
            pairs_sha256=site.sha256,
            input=str(formats[site.site][0]),
            output=str(formats[site.site][1]),
            kind=unit.realize,
            max_ulp=int(unit.faithful),
            settings=settings,
        )
        for site in sites
        for index in range(settings.seeds)
    ]
    results = _results(run, tasks)
    shared = _shared_baselines([task for task in tasks if task.index == 0])
    entries: dict[str, Any] = {}
    for site in sites:
        own = [(t, results[t]) for t in tasks if t.site == site.site]
        entries[site.site] = _decide(run, own, shared[site.site])
    write_json(run.evolved, {"sites": entries})
    for name, entry in entries.items():
        draw_site(run, pairs, name, entry, _picture(run, name))


def _picture(run: RunDir, site: str) -> Path:
    """Where the picture of a site goes: its pairs and function, and its front."""
    return run.root / "evolve" / "figures" / f"{site}.png"


def _shared_baselines(tasks: Sequence[Task]) -> dict[str, dict[str, Any]]:
    """For every site's task what one function for all sites reaches there: tanh(a x) with the best single a.

    ``homogeneous`` has a scale and an offset of its own at each site, ``homogeneous_dyt`` has neither (the
    paper's baseline).
    """
    targets = [bin_pairs(s.x, s.y, s.w, growth_penalty=0.0) for s in map(read_split, tasks)]
    slopes = {
        "homogeneous": fit_homogeneous(targets),
        "homogeneous_dyt": fit_homogeneous(targets, is_scaled=False),
    }
    found: dict[str, dict[str, Any]] = {}
    for task in tasks:
        split = read_split(task)
        found[task.site] = {}
        for name, slope in slopes.items():
            tanh = node("tanh", node("mul", const(slope), X))
            found[task.site][name] = form_json(score_form(split, tanh, is_scaled=name == "homogeneous"))
    return found


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
        scheduler=run.config.evolve.scheduler,
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
        body = read_json(path)
    except InputError:
        return None
    return body if isinstance(body, dict) and body.get("digest") == task.digest() else None


def _decide(
    run: RunDir, results: Sequence[tuple[Task, dict[str, Any]]], shared: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """A site's entry of ``functions.json``: the seeds' fronts merged, one point chosen and realised."""
    first, reference = results[0]
    settings = run.config.evolve
    archive: Archive[dict[str, Any]] = Archive()
    for _, result in results:
        for entry in result["front"]:
            archive.add(entry["price"], 1.0 - entry["train_r2"], entry)
    front = archive.items
    baselines = reference["baselines"] | shared
    ceiling = max(reference["ceiling"], *(b["r2"] for b in baselines.values()))
    shares = [share(e["r2_fixed"], ceiling) for e in front]
    chosen = front[_choice(first.site, archive.points, shares, settings)]
    realized = first.pricer().realize(parse(chosen["expression"]))
    write_text(run.evolved_program(first.site), realized.program.to_json())
    return {
        "expression": chosen["expression"],
        "scale": chosen["scale"],
        "offset": chosen["offset"],
        "input": first.input,
        "output": first.output,
        "r2": chosen["r2"],
        "r2_fixed": chosen["r2_fixed"],
        "ceiling": ceiling,
        "ratio": share(chosen["r2_fixed"], ceiling),
        "price_lut6": chosen["price_lut6"],
        "realization": chosen["realization"],
        "max_ulp": chosen["max_ulp"],
        "exceptions": chosen["exceptions"],
        "baselines": {name: b | {"ratio": share(b["r2"], ceiling)} for name, b in baselines.items()},
        "seed": chosen["seed"],
        "stopped_by": _stopped_by([result["stopped_by"] for _, result in results]),
        "front": [e | {"ratio": ratio} for e, ratio in zip(front, shares, strict=True)],
    }


def share(score: float, ceiling: float) -> float:
    """R^2 as a share of the ceiling; 0 where nothing of y can be explained."""
    return score / ceiling if ceiling > 0 else 0.0


def _choice(site: str, points: Sequence[Point], shares: Sequence[float], settings: EvolveConfig) -> int:
    """The point of the front that the settings' rule takes, of which each has its share of the ceiling."""
    try:
        index = choose(
            points, settings.choose, budget=settings.price_budget, shares=shares, ratio=settings.ratio
        )
    except InputError as error:
        raise InputError(f"site '{site}': {error}") from error
    if settings.choose == "ratio" and shares[index] < settings.ratio:
        print(f"{site}: no function has {settings.ratio:g} of the ceiling; the best has {shares[index]:.4f}")
    return index


def _stopped_by(reasons: Sequence[str]) -> str:
    """Why the searches of a site ended; the reason that says most about the result where they differ."""
    return next(reason for reason in ("budget", "generations", "stalled", "ratio") if reason in reasons)


def _forget(run: RunDir) -> None:
    """Remove what finished tasks left, so that they are done again."""
    for path in (run.root / "evolve").glob("*.json"):
        path.unlink()


def _outputs(run: RunDir) -> list[Path]:
    sites = read_json(run.capture_stats)["sites"] if run.capture_stats.exists() else {}
    return [run.evolved, *map(run.evolved_program, sites), *map(partial(_picture, run), sites)]


STAGE = Stage(
    name="evolve",
    help="search a scalar function for every norm site",
    sections=("evolve", *(f"unit.{key}" for key in ("in_width", "out_width", "realize", "faithful"))),
    inputs=lambda run: [run.captures, run.capture_stats],
    outputs=_outputs,
    body=evolve_run,
    forget=_forget,
)

if __name__ == "__main__":
    from gp.command import main

    raise SystemExit(main())
