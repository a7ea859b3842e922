import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sw.config import from_dict
from sw.files import atomic, make_folder, process_rank, read_json, write_json, write_npz, write_text
from sw.ir.errors import InputError

ROOT = Path(__file__).parents[1]
CONFIG = from_dict({"name": "mine", "model": {"name": "vit"}})


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "figures.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"a": float("nan")})
    with pytest.raises(FileNotFoundError), atomic(path):
        (tmp_path / "none").read_text()
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["figures.json"]


def _fill_the_disk(path):
    with atomic(path) as scratch:
        scratch.write_text("{")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_that_cannot_be_written_is_named_and_not_its_scratch(tmp_path):
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(InputError, match=r"folder\.json' must be a file that can be replaced, not a folder$"):
        write_json(tmp_path / "folder.json", {})
    with pytest.raises(InputError, match=r"^'.*/a{300}' cannot be written: File name too long$"):
        write_json(tmp_path / ("a" * 300), {})
    with pytest.raises(InputError, match=r"full\.json' cannot be written: No space left on device$"):
        _fill_the_disk(tmp_path / "full.json")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.json"]


def test_npz_round_trip_is_byte_identical(tmp_path):
    for name in ("a.npz", "b.npz"):
        write_npz(tmp_path / name, {"blocks.0.norm1_x": np.arange(5)})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz") as stored:
        assert stored["blocks.0.norm1_x"].tolist() == [0, 1, 2, 3, 4]


def test_read_json_wrong(tmp_path):
    with pytest.raises(InputError, match=r"'.*none\.json' cannot be read: No such file"):
        read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match=r"'.*bad\.json' is not JSON: "):
        read_json(tmp_path / "bad.json")


def test_make_folder_accepts_one_that_exists(tmp_path):
    assert make_folder(make_folder(tmp_path / "a" / "b")).is_dir()


def test_one_process_writes_whatever_its_rank(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")  # left by something else: there is no WORLD_SIZE
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    write_text(tmp_path / "file", "whole")
    assert (tmp_path / "file").read_text() == "whole"
    monkeypatch.setenv("WORLD_SIZE", "2")
    write_text(tmp_path / "second", "whole")
    assert not (tmp_path / "second").exists(), "the first of two leaves it"


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE"])
def test_an_environment_that_holds_no_number_is_named(monkeypatch, name):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(name, "")
    assert process_rank() in ((0, 2), (0, 1))
    monkeypatch.setenv(name, "-1")
    with pytest.raises(InputError, match=f"^environment variable '{name}' must be a number, not '-1'$"):
        process_rank()


def test_files_are_utf_8_whatever_the_locale(tmp_path):
    """The report holds arrows and thin spaces."""
    script = (
        "from pathlib import Path; from sw.files import read_json, write_json, write_text; "
        "write_text(Path('t'), '\\u2192'); write_json(Path('j'), {'a': '\\u00e9'}); read_json(Path('j'))"
    )
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, **plain})
    assert Path("t").read_bytes() == "\u2192".encode()
