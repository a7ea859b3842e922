"""Stream ports: one beat carries a few lanes, each in whole bytes, as AXI4-Stream wants it."""

from __future__ import annotations

from amaranth.hdl import Value, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat

MAX_LANES = 64
PORTS = ("tdata", "tvalid", "tready", "tlast")


def lane_bits(format: FixedFormat) -> int:
    """Bits that one lane of a format takes on ``tdata``: its width rounded up to whole bytes."""
    return 8 * -(-format.width // 8)


def buses(input: FixedFormat, output: FixedFormat, lanes: int) -> dict[str, int]:
    """Bits of a unit's two data ports, by their names in Verilog."""
    return {"s_axis_tdata": lanes * lane_bits(input), "m_axis_tdata": lanes * lane_bits(output)}


def check_lanes(lanes: int) -> None:
    """Let through only 1..64 lanes.

    Raises:
        InputError: Any other number.
    """
    if not 1 <= lanes <= MAX_LANES:
        raise InputError(f"lanes must be 1..{MAX_LANES}, not {lanes}")


class AxiStream(wiring.Signature):
    """A stream of beats of ``lanes`` codes, with the four signals of AXI4-Stream that units use.

    The rules are those of Amaranth's streams: a beat moves on a clock edge at which ``tvalid`` and
    ``tready`` are both high; the payload does not change while ``tvalid`` waits for ``tready``;
    ``tvalid`` does not depend on ``tready`` and, once high, stays so until the beat has moved.

    Args:
        format: Format of one code.
        lanes: Codes a beat, 1..64; lane 0 is in the lowest bits.

    Members:
        tdata: ``lanes * lane_bits(format)`` bits; a signed lane is sign-extended to whole bytes, an
            unsigned one zero-extended. Receivers ignore the extension.
        tvalid: The producer has a beat.
        tready: The consumer takes it.
        tlast: The beat ends a token row.

    Raises:
        InputError: ``lanes`` is out of range.
    """

    def __init__(self, format: FixedFormat, lanes: int) -> None:
        check_lanes(lanes)
        self.format = format
        self.lanes = lanes
        super().__init__(
            {
                "tdata": Out(unsigned(lanes * lane_bits(format))),
                "tvalid": Out(1),
                "tready": In(1),
                "tlast": Out(1),
            }
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AxiStream) and (self.format, self.lanes) == (other.format, other.lanes)

    def __hash__(self) -> int:
        return hash((self.format, self.lanes))


def split_lanes(tdata: Value, format: FixedFormat) -> list[Value]:
    """The codes on ``tdata``, lane 0 first, as values of the format's width and sign."""
    step = lane_bits(format)
    codes = [tdata[low : low + format.width] for low in range(0, len(tdata), step)]
    return [code.as_signed() if format.signed else code for code in codes]
