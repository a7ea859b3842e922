"""One run is one directory; this file knows the name of everything in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from sw.config import RunConfig
from sw.files import make_folder, process_rank, read_json, remove_abandoned, write_text
from sw.ir.errors import InputError

_LOCKED: set[Path] = set()
"""Runs that this process has locked."""


@dataclass(frozen=True, slots=True)
class RunDir:
    """The files of one run, below ``root``."""

    root: Path
    config: RunConfig

    @classmethod
    def create(cls, config: RunConfig) -> RunDir:
        """The directory ``<runs_dir>/<name>`` of a configuration, made if it is not there.

        Raises:
            InputError: It cannot be written.
        """
        return cls(make_folder(Path(config.runs_dir) / config.name), config)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from working on this run; the lock ends with the process, however it ends.

        What a killed process had begun to write disappears.

        Raises:
            InputError: Another process works on it.
        """
        if process_rank()[0] or self.root in _LOCKED:
            yield
            return
        with (self.root / ".lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise InputError(
                    f"run '{self.root}' is being worked on by process {file.read().strip() or '?'}; "
                    "wait for it, or give this run another name"
                ) from error
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            _LOCKED.add(self.root)
            if process_rank()[1] == 1:
                remove_abandoned(self.root)
            try:
                yield
            finally:
                _LOCKED.discard(self.root)

    def keep_config(self) -> None:
        """Write the configuration beside what was made with it, as ``config.toml``."""
        write_text(self.root / "config.toml", tomli_w.dumps(self.config.to_dict()))

    def stamp(self, stage: str) -> Path:
        """What a stage wrote about its last work, there while its result is."""
        return self.root / "stages" / f"{stage}.json"

    @property
    def original(self) -> Path:
        """The pre-trained model with LayerNorm, a state dict."""
        return self.root / "model" / "original.safetensors"

    @property
    def captures(self) -> Path:
        """``<site>_x`` and ``<site>_y``, float32 vectors of equal length; ``<site>_w`` weighs pairs."""
        return self.root / "captures.npz"

    @property
    def capture_stats(self) -> Path:
        """Sample size, seed, fold plan and statistics of every captured site; norms that were kept."""
        return self.root / "captures.json"

    @property
    def functions(self) -> Path:
        """The function of every site as the hardware has it, and its whole front."""
        return self.root / "functions.json"

    @property
    def evolved(self) -> Path:
        """The functions as evolution chose them: ``functions``, unless re-alignment changes those."""
        if not self.config.align.inner_scale:
            return self.functions
        return self.root / "evolve" / "functions.json"

    @property
    def realigned(self) -> Path:
        """The model with scalar functions after re-alignment, a state dict."""
        return self.root / "realigned.safetensors"

    @property
    def quantized(self) -> Path:
        """The integer model, a state dict."""
        return self.root / "quantized.safetensors"

    @property
    def replay(self) -> Path:
        """``<site>_raw`` and ``<site>_out_raw``: codes of real activations, int64, one token a row."""
        return self.root / "replay.npz"

    def accuracy(self, stage: str) -> Path:
        """Test accuracy of the model as it was at some point of the run: ``original``, ``swapped``, ..."""
        return self.root / "accuracy" / f"{stage}.json"

    def predictions(self, stage: str) -> Path:
        """Test predictions behind an accuracy: ``labels``, ``predicted``, int64."""
        return self.root / "accuracy" / f"{stage}.npz"

    @property
    def site_costs(self) -> Path:
        """How near the swapped model is to the original, as it is and with one LayerNorm kept."""
        return self.root / "accuracy" / "sites.json"

    def program(self, site: str) -> Path:
        """The integer program of a site."""
        return self.root / "programs" / f"{site}.json"

    def evolved_program(self, site: str) -> Path:
        """The integer program of a site's evolved function: ``program``, unless re-alignment changes that."""
        if not self.config.align.inner_scale:
            return self.program(site)
        return self.root / "evolve" / "programs" / f"{site}.json"

    def programs(self) -> list[Path]:
        """The programs of all sites of ``functions.json``; none where that is not there."""
        return [self.program(site) for site in self.read_functions()] if self.functions.exists() else []

    def tensorboard(self, stage: str) -> Path | None:
        """Folder of what a stage's training writes for TensorBoard; None where none is wanted."""
        return self.root / "tensorboard" / stage if self.config.compute.tensorboard else None

    @property
    def hdl(self) -> Path:
        return self.root / "hdl"

    @property
    def operators(self) -> Path:
        """Every site's operator pipeline, beside the chosen realisation."""
        return self.hdl / "operator"

    @property
    def manifest(self) -> Path:
        return self.hdl / "manifest.json"

    @property
    def export(self) -> Path:
        """The model for other programs: ONNX, JSON and safetensors."""
        return self.root / "export"

    @property
    def sim(self) -> Path:
        return self.root / "sim"

    @property
    def synth(self) -> Path:
        return self.root / "synth"

    @property
    def rivals(self) -> Path:
        """What LayerNorm, RMSNorm, DyT, Derf and a bare requantizer cost where the dearest unit stands."""
        return self.synth / "rivals.json"

    @property
    def report(self) -> Path:
        return self.root / "report"

    @property
    def seeds(self) -> Path:
        """Runs of further seeds, one folder each; only their accuracies count."""
        return self.root / "seeds"

    def read_functions(self) -> dict[str, dict[str, Any]]:
        """Site -> its entry of ``functions``.

        Raises:
            InputError: The file is missing or holds no sites.
        """
        return _read_sites(self.functions)

    def read_evolved(self) -> dict[str, dict[str, Any]]:
        """Site -> its entry of ``evolved``, likewise."""
        return _read_sites(self.evolved)


def _read_sites(path: Path) -> dict[str, dict[str, Any]]:
    body = read_json(path)
    if not isinstance(body, dict) or not isinstance(body.get("sites"), dict):
        raise InputError(f"'{path}' must hold an object 'sites'")
    sites: dict[str, dict[str, Any]] = body["sites"]
    return sites


def unit_name(site: str) -> str:
    """The hardware name of a site: dots become underscores."""
    return site.replace(".", "_")
