"""``normforge norm`` and ``python -m hw.norm_command``: the arguments, and what they start."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sw.arguments import ArgumentParser, add_debug, guarded
from sw.arrays import opened_npz
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat, FloatArray

if TYPE_CHECKING:
    from sw.ir.affine import Affine
    from sw.ir.layernorm import LayerNorm

DESCRIPTION = "a LayerNorm or RMSNorm unit, to compare units of functions with"
EPILOG = "Formats: s16.11 is signed, 16 bits, 11 after the binary point."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``norm``."""
    parser.epilog = EPILOG
    parser.add_argument("--in", dest="input", required=True, metavar="FORMAT", help="such as s16.11")
    parser.add_argument("--out", dest="output", required=True, metavar="FORMAT", help="such as s8.5")
    parser.add_argument("--channels", type=int, required=True, metavar="N", help="elements of a row")
    parser.add_argument("--rms", action="store_true", help="RMSNorm: no mean")
    parser.add_argument(
        "--eps", type=float, default=1e-6, help="added to the variance, in squares of x (default: 1e-6)"
    )
    parser.add_argument(
        "--affine", type=Path, metavar="FILE.npz", help="arrays gamma and beta, a value a channel"
    )
    parser.add_argument("--affine-bits", type=int, metavar="N", help="of a gamma or beta (default: 8)")
    parser.add_argument("--variant", default="fast", help="small or fast (default)")
    parser.add_argument("--lanes", type=int, default=1, metavar="N", help="elements a beat (default: 1)")
    parser.add_argument("--name", default="norm", help="name of the unit and of its files (default: norm)")
    parser.add_argument(
        "-o", dest="folder", type=Path, required=True, metavar="DIR", help="where its files go"
    )
    add_debug(parser)


def emit(args: argparse.Namespace) -> int:
    """Write the norm's files, and print what it is, its cycles and its largest error."""
    from hw.layernorm.emit import emit_norm

    body = emit_norm(_norm(args), args.variant, name=args.name, folder=args.folder, lanes=args.lanes)
    body["with"] = "" if body["affine"] is None else " with affine"
    print("{expression}{with} of {channels} channels, {input} to {output}, {variant}".format(**body))
    print(
        "{interval_cycles:,} cycles a row, latency {latency_cycles:,}, row memory {row_memory_bits:,} bits, "
        "error at most {bound_lsb:.3f} LSB".format(**body)
    )
    print(f"{args.folder / body['verilog']}: top {body['top']}")
    return 0


def _norm(args: argparse.Namespace) -> LayerNorm:
    from sw.ir.layernorm import LayerNorm

    return LayerNorm(
        input=FixedFormat.parse(args.input),
        output=FixedFormat.parse(args.output),
        channels=args.channels,
        eps=args.eps,
        rms=args.rms,
        affine=_affine(args.affine, args.affine_bits),
    )


def _affine(path: Path | None, width: int | None) -> Affine | None:
    from sw.ir.affine import Affine

    if path is not None:
        return Affine.of(*read_affine(path), width=8 if width is None else width)
    if width is not None:
        raise InputError(f"--affine-bits must come with --affine, not alone as {width}")
    return None


def read_affine(path: Path) -> tuple[FloatArray, FloatArray]:
    """The vectors ``gamma`` and ``beta`` of an npz file.

    Raises:
        InputError: The file is missing or no npz, or one of them is missing, empty or no vector of finite
            numbers.
    """
    gamma, beta = (_vector(path, name, values) for name, values in _arrays(path).items())
    return gamma, beta


def _arrays(path: Path) -> dict[str, np.ndarray]:
    names = ("gamma", "beta")
    with opened_npz(path, "affine") as stored:
        missing = [name for name in names if name not in stored]
        if missing:
            raise InputError(f"affine '{path}' must hold the array '{missing[0]}'")
        return {name: stored[name] for name in names}


def _vector(path: Path, name: str, values: np.ndarray) -> FloatArray:
    if values.dtype.kind not in "iuf" or values.ndim != 1:
        raise InputError(f"{name} in '{path}' must be a row of numbers, not {values.dtype} {values.shape}")
    if not np.isfinite(values).all():
        raise InputError(f"{name} in '{path}' must be finite, not {values[~np.isfinite(values)][0]}")
    return values.astype(np.float64)


def main(argv: Sequence[str] | None = None) -> int:
    """The script: what ``normforge norm`` does."""
    parser = ArgumentParser(description=DESCRIPTION)
    add_arguments(parser)
    args = parser.parse_args(argv)
    return guarded(lambda: emit(args), debug=args.debug)


if __name__ == "__main__":
    raise SystemExit(main())
