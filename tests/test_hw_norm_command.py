"""``normforge norm``: what it writes and says, and every way in which it refuses."""

import json

import numpy as np
import pytest

from hw.layernorm import timing
from hw.norm_command import main, read_affine
from sw import cli
from sw.ir.affine import Affine
from sw.ir.formats import FixedFormat
from sw.ir.layernorm import LayerNorm

FORMATS = ("--in", "s8.4", "--out", "s8.5")


def norm(*options):
    return cli.main(["norm", *options, "-o", "out"])


def test_it_writes_a_norm_and_says_what_it_costs(tmp_path, capsys):
    assert norm(*FORMATS, "--channels", "5", "--name", "mine") == 0
    formats = {"input": FixedFormat.parse("s8.4"), "output": FixedFormat.parse("s8.5")}
    wanted = LayerNorm(**formats, channels=5)
    latency, _, words = timing(wanted, "fast")
    assert capsys.readouterr().out.splitlines() == [
        "LayerNorm of 5 channels, s8.4 to s8.5, fast",
        (
            f"5 cycles a row, latency {latency}, row memory {8 * words} bits, "
            f"error at most {wanted.bound_lsb:.3f} LSB"
        ),
        "out/mine.v: top normforge_mine",
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["mine.core", "mine.json", "mine.v"]
    assert "module normforge_mine(" in (tmp_path / "out/mine.v").read_text()


def test_every_option_reaches_the_unit(tmp_path, capsys):
    gamma, beta = np.array([1.0, -0.5, 2.0]), np.array([0.1, 0.0, -0.3])
    np.savez(tmp_path / "a.npz", gamma=gamma, beta=beta.astype(np.float32))
    options = ("--channels", "3", "--rms", "--eps", "0.25", "--variant", "small", "--lanes", "2")
    assert norm(*FORMATS, *options, "--affine", "a.npz", "--affine-bits", "10") == 0
    assert capsys.readouterr().out.startswith("RMSNorm with affine of 3 channels, s8.4 to s8.5, small\n")
    body = json.loads((tmp_path / "out/norm.json").read_text())
    affine = Affine.of(gamma, beta, width=10)
    formats = {"input": FixedFormat.parse("s8.4"), "output": FixedFormat.parse("s8.5")}
    wanted = LayerNorm(**formats, channels=3, eps=0.25, rms=True, affine=affine)
    assert (body["expression"], body["variant"], body["lanes"]) == ("RMSNorm", "small", 2)
    assert (body["eps"], body["bound_lsb"]) == (0.25, wanted.bound_lsb)
    assert tuple(body["affine"]["gamma_raw"]) == affine.gamma_raw
    assert body["affine"]["beta"] == str(affine.beta)


def test_it_is_a_script(tmp_path):
    assert main([*FORMATS, "--channels", "2", "-o", "here"]) == 0
    assert (tmp_path / "here/norm.v").exists()
    assert main([*FORMATS, "--channels", "0", "-o", "there"]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--channels", "0"), "channels must be 1..8192, not 0"),
        (("--channels", "4", "--in", "s17.4"), "input of a norm must have at most 16 bits, not s17.4"),
        (("--channels", "4", "--out", "f8"), "format must look like 's16.11' or 'u8.0', not 'f8'"),
        (("--channels", "4", "--eps", "-1"), "eps must be finite and not negative, not -1.0"),
        (("--channels", "4", "--eps", "nan"), "eps must be finite and not negative, not nan"),
        (("--channels", "4", "--lanes", "65"), "lanes must be 1..64, not 65"),
        (
            ("--channels", "4", "--variant", "tiny"),
            "variant of a norm must be one of small, fast, not 'tiny'",
        ),
        (
            ("--channels", "4", "--name", "a b"),
            "name of a unit must be letters, digits and underscores, not 'a b'",
        ),
        (("--channels", "4", "--affine-bits", "8"), "--affine-bits must come with --affine, not alone as 8"),
        (
            ("--channels", "4", "--affine", "no.npz"),
            "affine 'no.npz' cannot be read: No such file or directory",
        ),
    ],
)
def test_wrong_options_are_one_line(tmp_path, capsys, options, message):
    assert norm(*FORMATS, *options) == 2
    assert capsys.readouterr().err == f"normforge: {message}\n"
    assert not (tmp_path / "out").exists()


FOUR = np.ones(4)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"gamma": FOUR}, "affine 'a.npz' must hold the array 'beta'"),
        ({"gamma": FOUR, "beta": np.ones(3)}, "beta must have as many values as gamma, 4, not 3"),
        (
            {"gamma": np.ones(3), "beta": np.ones(3)},
            "gamma must have one value for each of 4 channels, not 3",
        ),
        (
            {"gamma": np.ones((2, 2)), "beta": FOUR},
            "gamma in 'a.npz' must be a row of numbers, not float64 (2, 2)",
        ),
        (
            {"gamma": FOUR, "beta": np.array(list("abcd"))},
            "beta in 'a.npz' must be a row of numbers, not <U1 (4,)",
        ),
        ({"gamma": 1e300 * FOUR, "beta": FOUR}, "gamma must reach at most 2.34274e+21, not 1e+300"),
        ({"gamma": FOUR, "beta": -1e300 * FOUR}, "beta must reach at most 2.34274e+21, not 1e+300"),
        (
            {"gamma": 2.0**50 * FOUR, "beta": FOUR},
            (
                "every wire of a norm must fit 62 bits, not 77 (gamma up to 1.1259e+15 as s8.-44, "
                "beta up to 1 as s8.6, output s8.5)"
            ),
        ),
        (
            {"gamma": 2.0**61 * FOUR, "beta": 2.0**61 * FOUR},
            (
                "bits of a reciprocal square root must be 2..22, not 71; a narrower output or fewer guard "
                "bits would help "
                "(gamma up to 2.30584e+18 as s8.-55, beta up to 2.30584e+18 as s8.-55, output s8.5)"
            ),
        ),
        ({"gamma": FOUR, "beta": np.array([0, 1, 2, np.inf])}, "beta in 'a.npz' must be finite, not inf"),
    ],
)
def test_a_wrong_affine_is_one_line(tmp_path, capsys, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    assert norm(*FORMATS, "--channels", "4", "--affine", "a.npz") == 2
    assert capsys.readouterr().err == f"normforge: {message}\n"
    assert not (tmp_path / "out").exists()


def test_an_affine_of_too_few_bits_is_refused(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", gamma=FOUR, beta=FOUR)
    assert norm(*FORMATS, "--channels", "4", "--affine", "a.npz", "--affine-bits", "1") == 2
    assert "width of a signed format must be 2..32 bits, not 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no array", "affine 'a.npz' must be an npz file of numbers"),
        (b"", "affine 'a.npz' must be an npz file of numbers"),
        (b"PK\x03\x04 torn", "affine 'a.npz' must be an npz file of numbers"),
        (None, "affine 'a.npz' must be an npz file, not a single array"),
    ],
)
def test_a_file_that_is_no_npz_is_refused(tmp_path, capsys, content, message):
    with (tmp_path / "a.npz").open("wb") as file:
        file.write(content) if content is not None else np.save(file, FOUR)
    assert norm(*FORMATS, "--channels", "4", "--affine", "a.npz") == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "out").write_text("")
    assert norm(*FORMATS, "--channels", "4") == 2
    assert "folder 'out' cannot be written" in capsys.readouterr().err


def test_integers_are_an_affine_too(tmp_path):
    np.savez(tmp_path / "a.npz", gamma=np.array([1, 2]), beta=np.array([0, -1]))
    gamma, beta = read_affine(tmp_path / "a.npz")
    assert (gamma.tolist(), beta.tolist(), gamma.dtype) == ([1.0, 2.0], [0.0, -1.0], np.float64)
