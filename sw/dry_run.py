"""``normforge run CONFIG --dry-run``: a few steps of every stage on noise, and what the run would take."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from gp.formats import output_format
from sw.config import RunConfig
from sw.config.checks import RANGES
from sw.files import read_json, write_json, write_text
from sw.ir.formats import FixedFormat
from sw.ir.parse import parse
from sw.ir.realize import realize
from sw.model.data import load_splits
from sw.model.evaluate import predict
from sw.model.export import JSON, load_graph
from sw.model.integer.interpret import IntegerModel
from sw.model.original import load_original
from sw.model.runtime import device, device_name, peak_memory_gib
from sw.model.step_time import STEPS_OF
from sw.run_dir import RunDir
from sw.stage import Stage
from sw.terminal import progress, table_console

if TYPE_CHECKING:
    from torch import nn

IMAGENET = (1_281_167, 50_000)
"""Training and test images, where nobody says how many there are."""
MOST_IMAGES, MOST_ON_CPU = 32, 8
"""Of a step; a CPU needs as long for each of few as of many."""
LEAST_CALIBRATION = int(RANGES["data.calibration_images"][0])
STEPS = 2
FEW = 2
"""Sites that go through the search and through hardware; the rest is projected from them."""
TESTS = 9
"""Times that a run looks at all test images."""
PLAIN = "clip(0.5*x, -3.96875, 3.96875)"
"""In place of evolved functions while models are trained: it costs a step what they do."""
NAMES = (
    "train",
    "capture",
    "align",
    "test",
    "quantize",
    "export",
    "evolve",
    "hdl",
    "verify",
    "synth",
    "rivals",
)

StageOf = Callable[[str], Stage]


@dataclass(frozen=True, slots=True)
class Took:
    """A stage: seconds here and of the whole run, and the largest memory so far in GiB."""

    stage: str
    seconds: float
    projected: float
    memory: float


def dry_run(config: RunConfig, stage: StageOf, images: tuple[int, int] = IMAGENET) -> list[Took]:
    """Run every stage of a configuration with random weights on generated images, and print what it took.

    All norm sites are captured, swapped (for a plain clip), trained around and quantized. Two of them are
    evolved, generated, simulated and synthesized.

    Args:
        config: Its model, formats and settings count; neither its images nor its weights are looked at.
        stage: The stage of a name.
        images: Training and test images of the whole run.

    Returns:
        A line for each of ``NAMES``; ``test`` is all looking at test images.
    """
    found: list[Took] = []
    with tempfile.TemporaryDirectory(prefix="normforge-") as folder, progress("dry run", len(NAMES)) as step:
        for name, seconds, projected in _measured(_Small.of(config, Path(folder)), config, stage, images):
            found.append(Took(name, seconds, projected, peak_memory_gib()))
            step(f"{name} {seconds:.0f} s")
    _show(config, found, images)
    return found


def _batch(config: RunConfig) -> int:
    """Images of a step here."""
    return min(MOST_ON_CPU if device().type == "cpu" else MOST_IMAGES, _on_device(config))


def _on_device(config: RunConfig) -> int:
    """Images that a step of the whole run has on a device at a time."""
    return -(-config.data.batch_size // config.compute.accumulate)


@dataclass(frozen=True, slots=True)
class _Small:
    """The configuration in little."""

    config: RunConfig

    @classmethod
    def of(cls, config: RunConfig, folder: Path) -> _Small:
        """Random weights, noise of the model's size, one seed of everything, two steps an epoch."""
        batch = _batch(config)
        change = dataclasses.replace
        small = change(
            config,
            name="small",
            runs_dir=str(folder),
            model=change(config.model, pretrained=False, checkpoint=""),
            data=change(
                config.data,
                dataset="noise",
                calibration_images=max(batch, LEAST_CALIBRATION),
                batch_size=batch,
                augment="",
                erase=0.0,
            ),
            capture=change(config.capture, images=batch, pairs=min(config.capture.pairs, 50_000)),
            evolve=change(config.evolve, seeds=1, jobs=1, scheduler="", budget_s=0.0),
            quantize=change(config.quantize, calibration_images=batch),
            compute=change(config.compute, accumulate=1, tensorboard=False),
            export=change(config.export, images=min(config.export.images, batch), accuracy=False),
            verify=change(config.verify, replay_images=1),
            synth=change(config.synth, pnr_seeds=min(config.synth.pnr_seeds, 1), jobs=1),
        )
        return cls(small)

    def with_(self, name: str, **sections: Mapping[str, object]) -> RunDir:
        """A run of its own with some keys changed."""
        changed = {
            s: dataclasses.replace(getattr(self.config, s), **dict(keys)) for s, keys in sections.items()
        }
        return RunDir.create(dataclasses.replace(self.config, name=name, **changed))


def _measured(
    small: _Small, config: RunConfig, stage: StageOf, images: tuple[int, int]
) -> Iterator[tuple[str, float, float]]:
    """(stage, seconds, seconds projected), in the order of ``NAMES``."""
    batch, calibrated = small.config.data.batch_size, small.config.data.calibration_images
    steps = images[0] / batch

    def trains(name: str, epochs: int) -> float:
        return STEPS_OF[name](trained) * steps * epochs if epochs else 0.0

    alone, trained = (
        small.with_("all", train={"epochs": n}, align={"epochs": n}, quantize={"epochs": n}) for n in (0, 1)
    )
    loaded, learned = (_seconds(stage("train"), run) for run in (alone, trained))
    yield "train", loaded + learned, loaded + trains("train", config.train.epochs)
    captured = _seconds(stage("capture"), alone)
    yield "capture", captured, captured * config.capture.images / batch
    _seconds(stage("capture"), trained)
    _plain_functions(trained)
    sites = _plain_functions(alone)
    for name, epochs, more in (
        ("align", config.align.epochs, config.data.calibration_images / calibrated),
        ("quantize", config.quantize.epochs, config.quantize.calibration_images / batch),
    ):
        fixed = _seconds(stage(name), alone)
        learned = _seconds(stage(name), trained) if epochs else 0.0
        yield name, fixed + learned, fixed * more + trains(name, epochs)
        if name == "align":
            tested = _test_seconds(alone)
            yield "test", tested, tested * TESTS * images[1] / calibrated
    exported = _seconds(stage("export"), alone)
    tested = _integer_test_seconds(alone) if config.export.accuracy else 0.0
    projected = exported * config.export.images / alone.config.export.images + tested * images[1] / calibrated
    yield "export", exported + tested, projected
    yield from _of_few_sites(small, config, stage, sites)


def _of_few_sites(
    small: _Small, config: RunConfig, stage: StageOf, sites: list[str]
) -> Iterator[tuple[str, float, float]]:
    kept = {"keep_layernorm": (*config.model.keep_layernorm, *sites[FEW:])}
    few = min(FEW, len(sites))
    untrained = {name: {"epochs": 0} for name in ("train", "align", "quantize")}
    begun, run = (small.with_("few", model=kept, evolve={"generations": n}, **untrained) for n in (0, STEPS))
    for name in ("train", "capture"):
        _seconds(stage(name), run)
    fixed = _seconds(stage("evolve"), begun)
    total = _seconds(stage("evolve"), run)
    one = (fixed + max(total - fixed, 0.0) / STEPS * config.evolve.generations) / few
    if config.evolve.budget_s:
        one = min(one, config.evolve.budget_s / config.evolve.seeds)
    tasks, workers = len(sites) * config.evolve.seeds, config.evolve.jobs or os.cpu_count() or 1
    yield "evolve", fixed + total, one * math.ceil(tasks / workers)
    for name in ("align", "quantize"):
        _seconds(stage(name), run)
    for name in ("hdl", "verify", "synth"):
        seconds = _seconds(stage(name), run)
        yield name, seconds, seconds * len(sites) / few
    seconds = _seconds(stage("rivals"), run)
    yield "rivals", seconds, seconds


def _seconds(stage: Stage, run: RunDir) -> float:
    """Do a stage in silence."""
    start = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        stage.run(run, force=True)
    return time.monotonic() - start


def _test_seconds(run: RunDir) -> float:
    """Of looking at a batch."""
    return _predicting_seconds(run, load_original(run))


def _integer_test_seconds(run: RunDir) -> float:
    """Of looking at a batch in integers alone; 0 where the model has no such form."""
    if read_json(run.export / JSON)["kind"] != "integer":
        return 0.0
    return _predicting_seconds(run, IntegerModel(load_graph(run)))


def _predicting_seconds(run: RunDir, model: nn.Module) -> float:
    images = load_splits(run.config.data, load_original(run)).calibration
    start = time.monotonic()
    with contextlib.redirect_stderr(io.StringIO()):
        predict(model, images)
    return time.monotonic() - start


def _plain_functions(run: RunDir) -> list[str]:
    """Leave what evolution would: the same clip for every captured site; their names."""
    output = output_format(run.config.unit)
    sites = {}
    for site, entry in read_json(run.capture_stats)["sites"].items():
        made = realize(parse(PLAIN), FixedFormat.parse(entry["input"]), output)
        write_text(run.evolved_program(site), made.program.to_json())
        formats = {"input": entry["input"], "output": str(output)}
        sites[site] = {"expression": PLAIN, "scale": 1.0, "offset": 0.0, "realization": made.kind} | formats
    write_json(run.evolved, {"sites": sites})
    return list(sites)


def _show(config: RunConfig, found: list[Took], images: tuple[int, int]) -> None:
    title = f"{config.name}: projected for {images[0]} training and {images[1]} test images on this machine"
    here, there = _batch(config), _on_device(config)
    larger = f"; the run has {there}" if there > here else ""
    caption = (
        f"On {device_name()}, memory at {here} images a step{larger}. Reading and augmenting images is not "
        "counted."
    )
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.caption, table.caption_justify = caption, "left"
    for heading in ("stage", "dry run, s", "whole run, h", "memory so far, GiB"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for took in found:
        row = (f"{took.seconds:.1f}", f"{took.projected / 3600:.2f}", f"{took.memory:.2f}")
        table.add_row(took.stage, *row)
    total = sum(took.projected for took in found) / 3600
    table.add_row("all", f"{sum(took.seconds for took in found):.1f}", f"{total:.2f}", "")
    table_console().print(table)
