"""Any Program as hardware: one data path a lane, one stream control for all lanes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from amaranth.hdl import C, Cat, Const, Module, Mux, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.streams import AxiStream, lane_bits, split_lanes
from sw.ir.formats import FixedFormat
from sw.ir.forms import is_constant, joined, reads
from sw.ir.program import Instr, Op, Program
from sw.ir.schedule import Schedule

LUT_ENTRIES = 64
"""A table with so many entries is one LUT6 a bit."""


class Datapath(wiring.Component):
    """One lane of a Program, without stream control.

    Latency ``schedule.latency_cycles`` enabled cycles; accepts one code in each of them.

    Args:
        program: What to compute.
        schedule: Stages of its instructions.

    Members:
        enable: Registers move on; all of them hold while it is low.
        x: Input code.
        y: Output code, from a register.
    """

    def __init__(self, program: Program, schedule: Schedule) -> None:
        self.program = program
        self.schedule = schedule
        super().__init__(
            {"enable": In(1), "x": In(format_shape(program.input)), "y": Out(format_shape(program.output))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        instrs = self.program.instrs
        blocks = self.schedule.blocks
        held: list[list[Value]] = []
        moves: list[tuple[Signal, Value]] = []

        def at(index: int, stage: int) -> Value:
            """The wire as seen in a stage at or after its own, through registers made on demand."""
            if is_constant(instrs[index]):
                return C(instrs[index].lo, wire_shape(instrs[index]))
            chain = held[index]
            while len(chain) <= stage - self.schedule.stages[index]:
                name = f"w{index}_q{self.schedule.stages[index] + len(chain)}"
                register = Signal(wire_shape(instrs[index]), name=name, reset_less=True)
                moves.append((register, chain[-1]))
                chain.append(register)
            return chain[stage - self.schedule.stages[index]]

        needed = {arg for arguments in reads(instrs) for arg in arguments} | {len(instrs) - 1}
        for index, instr in enumerate(instrs):
            wire = Signal(wire_shape(instr), name=f"w{index}_{instr.op.value}")
            held.append([wire])
            if index in blocks:
                address = at(instr.args[0], self.schedule.stages[index])
                held[index].append(self._block(m, index, address))
            elif index in needed and not is_constant(instr):
                args = [at(arg, self.schedule.stages[index]) for arg in joined(instrs, index) or instr.args]
                m.d.comb += wire.eq(self._value(m, index, args))
        m.d.comb += self.y.eq(at(len(instrs) - 1, self.schedule.latency_cycles))
        with m.If(self.enable):
            m.d.sync += [register.eq(source) for register, source in moves]
        return m

    def _block(self, m: Module, index: int, address: Value) -> Value:
        """Look-up in a block memory; its answer is there in the stage after."""
        content = self.program.tables[self.program.instrs[index].params[0]]
        return _read(m, index, address, content, enable=self.enable)

    def _value(self, m: Module, index: int, args: Sequence[Value]) -> Value:
        instr = self.program.instrs[index]
        if instr.op is Op.INPUT:
            return self.x
        if instr.op is Op.LOOKUP:
            content = self.program.tables[instr.params[0]]
            is_last = index == len(self.program.instrs) - 1
            read = _read_inverted if is_last and len(content) <= LUT_ENTRIES else _read
            return read(m, index, args[0], content)
        pair = joined(self.program.instrs, index)
        if pair is not None:
            return _side_by_side(args[0], args[1], self.program.instrs[pair[0]].params[0])
        return OPERATIONS[instr.op](args, instr.params)


class Unit(wiring.Component):
    """A Program as a stream unit of ``lanes`` equal data paths.

    Latency ``latency_cycles`` cycles from an accepted beat to the cycle in which it is offered, while
    nothing stalls; accepts one beat per cycle. One enable moves the whole pipeline: it stands still
    while a beat waits at its end. Between two units ``tready`` is the only combinational path.

    Args:
        program: What every lane computes.
        schedule: Stages of its instructions, as ``sw.ir.schedule.plan`` makes them.
        lanes: Codes a beat, 1..64.

    Members:
        i: Stream of input codes.
        o: Stream of output codes, in the order of the input; ``tlast`` stays with its beat.

    Raises:
        InputError: ``lanes`` is out of range.
    """

    def __init__(self, program: Program, schedule: Schedule, *, lanes: int = 1) -> None:
        self.program = program
        self.schedule = schedule
        self.lanes = lanes
        super().__init__(
            {"i": In(AxiStream(program.input, lanes)), "o": Out(AxiStream(program.output, lanes))}
        )

    @property
    def latency_cycles(self) -> int:
        """Register stages between an accepted beat and the offered one."""
        return self.schedule.latency_cycles

    def elaborate(self, platform: object) -> Module:
        m = Module()
        advance = Signal()
        m.d.comb += [advance.eq(~self.o.tvalid | self.o.tready), self.i.tready.eq(advance)]
        self._control(m, advance)
        results: list[Value] = []
        for number, code in enumerate(split_lanes(self.i.tdata, self.program.input)):
            m.submodules[f"lane{number}"] = lane = Datapath(self.program, self.schedule)
            byte_wide = Signal(
                Shape(lane_bits(self.program.output), self.program.output.signed), name=f"y{number}"
            )
            m.d.comb += [lane.enable.eq(advance), lane.x.eq(code), byte_wide.eq(lane.y)]
            results.append(byte_wide)
        step = lane_bits(self.program.output)
        m.d.comb += [self.o.tdata[k * step : (k + 1) * step].eq(y) for k, y in enumerate(results)]
        return m

    def _control(self, m: Module, advance: Signal) -> None:
        """Carry valid and last along the data; only valid needs a reset."""
        valid: Value = self.i.tvalid
        last: Value = self.i.tlast
        for stage in range(1, self.latency_cycles + 1):
            valid_reg = Signal(name=f"valid_q{stage}")
            last_reg = Signal(name=f"last_q{stage}", reset_less=True)
            with m.If(advance):
                m.d.sync += [valid_reg.eq(valid), last_reg.eq(last)]
            valid, last = valid_reg, last_reg
        m.d.comb += [self.o.tvalid.eq(valid), self.o.tlast.eq(last)]


def format_shape(format: FixedFormat) -> Shape:
    """The shape of a signal that holds a format's codes."""
    return Shape(format.width, format.signed)


def wire_shape(instr: Instr) -> Shape:
    """The shape of the narrowest signal that holds an instruction's range."""
    return Shape(instr.width, instr.signed)


def _read(
    m: Module, index: int, address: Value, content: Sequence[int], *, enable: Value | None = None
) -> Value:
    """Look-up in a read-only memory: combinational, or with ``enable`` from a block memory, a cycle later."""
    style = (
        {} if enable is None else {"rom_style": "block", "ram_style": "block", "syn_ramstyle": "block_ram"}
    )
    memory = Memory(shape=_entry_shape(content), depth=len(content), init=content, attrs=style)
    m.submodules[f"table{index}"] = memory
    if enable is None:
        port = memory.read_port(domain="comb")
    else:
        port = memory.read_port(domain="sync")
        m.d.comb += port.en.eq(enable)
    m.d.comb += port.addr.eq(address)
    return port.data


def _read_inverted(m: Module, index: int, address: Value, content: Sequence[int]) -> Value:
    """As ``_read`` without ``enable``, the complement of every entry in the memory.

    Where a bit of a table is 0 in half of its entries, Yosys makes that half the reset of the register
    behind it, which takes a LUT of its own; it does not see through the inversion.
    """
    shape = _entry_shape(content)
    mask = (1 << shape.width) - 1
    bits = _read(m, index, address, [~entry & mask for entry in content])
    whole = ~Cat(bits, C(0, shape.width - len(bits)))
    return whole.as_signed() if shape.signed else whole


def _entry_shape(content: Sequence[int]) -> Shape:
    return wire_shape(Instr(Op.CONST, (), (0,), min(content), max(content)))


def _side_by_side(upper: Value, lower: Value, shift: int) -> Value:
    """Upper + lower, where the lowest ``shift`` bits of upper are 0 and lower has no others."""
    whole = Cat(lower, C(0, shift - len(lower)), upper[shift:])
    return whole.as_signed() if upper.shape().signed else whole


def _difference(left: Value, right: Value) -> Value:
    """Left - right; from -1 it is the complement, without a carry."""
    if isinstance(left, Const) and left.value == -1:
        return ~(right if right.shape().signed else Cat(right, C(0, 1)).as_signed())
    return left - right


def _clamp(source: Value, lo: int, hi: int) -> Value:
    """Limit to [lo, hi]; limits out of reach cost nothing."""
    return Mux(_above(source, hi), C(hi), Mux(_below(source, lo), C(lo), source))


def _above(source: Value, limit: int) -> Value:
    """Whether source > limit, a constant: a tree of LUTs, shorter than a carry chain and no larger."""
    if source.shape().signed:
        offset = 1 << (len(source) - 1)
        source, limit = Cat(source[:-1], ~source[-1]), limit + offset
    if limit < 0:
        return C(1, 1)
    return C(0, 1) if limit >> len(source) else _compare(source, limit)[0]


def _compare(source: Value, limit: int) -> tuple[Value, Value]:
    """(source > limit, source == limit) of an unsigned value, halving it."""
    if len(source) == 1:
        return (C(0, 1), source[0]) if limit else (source[0], ~source[0])
    half = len(source) // 2
    low_above, low_equal = _compare(source[:half], limit & ((1 << half) - 1))
    high_above, high_equal = _compare(source[half:], limit >> half)
    return high_above | (high_equal & low_above), high_equal & low_equal


def _below(source: Value, limit: int) -> Value:
    return ~_above(source, limit - 1)


def _less(a: Value, b: Value) -> Value:
    """Whether a < b; the constants of a Program arrive as such."""
    if isinstance(b, Const):
        return _below(a, b.value)
    return _above(b, a.value) if isinstance(a, Const) else a < b


def _negated_if(sign: Value, source: Value) -> Value:
    """-source where sign is 1: inverted bits plus one, which is half the logic of a choice of two."""
    return (source ^ sign.as_signed()) + sign


Operation = Callable[[Sequence[Value], Sequence[int]], Value]
"""A value from the values of the arguments and the parameters."""
OPERATIONS: dict[Op, Operation] = {
    Op.CONST: lambda _, params: C(params[0]),
    Op.ADD: lambda args, _: args[0] + args[1],
    Op.SUB: lambda args, _: _difference(args[0], args[1]),
    Op.MUL: lambda args, _: args[0] * args[1],
    Op.ABS: lambda args, _: _negated_if(args[0][-1], args[0]) if args[0].shape().signed else args[0],
    Op.SHL: lambda args, params: args[0].shift_left(params[0]),
    Op.SHR: lambda args, params: args[0].shift_right(params[0]),
    Op.LOW: lambda args, params: args[0] & C((1 << params[0]) - 1, params[0]),
    Op.MIN: lambda args, _: Mux(_less(args[0], args[1]), args[0], args[1]),
    Op.MAX: lambda args, _: Mux(_less(args[0], args[1]), args[1], args[0]),
    Op.CLAMP: lambda args, params: _clamp(args[0], params[0], params[1]),
    Op.LT: lambda args, _: _less(args[0], args[1]),
    Op.EQ: lambda args, _: args[0] == args[1],
    Op.NEGATE: lambda args, _: _negated_if(args[0].any(), args[1]),
    Op.SELECT: lambda args, _: Mux(args[0].any(), args[1], args[2]),
}
"""Every operation but ``input`` and ``lookup``, which need more than values."""
