import contextlib
import os

import pytest

import sw.terminal
from sw.terminal import PLAIN_WIDTH, progress, table_console


def test_progress_away_from_a_terminal_is_a_plain_line_now_and_then(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr(sw.terminal.time, "monotonic", lambda: now)
    with progress("align", 3) as step:
        step("loss 1")
        now = 30.0
        step("loss 2")
        step("loss 3")
    assert capsys.readouterr().err == "align: 2/3, 15 s left loss 2\n"


def test_time_left_counts_what_this_process_did(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr(sw.terminal.time, "monotonic", lambda: now)
    with progress("align", 1000, done=400) as step:
        now = 60.0
        step(count=6)
        now = 4000.0
        step(count=584)
    shown = "align: 406/1000, 1 h 39 min left\nalign: 990/1000, 1 min 8 s left\n"
    assert capsys.readouterr().err == shown


def test_only_the_first_process_shows_progress(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(sw.terminal, "PLAIN_LINE_EVERY_S", -1.0)
    with progress("align", 3) as step:
        step()
    assert capsys.readouterr().err == ""


def test_a_reader_of_a_table_that_leaves_is_the_callers_to_deal_with():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        console = table_console()
        console.file = gone
        with pytest.raises(BrokenPipeError):
            console.print("a table")
        with contextlib.suppress(BrokenPipeError):  # what is still in the buffer
            gone.close()


def test_tables_away_from_a_terminal_are_wide():
    assert table_console().width == PLAIN_WIDTH
