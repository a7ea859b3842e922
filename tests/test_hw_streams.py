from __future__ import annotations

import pytest
from amaranth.hdl import Const, signed, unsigned

from hw.streams import AxiStream, lane_bits, split_lanes
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat


@pytest.mark.parametrize(("width", "bits"), [(2, 8), (8, 8), (9, 16), (16, 16), (17, 24), (32, 32)])
def test_a_lane_takes_whole_bytes(width: int, bits: int) -> None:
    assert lane_bits(FixedFormat(width, 0)) == bits


def test_lanes_are_split_from_the_lowest_bits() -> None:
    lanes = split_lanes(Const(0xF3F7, 16), FixedFormat(3, 0, signed=False))
    assert [Const.cast(lane).value for lane in lanes] == [7, 3]
    assert [lane.shape() for lane in lanes] == [unsigned(3)] * 2


def test_signed_lanes_are_signed() -> None:
    lanes = split_lanes(Const(0x07FF_0801, 32), FixedFormat(12, 0))
    assert [lane.shape() for lane in lanes] == [signed(12)] * 2


def test_streams_are_equal_by_format_and_lanes() -> None:
    format = FixedFormat(8, 3)
    assert AxiStream(format, 2) == AxiStream(FixedFormat(8, 3), 2)
    assert AxiStream(format, 2) != AxiStream(format, 3)
    assert AxiStream(format, 2) != AxiStream(FixedFormat(8, 4), 2)
    assert len({AxiStream(format, 2), AxiStream(format, 2)}) == 1


@pytest.mark.parametrize("lanes", [0, 65, -1])
def test_lanes_out_of_range_are_refused(lanes: int) -> None:
    with pytest.raises(InputError, match=rf"^lanes must be 1\.\.64, not {lanes}$"):
        AxiStream(FixedFormat(8, 0), lanes)
