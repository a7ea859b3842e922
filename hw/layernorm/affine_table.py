"""Gamma and beta of every channel, in one memory."""

from __future__ import annotations

from amaranth.hdl import Module, Value
from amaranth.lib.memory import Memory

from hw.layernorm.pieces import delayed
from hw.layernorm.shapes import Shapes
from sw.ir.affine import Affine

_SMALLEST_BLOCK_BITS = 2048
"""Content for which block RAM is asked for; smaller tables are what the tool likes."""


def affine_codes(
    m: Module, affine: Affine, shapes: Shapes, index: Value, enable: Value
) -> list[tuple[Value, Value]]:
    """Gamma of a beat two enabled cycles after its ``index``, and beta three, for each lane.

    What the memory gave is registered before anything is done with it: block RAM is slow.
    """
    split, size = affine.gamma.width, affine.gamma.width + affine.beta.width
    words = _words(affine, shapes)
    is_block = len(words) * shapes.lanes * size >= _SMALLEST_BLOCK_BITS
    style = {"rom_style": "block", "ram_style": "block", "syn_ramstyle": "block_ram"} if is_block else {}
    memory = Memory(shape=shapes.lanes * size, depth=len(words), init=words, attrs=style)
    m.submodules.affine = memory
    port = memory.read_port(domain="sync")
    m.d.comb += [port.addr.eq(index), port.en.eq(enable)]
    found = []
    for lane in range(shapes.lanes):
        pair = port.data.word_select(lane, size)
        gamma = delayed(m, pair[:split], 1, f"gamma{lane}", enable)
        beta = delayed(m, pair[split:], 2, f"beta{lane}", enable)
        found.append(
            (
                gamma.as_signed() if affine.gamma.signed else gamma,
                beta.as_signed() if affine.beta.signed else beta,
            )
        )
    return found


def _words(affine: Affine, shapes: Shapes) -> list[int]:
    """A word for each beat of a row, two at least: pairs of gamma and, above it, beta."""
    masks = [(1 << format.width) - 1 for format in (affine.gamma, affine.beta)]
    codes = zip(affine.gamma_raw, affine.beta_raw, strict=True)
    pairs = [(gamma & masks[0]) | (beta & masks[1]) << affine.gamma.width for gamma, beta in codes]
    pairs += [0] * (max(shapes.beats, 2) * shapes.lanes - len(pairs))
    size = affine.gamma.width + affine.beta.width
    beats = [pairs[low : low + shapes.lanes] for low in range(0, len(pairs), shapes.lanes)]
    return [sum(pair << (lane * size) for lane, pair in enumerate(beat)) for beat in beats]
