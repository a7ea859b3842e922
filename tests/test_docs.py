import re
from pathlib import Path

from sw.ir.program import ARITY, VERSION, Op

ROOT = Path(__file__).parents[1]


def test_the_specification_lists_every_operation():
    text = (ROOT / "docs/ir.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\d) \| (\d) \|", text, re.MULTILINE)
    assert [(Op(name), (int(a), int(p))) for name, a, p in rows] == [(op, ARITY[op]) for op in Op]
    assert f'"version": {VERSION}' in text
