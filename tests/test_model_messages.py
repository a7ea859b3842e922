import pytest

from sw.model.messages import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("one\ntwo"), "one"), (OSError(), "OSError"), (RuntimeError(""), "RuntimeError")],
)
def test_first_line_is_the_texts_or_the_type(error, line):
    assert first_line(error) == line
