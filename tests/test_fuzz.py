"""Hostile input: whatever is in a file or an argument, there is one line about it, no traceback, no hang,
nothing half-written and nothing executed. ``make test-slow`` runs this with many more examples."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import pickle
import re
import signal
import tempfile
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gp.pairs import read_sites
from sim_tb.verify import read_requests
from sw.cli import main
from sw.config import RunConfig, load
from sw.ir.errors import InputError
from sw.ir.formats import FixedFormat
from sw.ir.parse import FUNCTIONS, parse
from sw.ir.program import Program
from sw.ir.realize import realize

MANY = int(os.environ.get("FUZZ_EXAMPLES", "0"))
"""Examples of every test; 0: the few of each that take a second or two."""
PATIENCE_S = 60
WORDS = (
    *FUNCTIONS,
    "x",
    "y",
    "(",
    ")",
    ",",
    "+",
    "-",
    "*",
    "/",
    "**",
    "1",
    "0",
    "2.5",
    "1e400",
    "1e-400",
    " ",
)
WORDS_ODD = (
    "__import__",
    "lambda",
    "[",
    "]",
    "'",
    "\\",
    "\0",
    "\n",
    "é",
    "1_0",
    "0x1",
    "nan",
    "inf",
    "=",
    "%",
    ":",
)
GOOD_CONFIG = """name = "mine"
seed = 0
[model]
name = "vit_tiny_patch16_224"
[model.kwargs]
img_size = 8
[data]
dataset = "digits"
[evolve]
generations = 3
"""


def fuzzed(few: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    return settings(max_examples=MANY or few, suppress_health_check=checks)


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    """What takes longer than anybody waits for is a hang."""

    def ring(*_: Any) -> None:
        raise TimeoutError(f"more than {PATIENCE_S} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def read_or_refused() -> Iterator[None]:
    """What is in the block ends in time, well or with a message of one line."""
    with in_time():
        try:
            yield
        except InputError as error:
            check_line(str(error))


def check_line(text: str) -> None:
    assert text
    assert len(text.splitlines()) == 1, text


def polite(arguments: list[str], folder: Path) -> int:
    """Run the command line; status 0, or a complaint of one line and an untouched folder."""
    out, error = io.StringIO(), io.StringIO()
    before = sorted(folder.rglob("*"))
    with in_time(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            status = main(arguments)
        except SystemExit as left:  # argparse
            status = -int(str(left.code))
    if status == -2:
        check_line(error.getvalue())
        assert error.getvalue().startswith("normforge")
        return 2
    assert status in (0, 2), error.getvalue()
    assert not list(folder.rglob("*.part"))
    if status == 2:
        lines = error.getvalue().strip().splitlines()
        complaints = [line for line in lines if line.startswith("normforge: ")]
        assert len(complaints) == 1
        assert lines[-1] == complaints[0], "a message of several lines"
        assert [p for p in sorted(folder.rglob("*")) if p.is_file()] == [p for p in before if p.is_file()]
    return status


@st.composite
def damaged(draw: Any, body: bytes) -> bytes:
    """A file cut short, with bits flipped, bytes replaced, or a piece moved."""
    data = bytearray(body)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(("cut", "flip", "replace", "move", "repeat"))):
            case "cut":
                del data[place:]
            case "flip" if data:
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "replace":
                data[place : place + 8] = draw(st.binary(max_size=12))
            case "move":
                piece = data[place : place + 16]
                del data[place : place + 16]
                target = draw(st.integers(0, len(data)))
                data[target:target] = piece
            case "repeat":
                data[place:place] = data[place : place + 64]
    return bytes(data)


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["../../x", "/etc/passwd", "a/b", "", ".", "s99.1", "s16.11", "\0", "x" * 300]),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@st.composite
def disturbed(draw: Any, body: Any) -> Any:
    """JSON with a few values replaced, removed or added."""
    body = json.loads(json.dumps(body))
    for _ in range(draw(st.integers(1, 3))):
        place = body
        while True:
            if isinstance(place, dict) and place:
                key: Any = draw(st.sampled_from(sorted(place)))
            elif isinstance(place, list) and place:
                key = draw(st.integers(0, len(place) - 1))
            else:
                break
            if isinstance(place[key], (dict, list)) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            if draw(st.integers(0, 3)) == 0:
                del place[key]
            else:
                place[key] = draw(ODD)
            break
    return body


@fuzzed(60)
@given(st.lists(st.sampled_from(WORDS + WORDS_ODD), max_size=14).map("".join))
def test_a_formula_is_understood_or_refused(text: str) -> None:
    with read_or_refused():
        expr = parse(text)
        assert parse(str(expr)) == expr


@fuzzed(15)
@given(
    formula=st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map("".join),
    input=st.sampled_from(["s6.3", "u5.0", "s4.-2", "s1.0", "s8.5", "x", "s6.3.1", "s-6.3", "u0.0"]),
    output=st.sampled_from(["s6.3", "u4.2", "s8.7", "u1.0", "", "s8.", "s99.1"]),
    option=st.sampled_from(
        [[], ["--lanes", "0"], ["--fmax", "nan"], ["--latency", "-1"], ["--name", "../x"]]
    ),
)
def test_compile_makes_a_unit_or_says_why_not(formula, input, output, option) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        polite(
            ["compile", formula, "--in", input, "--out", output, *option, "-o", str(folder / "out")], folder
        )


@fuzzed(60)
@given(damaged(GOOD_CONFIG.encode()))
def test_a_configuration_is_read_or_refused(body: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "run.toml"
        path.write_bytes(body)
        with read_or_refused():
            assert "/" not in load(str(path)).name


KEYS = [
    f"{section}.{field.name}"
    for section, hint in typing.get_type_hints(RunConfig).items()
    for field in (dataclasses.fields(hint) if dataclasses.is_dataclass(hint) else ())
]
"""Of a configuration, all."""


@fuzzed(100)
@given(st.sampled_from(KEYS) | st.text(max_size=12), st.sampled_from(["", "-"]), ODD | st.floats().map(str))
def test_an_overridden_key_is_taken_or_refused(key, sign, value) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "run.toml"
        path.write_text(GOOD_CONFIG)
        with read_or_refused():
            load(str(path), (f"{key}={sign}{value}",))


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


GRID = np.linspace(-2, 2, 64)
GOOD_PAIRS = npz(s_x=GRID, s_y=np.tanh(GRID))


def read_or_refuse(body: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "pairs.npz"
        path.write_bytes(body)
        with read_or_refused():
            for site in read_sites(path):
                assert "/" not in site.site


@fuzzed(60)
@given(damaged(GOOD_PAIRS))
def test_a_damaged_file_of_pairs_is_refused(body: bytes) -> None:
    read_or_refuse(body)


@fuzzed(60)
@given(
    name=st.one_of(st.text(max_size=12), st.sampled_from(["../../x", "a/b", "..", "\0", "a" * 300])),
    dtype=st.sampled_from(["f8", "f4", "f2", "i1", "u8", "c16", "?", "U3", "M8[s]", "S2", "V4"]),
    shape=st.sampled_from([(64,), (8, 8), (), (0,), (1,), (64, 1), (15,)]),
)
def test_odd_arrays_are_refused(name: str, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, dtype=dtype)
    if array.dtype.kind in "fiu" and array.size:
        array = (np.arange(array.size).reshape(shape) % 7).astype(dtype)
    try:
        body = npz(**{f"{name}_x": array, f"{name}_y": array})
    except (ValueError, OSError, UnicodeError, UserWarning):
        return  # numpy itself writes no such file
    read_or_refuse(body)


class Bomb:
    """Unpickling it would leave a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_pickled_code_in_pairs_and_checkpoints_is_not_run(tmp_path, capsys) -> None:
    torch = pytest.importorskip("torch")
    from sw.model.weights import read_weights

    mark = tmp_path / "mark"
    bomb = np.array([Bomb(mark)], dtype=object)
    np.savez(tmp_path / "pairs.npz", s_x=bomb, s_y=bomb)
    assert main(["evolve", "--pairs", str(tmp_path / "pairs.npz"), "-o", str(tmp_path / "out")]) == 2
    torch.save({"weight": Bomb(mark)}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Bomb(mark)))
    for name in ("a.pth", "b.pth"):
        with pytest.raises(InputError, match=r"holds a pickled|is not a checkpoint"):
            read_weights(tmp_path / name)
    assert not mark.exists()
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_damaged_checkpoint_is_refused(tmp_path, suffix) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    from sw.model.weights import read_weights

    state = {"a.weight": torch.ones(3, 2), "b": torch.zeros(4)}
    good = tmp_path / f"good{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, good)

    @fuzzed(40)
    @given(damaged(good.read_bytes()))
    def check(body: bytes) -> None:
        path = tmp_path / f"bad{suffix}"
        path.write_bytes(body)
        with read_or_refused():
            read_weights(path)

    check()


def a_program() -> str:
    return realize(parse("tanh(x)"), FixedFormat.parse("s6.3"), FixedFormat.parse("s4.3")).program.to_json()


@fuzzed(60)
@given(disturbed(json.loads(a_program())))
def test_a_disturbed_program_is_refused_or_sound(body: Any) -> None:
    with read_or_refused():
        program = Program.from_json(json.dumps(body))
        assert Program.from_json(program.to_json()) == program


@pytest.fixture(scope="module")
def unit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unit")
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["compile", "tanh(x)", "--in", "s6.3", "--out", "s4.3", "-o", str(folder)]) == 0
    return folder / "unit.json"


def test_a_disturbed_description_of_a_unit_is_refused(unit: Path) -> None:
    @fuzzed(60)
    @given(disturbed({"units": [json.loads(unit.read_text())]}))
    def check(body: Any) -> None:
        path = unit.parent / "manifest.json"
        path.write_text(json.dumps(body))
        with read_or_refused():
            for request in read_requests(path):
                assert re.fullmatch(r"\w+", request.unit.name), "it names a folder"
                assert isinstance(request.unit.lanes, int)
                request.unit.read_table()

    check()


def test_a_damaged_table_is_refused(unit: Path) -> None:
    table = unit.parent / "unit.table.npy"
    good = table.read_bytes()

    @fuzzed(40)
    @given(damaged(good))
    def check(body: bytes) -> None:
        table.write_bytes(body)
        with read_or_refused():
            assert read_requests(unit)[0].unit.read_table().ndim == 1

    try:
        check()
    finally:
        table.write_bytes(good)
