"""Off-chip traffic and rooflines against sums by hand."""

import dataclasses

import pytest

from sw.config import ReportConfig
from sw.ir.errors import InputError
from sw.report.norms import Site, traffic
from sw.report.traffic import (
    FUSED,
    ROW_BUFFER,
    THREE_PASSES,
    TWO_PASSES,
    UNFUSED,
    VITS,
    Machine,
    Network,
    layernorm,
)

EQUAL = Network(tokens=197, channels=768, norms=25, in_bits=16, out_bits=16)


def test_the_papers_half_is_four_transfers_against_two():
    """arXiv 2605.14047: half of LayerNorm's traffic, if mean and variance are passes of their own, no row is
    kept on chip, and inputs are as wide as outputs."""
    assert UNFUSED.bytes(EQUAL) / THREE_PASSES.bytes(EQUAL) == 0.5
    assert UNFUSED.bytes(EQUAL) / TWO_PASSES.bytes(EQUAL) == pytest.approx(2 / 3)
    assert UNFUSED.bytes(EQUAL) == ROW_BUFFER.bytes(EQUAL)
    assert FUSED.bytes(EQUAL) == 0


def test_bytes_are_elements_times_transfers():
    small = Network(tokens=3, channels=5, norms=2, in_bits=16, out_bits=4)
    assert TWO_PASSES.bytes(small) == 3 * 5 * 2 * (2 * 16 + 4) / 8
    odd = dataclasses.replace(small, tokens=1, channels=1, norms=1, out_bits=3)
    assert UNFUSED.bytes(odd) == 3  # 19 bits


def test_a_row_is_kept_where_it_fits():
    assert layernorm(EQUAL, 768 * 16) is ROW_BUFFER
    assert layernorm(EQUAL, 768 * 16 - 1) is TWO_PASSES


def test_traffic_grows_with_tokens_channels_and_norms():
    sizes = [
        TWO_PASSES.bytes(VITS[name]) for name in ("ViT-Ti", "ViT-S", "ViT-B", "ViT-L", "ViT-H/14", "ViT-g/14")
    ]
    assert sizes == sorted(sizes)
    assert sizes[1] == 2 * sizes[0]


def test_the_roof_is_memory_and_then_arithmetic():
    machine = Machine(bandwidth=10.0, compute=40.0)
    assert machine.ridge == 4
    assert [machine.operations_a_second(i) for i in (0.5, 4, 8)] == [5, 40, 40]
    one = Network(tokens=1, channels=1, norms=1, in_bits=8, out_bits=8)
    assert machine.seconds(UNFUSED, one) == pytest.approx(0.2)  # two bytes at ten a second
    assert machine.seconds(FUSED, one) == pytest.approx(1 / 40)


def test_a_network_without_tokens_is_none():
    with pytest.raises(InputError, match=r"^tokens of a network must be at least 1, not 0$"):
        Network(tokens=0, channels=1, norms=1)


def test_rates_are_giga_a_second_and_rooms_kibibytes():
    network = Network(tokens=1, channels=1, norms=1, in_bits=8, out_bits=8)
    found = [Site("n", 1, network)]
    body = traffic(found, ReportConfig(bandwidth_gb_s=1.0, compute_gop_s=1e6))
    assert body["ways"][UNFUSED.name]["microseconds"] == pytest.approx(2e-3), "two bytes at 1 GB/s"
    assert body["ridge"] == pytest.approx(1e6)
    slow = traffic(found, ReportConfig(bandwidth_gb_s=1e6, compute_gop_s=0.001))
    assert slow["ways"][UNFUSED.name]["microseconds"] == pytest.approx(UNFUSED.operations), (
        "a million a second"
    )
    wide = [Site("n", 1, Network(tokens=1, channels=1024, norms=1, in_bits=16, out_bits=8))]
    assert traffic(wide, ReportConfig(buffer_kib=2.0))["layernorm"] == ROW_BUFFER.name
    assert traffic(wide, ReportConfig(buffer_kib=1.9))["layernorm"] == TWO_PASSES.name
