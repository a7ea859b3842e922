"""One run is one directory; this file knows the name of everything in it and how files get there whole."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from sw.arrays import BROKEN_ARRAY, content_of
from sw.config import RunConfig
from sw.ir.errors import InputError

DISK_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What writing to an open file may end with; such an error names no file."""
SCRATCH = ".part"
"""End of the name of a file that is being written; it begins with a dot."""
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
                for scratch in self.root.rglob(f".*{SCRATCH}"):
                    scratch.unlink(missing_ok=True)
            try:
                yield
            finally:
                _LOCKED.discard(self.root)

    def keep_config(self) -> None:
        """Write the configuration beside what was made with it, as ``config.toml``."""
        write_text(self.root / "config.toml", tomli_w.dumps(self.config.to_dict()))

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
        """The chosen function of every site and its whole front."""
        return self.root / "functions.json"

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
        """Site -> its entry of ``functions.json``.

        Raises:
            InputError: The file is missing or holds no sites.
        """
        body = read_json(self.functions)
        if not isinstance(body, dict) or not isinstance(body.get("sites"), dict):
            raise InputError(f"'{self.functions}' must hold an object 'sites'")
        sites: dict[str, dict[str, Any]] = body["sites"]
        return sites


def make_folder(path: Path) -> Path:
    """Create a folder and check that files can be written in it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"folder '{path}' cannot be written: {error.strerror}") from error
    return path


def unit_name(site: str) -> str:
    """The hardware name of a site: dots become underscores."""
    return site.replace(".", "_")


def process_rank() -> tuple[int, int]:
    """(which of the processes that work on one stage this is, how many there are), as torchrun says.

    Raises:
        InputError: The environment's ``RANK`` or ``WORLD_SIZE`` is no number.
    """
    number = _environment_number("WORLD_SIZE", 1)
    return (_environment_number("RANK", 0) if number > 1 else 0), number


def _environment_number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal():
        raise InputError(f"environment variable '{name}' must be a number, not {text!r}")
    return int(text)


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it if the block ends well, and else disappears.

    Of several processes that work on one stage only the first leaves files.

    Raises:
        InputError: No file of that name can be written.
    """
    if os.path.isdir(path):  # unlike Path.is_dir it takes a name of any length
        raise InputError(f"'{path}' must be a file that can be replaced, not a folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}{SCRATCH}")
    try:
        yield scratch
        if process_rank()[0] == 0:
            os.replace(scratch, path)
    except OSError as error:
        if error.filename == str(scratch) or error.errno in DISK_TROUBLE:
            raise InputError(f"'{path}' cannot be written: {error.strerror}") from error
        raise
    finally:
        with contextlib.suppress(OSError):  # what went wrong before says more
            scratch.unlink(missing_ok=True)


def keep_only(folder: Path, wanted: Iterable[Path]) -> None:
    """Remove a folder's own files that are not wanted: what an earlier run with other sites left."""
    keep = set(wanted)
    for path in folder.glob("*"):
        if path.is_file() and path not in keep:
            path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def write_json(path: Path, body: Any) -> None:
    """Write JSON whole or not at all; NaN and infinity are refused."""
    write_text(path, json.dumps(body, indent=2, allow_nan=False) + "\n")


def write_npz(path: Path, arrays: dict[str, Any]) -> None:
    """Write named arrays whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    with atomic(path) as scratch:
        scratch.write_bytes(buffer.getvalue())


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        InputError: The file is missing or broken.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"'{path}' is not JSON: {error}") from error


def read_npy(path: Path) -> np.ndarray:
    """Read one array of numbers.

    Raises:
        InputError: The file is missing, or holds something else.
    """
    try:
        with path.open("rb") as file:  # numpy leaves it open where it finds a torn npz
            array = np.load(file, allow_pickle=False)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror or error}") from error
    except BROKEN_ARRAY as error:
        raise InputError(f"'{path}' must be an npy file of numbers, not {content_of(path)}") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"'{path}' must be an npy file of one array, not an npz")
    return array


def file_digest(path: Path) -> str:
    """sha256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
