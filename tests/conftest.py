"""Strictness for every test."""

import pytest
from hypothesis import settings

settings.register_profile("normforge", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("normforge")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """A test that writes to the current folder writes to its own."""
    monkeypatch.chdir(tmp_path)
