"""Parts that both variants of the norm are made of."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import C, Cat, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib.memory import Memory, ReadPort, WritePort

from sw.ir.csd import signed_digits
from sw.ir.rsqrt import OFFSET_GUARD, RootTable


def covering(low: int, high: int) -> Shape:
    """The shape of a signal that holds low..high, of one bit at least."""
    shape = Shape.cast(range(low, high + 1))
    return shape if shape.width else unsigned(1)


def held(m: Module, value: Value, name: str, enable: Value | None = None) -> Signal:
    """The value a cycle later (an enabled one), in a register without reset."""
    register = Signal(value.shape(), name=name, reset_less=True)
    if enable is None:
        m.d.sync += register.eq(value)
    else:
        with m.If(enable):
            m.d.sync += register.eq(value)
    return register


def delayed(m: Module, value: Value, cycles: int, name: str, enable: Value | None = None) -> Value:
    """The value some cycles later."""
    for cycle in range(1, cycles + 1):
        value = held(m, value, f"{name}_q{cycle}", enable)
    return value


def total(values: Sequence[Value]) -> Value:
    """Sum of values, as a balanced tree."""
    level = list(values)
    while len(level) > 1:
        pairs = [level[k : k + 2] for k in range(0, len(level), 2)]
        level = [pair[0] + pair[1] if len(pair) > 1 else pair[0] for pair in pairs]
    return level[0]


def multiples(value: Value, constant: int) -> list[tuple[int, Value]]:
    """(sign, shifted value) of as few terms as can be whose sum is a positive constant times the value.

    The largest, which is positive, comes first.
    """
    return [(sign, value.shift_left(shift)) for sign, shift in reversed(signed_digits(constant))]


def times(value: Value, constant: int) -> Value:
    """A positive constant times the value, by shifts, additions and at most one subtraction."""
    terms = multiples(value, constant)
    plus = total([term for sign, term in terms if sign > 0])
    minus = [term for sign, term in terms if sign < 0]
    return plus - total(minus) if minus else plus


def half_to_even(value: Value, bits: int) -> Value:
    """Round value / 2^bits to nearest, ties to even: what is dropped makes no more than a carry."""
    wide = value if len(value) > bits else value + C(0, signed(bits + 1))
    is_up = wide[bits - 1] & (wide[bits] | wide[: bits - 1].any())
    return wide.shift_right(bits) + is_up


def row_memory(m: Module, width: int, words: int) -> tuple[WritePort, ReadPort]:
    """A memory for words of rows; a word is never read in the cycle in which it is written.

    Block RAM of Lattice has no answer to that, and without the attribute Yosys would build one around it.
    """
    memory = Memory(shape=width, depth=max(words, 2), init=[], attrs={"no_rw_check": 1})
    m.submodules.row_memory = memory
    return memory.write_port(), memory.read_port(domain="sync")


def root_entry(m: Module, root: RootTable, normalised: Value) -> tuple[Value, Value, Value]:
    """``(offset, slope, rest)`` of a radicand that was shifted left by pairs of bits as far as it goes.

    Combinational; the table becomes LUTs.

    Args:
        m: Where the table goes.
        root: The table.
        normalised: Of an even number of bits, one of the top two is 1.
    """
    bits = root.mantissa_bits
    padded = normalised.shift_left(max(bits + 2 - len(normalised), 0))
    is_odd = padded[-1]
    mantissa = Mux(is_odd, padded[-1 - bits : -1], padded[-2 - bits : -2])
    address = Cat(mantissa[root.rest_bits :], is_odd)
    found = []
    for name, content in (("offsets", root.offsets), ("slopes", root.slopes)):
        memory = Memory(shape=covering(0, max(content)), depth=len(content), init=content)
        m.submodules[name] = memory
        port = memory.read_port(domain="comb")
        m.d.comb += port.addr.eq(address)
        found.append(port.data)
    return found[0], found[1], mantissa[: root.rest_bits]


def root_of(root: RootTable, offset: Value, product: Value) -> Value:
    """The root from a segment's offset and ``slope * rest``."""
    difference = offset - product.shift_right(root.drop)
    return difference.shift_right(OFFSET_GUARD)[: root.max_raw.bit_length()]
