"""Which files of a run belong together, by the stamps that its stages leave.

No stage is imported for it, so nobody needs torch to make a report.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sw.files import file_digest, read_json
from sw.run_dir import RunDir
from sw.stages import LAST_ACCURACY_STAGE, STAGES

ACCURACY_STAGES = tuple(STAGES)[: list(STAGES).index(LAST_ACCURACY_STAGE) + 1]


def is_current(run: RunDir, stage: str, path: Path) -> bool:
    """Whether a stage left a file of a run, from inputs that still are what they were then."""
    stamp = _stamp(run, stage)
    made = stamp.get("outputs", {}).get(_name(run, path))
    return made is not None and made == _digest(path) and _inputs_are_as_stamped(run, stamp)


def outdated(run: RunDir) -> list[str]:
    """The stages whose input files in the run are others now than those that they worked on.

    Files outside (images, weights) need not be there any more.
    """
    stamps = {name: _stamp(run, name) for name in STAGES if name != "report"}
    return [name for name, stamp in stamps.items() if not _inputs_are_as_stamped(run, stamp, outside=False)]


def is_like(seed: RunDir, run: RunDir) -> bool:
    """Whether a further seed's accuracies may be averaged with a run's.

    They may where every stage that they depend on ended, each from what the others left, with the code and
    the outside files (images, weights) of the run.
    """
    for name in ACCURACY_STAGES:
        theirs, ours = _stamp(seed, name), _stamp(run, name)
        alike = theirs.get("code") == ours.get("code") and _outside(theirs) == _outside(ours)
        if not theirs or not alike or not _inputs_are_as_stamped(seed, theirs):
            return False
    return True


def _stamp(run: RunDir, stage: str) -> dict[str, Any]:
    """What a stage wrote about its last work; empty where it has not ended."""
    path = run.root / "stages" / f"{stage}.json"
    body = read_json(path) if path.exists() else {}
    return body if isinstance(body, dict) else {}


def _inputs_are_as_stamped(run: RunDir, stamp: dict[str, Any], *, outside: bool = True) -> bool:
    inputs = {name: digest for name, digest in stamp.get("inputs", {}).items() if outside or _is_inside(name)}
    return all(_digest(run.root / name) == digest for name, digest in inputs.items())


def _outside(stamp: dict[str, Any]) -> dict[str, str]:
    """Inputs that no stage made."""
    return {name: digest for name, digest in stamp.get("inputs", {}).items() if not _is_inside(name)}


def _is_inside(name: str) -> bool:
    return not Path(name).is_absolute()


def _name(run: RunDir, path: Path) -> str:
    return str(path.relative_to(run.root))


def _digest(path: Path) -> str:
    return file_digest(path) if path.is_file() else "missing"
