"""The command line: ``normforge``, one sub-command a stage, and those that need no run."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from sw.arguments import ArgumentParser, add_debug, add_run_arguments, guarded
from sw.stages import STAGES

_FORMULA = re.compile(r"-[\d.(]|-x\b|-[a-z]+\(")
"""An argument that starts like a negative formula, not like an option."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    0: done; 1: a verification failed, or ``doctor`` found something missing; 2: bad input, said in one
    line; 3: done, but a clock that was asked for is missed; 130: interrupted; 141: the reader of the
    output went away. Arguments that argparse refuses end the process, with status 2 and one line, too.
    """
    words = sys.argv[1:] if argv is None else argv
    # argparse takes a word with a space in it for an argument, whatever it starts with.
    args = _parser(words).parse_args([f" {word}" if _FORMULA.match(word) else word for word in words])
    return guarded(lambda: int(args.action(args)), debug=args.debug)


HELP = {
    "run": "all stages of CONFIG, one after the other; what is up to date is skipped",
    "train": "load the pre-trained model, or train the embedded default",
    "capture": "record (x, y) pairs of every norm on calibration images",
    "evolve": "search a scalar function for every norm site",
    "align": "swap LayerNorm for the evolved functions and re-align by distillation",
    "quantize": "int8 weights and activations, and the integer map at every norm site",
    "export": "ONNX, JSON and safetensors of the integer model, checked with onnxruntime",
    "hdl": "Verilog, table and description of every site's unit",
    "verify": "every unit in Verilator: all input codes, stalls, latency, real activations",
    "synth": "LUTs and flip-flops on three FPGA families, clock on ECP5",
    "rivals": "LayerNorm, RMSNorm, DyT, Derf and a bare requantizer in place of the dearest unit",
    "report": "accuracy, functions and hardware side by side",
    "compile": "a hardware unit from a formula",
    "compare": "two finished runs next to each other",
    "norm": "a LayerNorm or RMSNorm unit, to compare units of functions with",
    "doctor": "what is installed, what is missing, and how to get it",
}
"""Every sub-command in one line."""


def _later(name: str) -> Callable[[argparse.Namespace], int]:
    """A function of ``sw.actions``, which is imported when it is called."""
    return lambda args: int(getattr(importlib.import_module("sw.actions"), name)(args))


def _parser(words: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """With the arguments of all sub-commands, or of the one that words begin with, so that it starts soon."""
    parser = ArgumentParser(
        prog="normforge",
        description="From a pre-trained Vision Transformer to verified Verilog without LayerNorm.",
    )
    parser.add_argument("--version", action="version", version=f"normforge {metadata.version('normforge')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, help in HELP.items():
        command = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
        if words is None or name in words[:1]:
            _add_arguments(name, command)
    return parser


def _add_arguments(name: str, command: argparse.ArgumentParser) -> None:
    match name:
        case "run":
            _add_run(command)
        case "compile":
            import hw.command

            hw.command.add_arguments(command)
            command.set_defaults(action=hw.command.compile_unit)
        case "norm":
            import hw.norm_command

            hw.norm_command.add_arguments(command)
            command.set_defaults(action=hw.norm_command.emit)
        case "compare":
            command.add_argument("runs", nargs=2, metavar="RUN", type=Path, help="folder of a finished run")
            command.add_argument("-o", dest="page", metavar="FILE.html", type=Path, help="write a page, too")
            add_debug(command)
            command.set_defaults(action=_later("compare"))
        case "doctor":
            add_debug(command)
            command.set_defaults(action=_later("doctor"))
        case _:
            _add_stage(name, command)


def _add_stage(name: str, command: argparse.ArgumentParser) -> None:
    if name == "evolve":
        import gp.command

        gp.command.add_arguments(command)
        command.set_defaults(action=lambda args: gp.command.evolve(args, _later("one_stage")))
    else:
        add_run_arguments(command, config_optional=name == "verify")
        command.set_defaults(action=_later(name if name in ("hdl", "verify", "synth") else "one_stage"))
    if name == "synth":
        command.description = f"{command.description} CONFIG may also be the JSON of a unit or of a manifest."
    if name == "hdl":
        import hw.vendor

        hw.vendor.add_arguments(command)
    if name == "verify":
        _add_verify(command)
    command.add_argument(
        "--missing",
        action="store_true",
        help="first run the stages that it builds on, where they are missing or out of date",
    )


def _add_run(command: argparse.ArgumentParser) -> None:
    add_run_arguments(command)
    command.add_argument("--until", choices=list(STAGES), default="report", help="last stage to run")
    command.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="repeat the accuracy stages with N seeds"
    )
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="a few steps of every stage with random weights on noise, and the hours that the run would take",
    )
    command.add_argument(
        "--images",
        nargs=2,
        type=int,
        metavar=("TRAIN", "TEST"),
        help="images of the whole run for --dry-run (default: ImageNet's 1281167 and 50000)",
    )
    command.set_defaults(action=_later("run"))


def _add_verify(command: argparse.ArgumentParser) -> None:
    also = "CONFIG may also be the JSON of a unit, of a norm or of a manifest."
    command.description = f"{command.description} {also}"
    command.add_argument("--waves", action="store_true", help="record a waveform of each unit")
    command.add_argument(
        "--certificate", metavar="FILE", nargs="+", help="check certificates from scratch, no CONFIG"
    )
    command.add_argument("--rows", type=int, metavar="N", help="random rows for a norm (default: 1000)")
    command.add_argument(
        "--tokens", metavar="FILE.npy", help="rows of a norm's input, real ones: codes or values"
    )


if __name__ == "__main__":
    sys.exit(main())
