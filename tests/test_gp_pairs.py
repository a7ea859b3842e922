"""Files of pairs: what is in them, and every way in which they can be wrong."""

import subprocess
import sys
import zipfile

import numpy as np
import pytest

from gp.pairs import load_pairs, read_sites
from sw.ir.errors import InputError

GOOD = np.linspace(-2.0, 3.0, 20, dtype=np.float32)


def save(tmp_path, **arrays):
    np.savez(tmp_path / "pairs.npz", **arrays)
    return tmp_path / "pairs.npz"


def test_sites_come_in_the_files_order_with_their_reach(tmp_path):
    path = save(tmp_path, **{"b.norm1_x": GOOD, "b.norm1_y": GOOD, "a_y": GOOD, "a_x": 2 * GOOD})
    sites = read_sites(path)
    assert [(s.site, s.num, s.absmax) for s in sites] == [("b.norm1", 20, 3.0), ("a", 20, 6.0)]
    assert sites[0].sha256 != sites[1].sha256
    assert read_sites(path) == sites
    assert not sites[0].weighted


def test_weights_are_optional_a_site_and_count_in_the_hash(tmp_path):
    pairs, weights = {"s_x": GOOD, "s_y": GOOD, "t_x": GOOD, "t_y": GOOD}, np.linspace(0, 1, 20)
    plain, _ = read_sites(save(tmp_path, **pairs))
    path = save(tmp_path, **pairs, s_w=weights)
    s, t = read_sites(path)
    assert (s.weighted, t.weighted) == (True, False)
    assert len({plain.sha256, s.sha256}) == 2
    assert t.sha256 == plain.sha256
    assert read_sites(save(tmp_path, **pairs, s_w=2 * weights))[0].sha256 != s.sha256
    np.testing.assert_array_equal(load_pairs(path, "s")[2], 2 * weights)


def test_hash_depends_on_values_not_on_layout(tmp_path):
    wide = np.stack([GOOD, -GOOD], axis=1)
    strided, plain = (read_sites(save(tmp_path, s_x=x, s_y=GOOD))[0] for x in (wide[:, 0], GOOD))
    assert strided == plain


def test_pairs_are_loaded_as_they_are(tmp_path):
    path = save(tmp_path, s_x=GOOD, s_y=2 * GOOD, t_x=-GOOD, t_y=GOOD)
    x, y, w = load_pairs(path, "t")
    assert (x.dtype, w) == (np.float32, None)
    np.testing.assert_array_equal((x, y), (-GOOD, GOOD))
    with pytest.raises(InputError, match=r"pairs '.*pairs\.npz' must hold site 'u'"):
        load_pairs(path, "u")


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"s_x": GOOD}, "must hold 's_y' beside 's_x'"),
        ({"s_y": GOOD}, "must hold 's_x' beside 's_y'"),
        ({"sx": GOOD, "sy": GOOD}, "must be named '<site>_x', '<site>_y' or '<site>_w', not 'sx'"),
        ({"_x": GOOD, "_y": GOOD}, "must be named '<site>_x', '<site>_y' or '<site>_w', not '_x'"),
        ({}, "must hold vectors '<site>_x' and '<site>_y', not nothing"),
        ({"s_x": GOOD, "s_y": GOOD[1:]}, "'s_x' and 's_y' must be vectors of equal length"),
        ({"s_x": GOOD * np.nan, "s_y": GOOD}, "'s_x' must be finite"),
        ({"s_x": GOOD * 1e20, "s_y": GOOD}, r"largest \|x\| of site 's' must be 1e-09..1e\+09, not 3e\+20"),
        ({"s_x": GOOD * 1e-20, "s_y": GOOD}, r"largest \|x\| of site 's' must be 1e-09..1e\+09, not 3e-20"),
        ({"s_x": GOOD, "s_y": GOOD * 1e20}, r"largest \|y\| of site 's' must be 1e-09..1e\+09, not 3e\+20"),
        ({"s_x": GOOD, "s_y": GOOD * 1e-20}, r"largest \|y\| of site 's' must be 1e-09..1e\+09, not 3e-20"),
        (
            {"s_x": GOOD, "s_y": 1e8 + GOOD.astype(np.float64)},
            r"mean of y at site 's' must be at most 100000 times its spread, not .*; subtract it first",
        ),
        ({"../s_x": GOOD, "../s_y": GOOD}, r"must be usable as file names, not '\.\./s'"),
        ({"s_x": np.array([None] * 20), "s_y": GOOD}, "must be an npz file of numbers"),
        ({"s_x": GOOD[:3], "s_y": GOOD[:3]}, "pairs of site 's' must be at least 16, not 3"),
        ({"s_x": GOOD * 0 + 2, "s_y": GOOD}, "'s_x' must vary, not be 2 everywhere"),
        ({"s_x": GOOD, "s_y": GOOD * 0 + 1}, "'s_y' must vary, not be 1 everywhere"),
        ({"s_w": GOOD, "s_y": GOOD}, "must hold 's_x' beside 's_[wy]'"),
        ({"s_w": GOOD, "s_x": GOOD}, "must hold 's_y' beside 's_[wx]'"),
        (
            {"s_x": GOOD, "s_y": GOOD, "s_w": GOOD[1:]},
            r"'s_x', 's_y' and 's_w' must be vectors of equal length, not of .*\(20,\), \(20,\) and \(19,\)",
        ),
        ({"s_x": GOOD, "s_y": GOOD, "s_w": GOOD}, "'s_w' must not be negative, not -2"),
        ({"s_x": GOOD, "s_y": GOOD, "s_w": GOOD * 0}, "'s_w' must not be zero everywhere"),
        (
            {"s_x": GOOD, "s_y": GOOD, "s_w": GOOD * np.inf},
            "'s_w' must be finite, not NaN or infinite at 20 places",
        ),
        ({"s_x": GOOD, "s_y": GOOD, "s_w": GOOD * 1j}, "'s_w' must be real numbers, not complex64"),
        (
            {"s_x": GOOD, "s_y": GOOD, "s_w": GOOD > 2.3},
            "'s_w' must be real numbers, not bool",
        ),
        (
            {"s_x": GOOD, "s_y": GOOD, "s_w": 1.0 * (GOOD > 2.3)},
            "pairs of positive weight of site 's' must be at least 16, not 3",
        ),
        (
            {"s_x": np.r_[GOOD[:2], np.ones(18)], "s_y": GOOD, "s_w": np.r_[0, 0, np.ones(18)]},
            "'s_x' must vary, not be 1 everywhere",
        ),
    ],
)
def test_wrong_arrays(tmp_path, arrays, text):
    with pytest.raises(InputError, match=text):
        read_sites(save(tmp_path, **arrays))


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"pairs '.*none\.npz' cannot be read: No such file"):
        read_sites(tmp_path / "none.npz")


def test_files_that_are_no_npz(tmp_path):
    text, array, cut = tmp_path / "text.npz", tmp_path / "array.npy", tmp_path / "cut.npz"
    text.write_text("x,y\n1,2\n")
    np.save(array, GOOD)
    cut.write_bytes(save(tmp_path, s_x=GOOD, s_y=GOOD).read_bytes()[:200])
    for path in (text, cut):
        with pytest.raises(InputError, match="must be an npz file of numbers"):
            read_sites(path)
    with pytest.raises(InputError, match="must be an npz file, not a single array"):
        read_sites(array)


def test_a_damaged_compressed_file(tmp_path):
    np.savez_compressed(tmp_path / "pairs.npz", s_x=GOOD, s_y=GOOD)
    body = bytearray((tmp_path / "pairs.npz").read_bytes())
    body[60:80] = bytes(20)
    (tmp_path / "pairs.npz").write_bytes(body)
    with pytest.raises(InputError, match="must be an npz file of numbers"):
        read_sites(tmp_path / "pairs.npz")


MEMORY = """
import sys
from pathlib import Path
from gp.pairs import read_sites

def peak():  # of this process alone: ru_maxrss may be that of the one that started it
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

before = peak()
assert read_sites(Path(sys.argv[1]))[0].num == 10_000_000
print((peak() - before) / 1024)
"""


def test_a_small_file_that_unpacks_to_more_than_there_is_room_for(tmp_path, monkeypatch):
    path = tmp_path / "pairs.npz"
    np.savez_compressed(path, s_x=np.zeros(2**17), s_y=np.zeros(2**17))
    assert path.stat().st_size < 10_000
    monkeypatch.setattr("sw.arrays.os.sysconf", lambda name: 1024)
    message = r"an array of '.*pairs\.npz' must fit in half of the memory, 0\.0 GiB, not unpack to 0\.0 GiB"
    with pytest.raises(InputError, match=message):
        read_sites(path)


def test_a_header_that_promises_more_than_the_file_holds(tmp_path):
    path = tmp_path / "pairs.npz"
    np.savez(path, s_x=GOOD, s_y=GOOD)
    with zipfile.ZipFile(path) as stored:
        arrays = {name: stored.read(name) for name in stored.namelist()}
    with zipfile.ZipFile(path, "w") as stored:
        for name, body in arrays.items():
            stored.writestr(name, body.replace(b"(20,), }            ", b"(20000000000000,), }"))
    with pytest.raises(InputError, match=r"pairs '.*' must be an npz file of numbers"):
        read_sites(path)


def test_ten_million_samples_are_read_within_twice_their_size(tmp_path):
    x = np.arange(10_000_000, dtype=np.float32)
    path = save(tmp_path, s_x=x, s_y=x, s_w=x)
    done = subprocess.run([sys.executable, "-c", MEMORY, path], capture_output=True, text=True, check=True)
    assert 60 < float(done.stdout) < 240  # MB; the arrays have 120
