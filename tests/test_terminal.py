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
    assert capsys.readouterr().err == "align: 2/3 loss 2\n"


def test_tables_away_from_a_terminal_are_wide():
    assert table_console().width == PLAIN_WIDTH
