"""Files of pairs: what is in them, and every way in which they can be wrong."""

import numpy as np
import pytest

from gp.pairs import read_sites
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


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"s_x": GOOD}, "must hold 's_y' beside 's_x'"),
        ({"s_y": GOOD}, "must hold 's_x' beside 's_y'"),
        ({"sx": GOOD, "sy": GOOD}, "must be named '<site>_x' or '<site>_y', not 'sx'"),
        ({"_x": GOOD, "_y": GOOD}, "must be named '<site>_x' or '<site>_y', not '_x'"),
        ({}, "must hold vectors '<site>_x' and '<site>_y', not nothing"),
        ({"s_x": GOOD, "s_y": GOOD[1:]}, "'s_x' and 's_y' must be vectors of equal length"),
        ({"s_x": GOOD * np.nan, "s_y": GOOD}, "'s_x' must be finite"),
        ({"s_x": GOOD * 1e20, "s_y": GOOD}, r"largest \|x\| of site 's' must be 1e-09..1e\+09, not 3e\+20"),
        ({"s_x": GOOD * 1e-20, "s_y": GOOD}, r"largest \|x\| of site 's' must be 1e-09..1e\+09, not 3e-20"),
        ({"../s_x": GOOD, "../s_y": GOOD}, r"must be usable as file names, not '\.\./s'"),
        ({"s_x": np.array([None] * 20), "s_y": GOOD}, "must be an npz file of numbers"),
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
