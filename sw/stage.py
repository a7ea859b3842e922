"""A stage of a run: when it may be skipped, and how it starts from a shell."""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sw.arguments import ArgumentParser, add_run_arguments, guarded
from sw.config import RunConfig, digest, load
from sw.files import file_digest, process_rank, read_json, write_json
from sw.ir.errors import InputError, VerificationError
from sw.run_dir import RunDir

Files = Callable[[RunDir], Sequence[Path]]
SOURCES = (".py", ".html", ".css")
"""Ends of the names of files that are code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One step from files of a run directory to files of it.

    A stage is skipped when the configuration that it reads, the content of its input files and its code
    are what they were when its outputs were made, and the outputs are as it left them.
    """

    name: str
    """The sub-command that does it."""
    help: str
    """What it does, one line."""
    sections: tuple[str, ...]
    """Configuration sections, or single keys such as ``unit.lanes``, that change its result."""
    inputs: Files
    """Files that it reads."""
    outputs: Files
    """Files that it leaves; they may depend on the inputs."""
    body: Callable[[RunDir], None]
    """The work; writes every output atomically."""
    code: tuple[str, ...] = ()
    """Packages beside its own and ``sw.ir`` whose code its result depends on."""
    parallel: bool = False
    """Whether several processes of torchrun may do it together."""
    forget: Callable[[RunDir], None] | None = None
    """Removes finished parts of the work that it would go on from; done where it is forced."""

    def missing(self, run: RunDir) -> list[Path]:
        """Input files that are not there."""
        return [path for path in self.inputs(run) if not path.exists()]

    def is_stale(self, run: RunDir) -> bool:
        """Whether configuration, inputs or code changed since its outputs were made, or one is missing.

        Neither an output that somebody changed by hand counts, nor that what was checked did not hold.
        """
        made = read_stamp(run, self.name)
        if self.missing(run) or not made:
            return True
        outputs = self.outputs(run)
        gone = any(not path.exists() for path in outputs)
        # The configuration may say where a stage leaves its files.
        moved = {file_name(path, run) for path in outputs} != set(made.get("outputs", ()))
        return gone or moved or any(made.get(key) != value for key, value in self._fingerprint(run).items())

    def run(self, run: RunDir, *, force: bool = False) -> bool:
        """Do the work unless its result is there already, or was that a check fails; say whether it was done.

        Raises:
            InputError: An input file is missing; the message says how to get it.
            VerificationError: What the work checks does not hold.
        """
        for path in self.missing(run):
            first = f"; 'normforge {self.name} CONFIG --missing' first runs what makes it"
            hint = first if path.is_relative_to(run.root) else ""
            raise InputError(f"stage '{self.name}' needs '{path}', which is not there{hint}")
        wanted = self._fingerprint(run)
        if not force and read_stamp(run, self.name) == wanted | self._made(run):
            return False
        if process_rank()[0] == 0:
            run.stamp(self.name).unlink(missing_ok=True)
        if force and self.forget is not None:
            self.forget(run)
        failed: VerificationError | None = None
        try:
            self.body(run)
        except VerificationError as error:  # its result is that something does not hold
            failed = error
        run.keep_config()
        failure = {} if failed is None else {"failed": str(failed)}
        write_json(run.stamp(self.name), wanted | self._made(run) | failure)
        if failed is not None:
            raise failed
        return True

    def main(self, argv: Sequence[str] | None = None) -> int:
        """The stage as a script: ``python -m <module> CONFIG``; returns the exit status."""
        parser = ArgumentParser(description=self.help)
        add_run_arguments(parser)
        args = parser.parse_args(argv)
        return guarded(lambda: report_run(self, open_run(args), force=args.force), debug=args.debug)

    def _fingerprint(self, run: RunDir) -> dict[str, object]:
        top, *rest = self.body.__module__.split(".")
        package = f"{top}.{rest[0]}" if top == "sw" else top
        return {
            "code": code_digest(package, "sw.ir", *self.code),
            "sections": list(self.sections),
            "config": digest(run.config, "seed", *self.sections),
            "settings": digest(run.config, "seed", *self.sections, places=False),
            "inputs": {file_name(p, run): file_digest(p) for p in self.inputs(run)},
        }

    def _made(self, run: RunDir) -> dict[str, object]:
        made = {file_name(p, run): file_digest(p) if p.exists() else "missing" for p in self.outputs(run)}
        return {"outputs": made}


@functools.cache
def code_digest(*packages: str) -> str:
    """sha256 of the source of importable packages: what they compute may change when it does."""
    state = hashlib.sha256()
    for package in packages:
        found = importlib.util.find_spec(package)
        roots = [] if found is None else list(found.submodule_search_locations or ())
        for root in map(Path, roots):
            for path in sorted(p for p in root.rglob("*") if p.suffix in SOURCES):
                state.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return state.hexdigest()


def read_stamp(run: RunDir, stage: str) -> dict[str, Any]:
    """What a stage wrote about its last work; empty where it has not ended.

    Returns:
        ``{"code", "sections", "config", "settings", "inputs", "outputs"}``: digests of its source, and of the
        seed and the configuration's ``sections``, with and without where files lie; the files' digests by
        ``file_name``. ``"failed"`` says what did not hold.
    """
    path = run.stamp(stage)
    try:
        body = read_json(path)
    except InputError:
        if path.exists():  # not asked before: another process of the stage may remove it at any time
            raise
        return {}
    return body if isinstance(body, dict) else {}


def file_name(path: Path, run: RunDir) -> str:
    """A file's name in a stamp; what lies outside the run directory keeps its whole path."""
    return str(path.relative_to(run.root) if path.is_relative_to(run.root) else path)


def read_config(args: argparse.Namespace) -> RunConfig:
    """The configuration that parsed arguments ask for."""
    seed = () if args.seed is None else (f"seed={args.seed}",)
    return load(args.config, (*args.overrides, *seed))


def open_run(args: argparse.Namespace) -> RunDir:
    """The run directory that parsed arguments ask for."""
    return RunDir.create(read_config(args))


def report_run(stage: Stage, run: RunDir, *, force: bool = False) -> int:
    """Run a stage and say what became of it; of several processes only the first speaks.

    Raises:
        InputError: Several processes were started for a stage that only one can do, or see ``Stage.run``.
    """
    rank, number = process_rank()
    if number > 1 and not stage.parallel:
        raise InputError(
            f"stage '{stage.name}' must run in one process, not {number}; start it without torchrun"
        )
    with contextlib.ExitStack() as stack:
        stack.enter_context(run.locked())
        if rank:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        return _reported(stage, run, force)


def _reported(stage: Stage, run: RunDir, force: bool) -> int:
    print(f"[{stage.name}] {stage.help}", flush=True)
    if not stage.run(run, force=force):
        print(f"[{stage.name}] up to date", flush=True)
    return 0
