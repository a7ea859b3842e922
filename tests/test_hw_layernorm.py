from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from hw.axi_wrapper import wrapper_verilog
from hw.layernorm import VARIANTS, FastLayerNorm, SmallLayerNorm, build, timing
from hw.layernorm.emit import emit_norm, measure_norm
from hw.streams import lane_bits
from sw.ir.affine import Affine
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.ir.layernorm import LayerNorm
from sw.ir.layernorm_error import corner_rows
from tests import stream_bench
from tests.stream_bench import Pattern, Traffic, always, randomly
from tests.verilog_tools import elaborated, lint

ROOT = Path(__file__).parents[1]
Unit = FastLayerNorm | SmallLayerNorm
Beats = list[tuple[tuple[int, ...], int]]


def norm_of(channels: int, input: str = "s16.11", output: str = "s8.5", **more: Any) -> LayerNorm:
    formats = FixedFormat.parse(input), FixedFormat.parse(output)
    return LayerNorm(input=formats[0], output=formats[1], channels=channels, **more)


def affine_of(channels: int) -> Affine:
    rng = np.random.default_rng(channels)
    return Affine.of(rng.uniform(-1.3, 1.3, channels), rng.normal(0, 0.3, channels))


def rows_of(norm: LayerNorm, rows: int, seed: int = 0) -> np.ndarray:
    """Rows of every size of spread and mean."""
    rng = np.random.default_rng(seed)
    spread = np.exp2(rng.uniform(-1, norm.input.width, (rows, 1)))
    mean = rng.uniform(norm.input.min_raw, norm.input.max_raw, (rows, 1)) * rng.integers(0, 2, (rows, 1))
    drawn = np.rint(mean + spread * rng.normal(0, 1, (rows, norm.channels)))
    return np.clip(drawn, norm.input.min_raw, norm.input.max_raw).astype(np.int64)


def beats_of(rows_raw: np.ndarray, lanes: int, filler: int = 77) -> Beats:
    """Rows as beats; lanes beyond the channels hold anything."""
    beats = -(-rows_raw.shape[1] // lanes)
    padded = np.full((len(rows_raw), beats * lanes), filler)
    padded[:, : rows_raw.shape[1]] = rows_raw
    words = padded.reshape(-1, lanes).tolist()
    return [(tuple(word), int(k % beats == beats - 1)) for k, word in enumerate(words)]


def simulate(
    unit: Unit, beats: Beats, valid: Pattern = always, ready: Pattern = always, expected: int | None = None
) -> Traffic:
    formats = {"input": unit.norm.input, "output": unit.norm.output}
    return stream_bench.simulate(unit, beats, valid, ready, expected=expected, **formats)


def rows_out(traffic: Traffic, norm: LayerNorm) -> list[list[int]]:
    """Rows as ``tlast`` ends them, without padding lanes."""
    rows: list[list[int]] = [[]]
    for _, codes, last in traffic.received:
        rows[-1] += codes
        if last:
            rows.append([])
    assert rows.pop() == []
    return [row[: norm.channels] for row in rows]


NORMS = {
    "16 channels": (norm_of(16), 1),
    "48 channels, two lanes": (norm_of(48), 2),
    "four lanes, short rows": (norm_of(16), 4),
    "channels do not fill the lanes": (norm_of(13), 4),
    "lanes for more than all channels": (norm_of(3), 4),
    "one channel": (norm_of(1), 1),
    "many digits of N": (norm_of(11), 1),
    "8 to 8 bits": (norm_of(16, "s8.4"), 1),
    "unsigned input": (norm_of(16, "u8.4"), 2),
    "unsigned output": (norm_of(16, output="u8.5"), 1),
    "wide output": (norm_of(16, output="s16.12"), 1),
    "coarse output": (norm_of(16, output="s4.-1"), 1),
    "very coarse output": (norm_of(16, output="s4.-9"), 1),
    "no eps": (norm_of(16, eps=0.0), 1),
    "large eps": (norm_of(16, eps=0.5), 1),
    "eps that leaves no zeros": (norm_of(16, "s4.0", eps=1e4), 1),
    "affine": (norm_of(16, affine=affine_of(16)), 1),
    "affine, lanes not filled": (norm_of(13, affine=affine_of(13)), 4),
    "RMSNorm": (norm_of(16, rms=True), 1),
    "RMSNorm, affine, two lanes": (norm_of(13, rms=True, affine=affine_of(13)), 2),
    "RMSNorm, no eps": (norm_of(7, rms=True, eps=0.0), 1),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("norm", "lanes"), NORMS.values(), ids=NORMS)
def test_random_and_corner_rows_equal_the_model_under_stalls(
    norm: LayerNorm, lanes: int, variant: str
) -> None:
    rows_raw = np.concatenate([corner_rows(norm), rows_of(norm, 6)])[:: 1 if variant == "fast" else 3]
    unit = build(norm, variant, lanes=lanes)
    traffic = simulate(unit, beats_of(rows_raw, lanes), randomly(1, 0.9), randomly(2, 0.9))
    assert rows_out(traffic, norm) == norm.run(rows_raw).tolist()


def test_a_thousand_rows_equal_the_model() -> None:
    norm = norm_of(6)
    rows_raw = rows_of(norm, 1000, seed=3)
    traffic = simulate(FastLayerNorm(norm, lanes=2), beats_of(rows_raw, 2))
    assert rows_out(traffic, norm) == norm.run(rows_raw).tolist()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("variant", VARIANTS)
def test_stalls_lose_duplicate_and_reorder_nothing(variant: str, share: float) -> None:
    norm = norm_of(6)
    rows_raw = rows_of(norm, 16 if variant == "fast" else 4)
    for valid, ready in ((share, 1.05 - share), (1.05 - share, share), (1.0, share)):
        unit = build(norm, variant, lanes=2)
        traffic = simulate(unit, beats_of(rows_raw, 2), randomly(4, valid), randomly(5, ready))
        assert rows_out(traffic, norm) == norm.run(rows_raw).tolist()


CYCLES = {
    "48 channels": (norm_of(48), 1),
    "48 channels, two lanes": (norm_of(48), 2),
    "short rows": (norm_of(16), 4),
    "a beat a row": (norm_of(4), 4),
    "many digits of N": (norm_of(171), 4),
    "affine": (norm_of(16, affine=affine_of(16)), 1),
    "RMSNorm": (norm_of(16, rms=True), 1),
    "RMSNorm, affine": (norm_of(16, rms=True, affine=affine_of(16)), 2),
    "a channel of one bit": (norm_of(1, "u1.0"), 1),
    "eps that leaves no zeros": (norm_of(16, "s4.0", eps=1e4), 1),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("norm", "lanes"), CYCLES.values(), ids=CYCLES)
def test_latency_and_interval_are_the_stated_ones(norm: LayerNorm, lanes: int, variant: str) -> None:
    """Of rows that come without a gap, the 20 first among them, in which every memory fills."""
    unit = build(norm, variant, lanes=lanes)
    beats = -(-norm.channels // lanes)
    rows = 20 if variant == "fast" else 3
    traffic = simulate(unit, beats_of(rows_of(norm, rows), lanes))
    starts = [cycle for cycle, *_ in traffic.sent][::beats]
    results = [cycle for cycle, *_ in traffic.received]
    assert {b - a for a, b in zip(starts, results[::beats], strict=True)} == {unit.timing.latency_cycles}
    assert {b - a for a, b in pairwise(starts)} == {unit.timing.interval_cycles}
    if variant == "fast":
        assert unit.timing.interval_cycles == beats
        assert {b - a for a, b in pairwise(results)} == {1}


def test_the_page_has_the_cycles_and_the_bounds() -> None:
    page = (ROOT / "docs/layernorm.md").read_text()
    for variant in VARIANTS:
        for channels in (192, 768):
            norm = norm_of(channels)
            latency, interval, words = timing(norm, variant)
            row = f"| {variant} | {channels} | {interval:,} | {latency:,} | {16 * words:,} bits |"
            assert row in page
    named = {
        "LayerNorm, 192 channels": norm_of(192),
        "LayerNorm, 768 channels": norm_of(768),
        "RMSNorm, 192 channels": norm_of(192, rms=True),
    }
    for name, norm in named.items():
        found = re.search(rf"^\| {name} \| (\S+) \| (\S+) \| (\S+) \|$", page, re.MULTILINE)
        assert found
        assert 0.5 < float(found[1]) < float(found[3])
        assert float(found[3]) == pytest.approx(norm.bound_lsb, abs=6e-4)


def test_the_page_s_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs/layernorm.md").read_text()
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert example
    monkeypatch.chdir(tmp_path)
    exec(example[1], {})
    assert "'interval_cycles': 192" in capsys.readouterr().out
    assert (tmp_path / "out/norm1.v").exists()


def as_understood(beats: Beats, norm: LayerNorm, lanes: int) -> np.ndarray:
    """Rows of a stream whose tlast may be anywhere: cut after enough beats, filled up with 0."""
    size = -(-norm.channels // lanes)
    rows: list[list[int]] = []
    row: list[int] = []
    for codes, last in beats:
        row += codes
        if last or len(row) == size * lanes:
            rows.append(row + [0] * (size * lanes - len(row)))
            row = []
    return np.array(rows)[:, : norm.channels]


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_of_a_wrong_length_are_cut_or_filled_up(variant: str) -> None:
    norm, lanes = norm_of(7), 2
    rows_raw = rows_of(norm, 8)
    beats = beats_of(rows_raw, lanes)
    ends = [0, 0, 1, 0, 1, 1] + [0] * 7 + [0, 0, 1] + [0, 0, 0, 1] * 4
    beats = [(codes, last) for (codes, _), last in zip(beats, ends, strict=True)]
    wanted = as_understood(beats, norm, lanes)
    traffic = simulate(
        build(norm, variant, lanes=lanes), beats, randomly(1, 0.9), randomly(2, 0.9), 4 * len(wanted)
    )
    assert rows_out(traffic, norm) == norm.run(wanted).tolist()
    assert rows_out(traffic, norm)[-4:] == norm.run(rows_raw[-4:]).tolist()


@pytest.mark.parametrize("variant", VARIANTS)
def test_valid_does_not_wait_for_ready(variant: str) -> None:
    norm = norm_of(4)
    unit = build(norm, variant)
    seen: list[tuple[int, ...]] = []
    accepted: list[int] = []

    async def bench(ctx):
        ctx.set(unit.i.tvalid, 1)
        for cycle in range(unit.timing.latency_cycles + 60):
            seen.append((ctx.get(unit.o.tvalid), ctx.get(unit.o.tdata)))
            accepted.append(ctx.get(unit.i.tready))
            ctx.set(unit.i.tdata, cycle * 99)
            await ctx.tick()

    run(unit, bench)
    valid = [v for v, _ in seen]
    assert valid == [0] * unit.timing.latency_cycles + [1] * 60
    assert len(set(seen[unit.timing.latency_cycles :])) == 1
    assert not any(accepted[-20:])


@pytest.mark.parametrize("variant", VARIANTS)
def test_reset_forgets_everything(variant: str) -> None:
    """At every cycle of the first two rows; the row after it is right."""
    norm = norm_of(4)
    rows_raw = rows_of(norm, 2, seed=5)
    wanted = norm.run(rows_raw)[1].tolist()
    unit = build(norm, variant)
    reset = Signal()
    step = lane_bits(norm.input)

    async def bench(ctx):
        ctx.set(unit.o.tready, 1)
        for moment in range(2, 2 * unit.timing.latency_cycles, 5):
            ctx.set(unit.i.tvalid, 1)
            await ctx.tick().repeat(moment)
            ctx.set(reset, 1)
            ctx.set(unit.i.tvalid, 0)
            await ctx.tick()
            ctx.set(reset, 0)
            assert not ctx.get(unit.o.tvalid)
            for code in rows_raw[1].tolist():
                ctx.set(unit.i.tvalid, 1)
                ctx.set(unit.i.tdata, code & ((1 << step) - 1))
                assert ctx.get(unit.i.tready)
                await ctx.tick()
            ctx.set(unit.i.tvalid, 0)
            found = []
            while len(found) < norm.channels:
                if ctx.get(unit.o.tvalid):
                    found.append((ctx.get(unit.o.tdata) ^ 128) - 128)
                await ctx.tick()
            assert found == wanted, moment

    run(ResetInserter(reset)(unit), bench)


def run(unit: Any, bench: Any) -> None:
    simulator = Simulator(unit)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()


def test_the_ring_holds_little_more_than_a_row() -> None:
    assert timing(norm_of(192), "fast").row_memory_words == 256
    assert timing(norm_of(768), "fast").row_memory_words == 1024
    assert timing(norm_of(192), "small").row_memory_words == 192


def test_what_is_no_variant_is_refused() -> None:
    with pytest.raises(InputError, match=r"^variant of a norm must be one of small, fast, not 'tiny'$"):
        build(norm_of(4), "tiny")
    with pytest.raises(InputError, match=r"^lanes must be 1\.\.64, not 0$"):
        timing(norm_of(4), "fast", lanes=0)


def test_the_description_is_what_the_json_says(tmp_path: Path) -> None:
    norm = norm_of(16, affine=affine_of(16))
    body = emit_norm(norm, "fast", name="n", folder=tmp_path, lanes=2)
    assert json.loads((tmp_path / "n.json").read_text()) == body
    assert sorted(path.name for path in tmp_path.iterdir()) == ["n.core", "n.json", "n.v"]
    keys = "name expression input output channels lanes variant latency_cycles interval_cycles"
    assert list(body) == f"{keys} row_memory_bits eps guard_bits affine bound_lsb verilog top".split()
    assert (body["expression"], body["interval_cycles"], body["top"]) == ("LayerNorm", 8, "normforge_n")
    formats = {key: FixedFormat.parse(body["affine"][key]) for key in ("gamma", "beta")}
    codes = {key: tuple(body["affine"][key]) for key in ("gamma_raw", "beta_raw")}
    assert Affine(**formats, **codes) == norm.affine
    assert emit_norm(norm_of(3, rms=True), "small", name="r", folder=tmp_path)["expression"] == "RMSNorm"
    with pytest.raises(InputError, match=r"^name of a unit must be letters, .*, not 'a-b'$"):
        emit_norm(norm, "fast", name="a-b", folder=tmp_path)


def test_the_same_norm_gives_the_same_text_without_paths(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        emit_norm(norm_of(16, affine=affine_of(16)), "small", name="n", folder=tmp_path / folder)
    text = (tmp_path / "a/n.v").read_text()
    assert text == (tmp_path / "b/n.v").read_text()
    assert "src =" not in text
    assert ".py" not in text


@pytest.mark.tools
@pytest.mark.parametrize("variant", VARIANTS)
def test_verilog_has_the_ports_of_units_and_no_warning(tmp_path: Path, variant: str) -> None:
    body = emit_norm(norm_of(13, affine=affine_of(13)), variant, name="n", folder=tmp_path, lanes=2)
    lint(tmp_path, ["n.v"], body["top"])
    (tmp_path / "n_axis.v").write_text(wrapper_verilog(body["top"], [("", body)]))
    lint(tmp_path, ["n.v", "n_axis.v"], "normforge_n_axis")
    ports = elaborated(tmp_path, ["n.v"], body["top"])["ports"]
    assert {name: len(port["bits"]) for name, port in ports.items()} == {
        **{"clk": 1, "rst": 1, "s_axis_tdata": 32, "s_axis_tvalid": 1, "s_axis_tready": 1, "s_axis_tlast": 1},
        **{"m_axis_tdata": 16, "m_axis_tvalid": 1, "m_axis_tready": 1, "m_axis_tlast": 1},
    }


@pytest.mark.slow
@pytest.mark.tools
def test_multipliers_and_row_memory_become_hard_blocks(tmp_path: Path) -> None:
    found = {
        variant: measure_norm(norm_of(192), variant, tmp_path, families=("ecp5",))["families"]["ecp5"]
        for variant in VARIANTS
    }
    assert {variant: (count["dsp"], count["bram"]) for variant, count in found.items()} == {
        "small": (1, 1),
        "fast": (6, 1),
    }
    assert found["small"]["ff"] < found["fast"]["ff"]
