"""Files of arrays that cannot be used, in words that advise nothing unsafe."""

import io
import zipfile

import numpy as np
import pytest

from sw.arrays import opened_npz
from sw.files import read_npy
from sw.ir.errors import InputError


def saved(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def torn_zip():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("gamma.npy", saved(np.ones(4)))
    return buffer.getvalue()[:60]


BROKEN = [  # named, for a zip holds the time, and all workers must find the same tests
    pytest.param(b"", "an empty one", id="empty"),
    pytest.param(b"x,y\n1,2\n", "a file of another kind", id="text"),
    pytest.param(b"no", "a file of another kind", id="short"),
    pytest.param(torn_zip(), "one that is damaged or holds objects", id="torn"),
    pytest.param(saved(np.array([None])), "one that is damaged or holds objects", id="objects"),
    pytest.param(saved(np.ones(4))[:90], "one that is damaged or holds objects", id="cut"),
]


@pytest.mark.parametrize(("content", "found"), BROKEN)
def test_a_file_that_is_no_npy_of_numbers_is_said_to_be_none(tmp_path, content, found):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_npy(path)
    assert str(raised.value) == f"'{path}' must be an npy file of numbers, not {found}"


@pytest.mark.parametrize(("content", "found"), BROKEN)
def test_a_file_that_is_no_npz_of_numbers_is_said_to_be_none(tmp_path, content, found):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(InputError) as raised, opened_npz(path, "pairs"):
        pass
    assert str(raised.value) == f"pairs '{path}' must be an npz file of numbers, not {found}"


def test_one_array_is_no_npz_and_the_other_way_round(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(4))
    np.savez(tmp_path / "a.npz", x=np.ones(4))
    message = r"^affine '.*a\.npy' must be an npz file, not a single array$"
    with pytest.raises(InputError, match=message), opened_npz(tmp_path / "a.npy", "affine"):
        pass
    with pytest.raises(InputError, match=r"^'.*a\.npz' must be an npy file of one array, not an npz$"):
        read_npy(tmp_path / "a.npz")
    assert read_npy(tmp_path / "a.npy").tolist() == [1.0] * 4
    with opened_npz(tmp_path / "a.npz", "affine") as arrays:
        assert arrays["x"].tolist() == [1.0] * 4


@pytest.mark.parametrize("read", [read_npy, lambda path: opened_npz(path, "pairs").__enter__()])
def test_a_file_that_is_not_there_is_told(tmp_path, read):
    with pytest.raises(InputError, match=r"'.*none' cannot be read: No such file or directory$"):
        read(tmp_path / "none")
