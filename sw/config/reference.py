"""The page of all configuration keys: ``python -m sw.config.reference > docs/configuration.md``."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
import typing
from typing import Any

from sw.config import sections
from sw.config.checks import CHOICES, FAMILIES, RANGES, RATES
from sw.config.sections import RunConfig

INTRODUCTION = """# Configuration keys

<!-- Written by `python -m sw.config.reference > docs/configuration.md` from sw/config/sections.py. -->

A configuration is a TOML file with one table a stage. Only `model.name` must be given; what is not given
has its default. A wrong key, type or range is refused before anything runs; names of models and data
sets when they are first used.

`--set section.key=value` overrides a key on the command line and may come several times; the value is
written as in TOML, and a bare word is a string: `--set evolve.choose=best --set
"synth.families=['ecp5']"`.

`model.checkpoint` and `data.root` are relative to the configuration file, from the command line, too;
`runs_dir` is relative to the current directory. `runs/<name>/config.toml` holds every key of a run with
its value. What `align.regime` fills in, and how training is set, is in [getting the accuracy
back](realign.md)."""
"""What stands above the tables."""
RULES = {
    "name": "a folder's name",
    "seed": "0 or more",
    "synth.families": "some of " + ", ".join(f"`{family}`" for family in FAMILIES),
}
"""Values of the keys that ``check`` looks at one by one."""
DEFAULTS = {"name": "the file's name without `.toml`"}
"""Defaults that reading a file decides."""
TYPES = {"str": "a string", "bool": "`true`, `false`", "dict": "a table", "tuple": "a list of strings"}


def page() -> str:
    """The whole page, in Markdown."""
    parts = [INTRODUCTION, "## The run", _table(RunConfig, "")]
    hints = typing.get_type_hints(RunConfig)
    for key in (name for name, hint in hints.items() if dataclasses.is_dataclass(hint)):
        parts += [f"## {key}", _text(inspect.getdoc(hints[key]) or ""), _table(hints[key], f"{key}.")]
    return "\n\n".join(parts) + "\n"


def _table(section: type, prefix: str) -> str:
    meanings, hints = meanings_of(section), typing.get_type_hints(section)
    rows = ["| key | default | values | meaning |", "|---|---|---|---|"]
    for field in dataclasses.fields(section):
        if not dataclasses.is_dataclass(hints[field.name]):
            key = prefix + field.name
            cells = (f"`{key}`", _default(field, key), _values(key, hints[field.name]), meanings[field.name])
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def meanings_of(section: type) -> dict[str, str]:
    """The text below each key of a section, as a cell of a table; none where there is no text."""
    (body,) = (
        node.body
        for node in ast.parse(inspect.getsource(sections)).body
        if isinstance(node, ast.ClassDef) and node.name == section.__name__
    )
    found = {}
    for key, below in itertools.pairwise(body):
        match key, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = _text(text).replace("|", "\\|")
    return found


def _text(docstring: str) -> str:
    return " ".join(docstring.split()).replace("``", "`")


def _default(field: dataclasses.Field[Any], key: str) -> str:
    if key in DEFAULTS:
        return DEFAULTS[key]
    if field.default_factory is not dataclasses.MISSING:
        return f"`{field.default_factory()}`"
    return "must be given" if field.default is dataclasses.MISSING else f"`{json.dumps(field.default)}`"


def _values(key: str, hint: Any) -> str:
    if key in RULES:
        return RULES[key]
    if key in CHOICES:
        return ", ".join(f"`{choice}`" for choice in CHOICES[key])
    if key in RANGES:
        low, high = RANGES[key]
        return f"{_number(low)} to {_number(high)}"
    return "above 0" if key in RATES else TYPES[(typing.get_origin(hint) or hint).__name__]


def _number(value: float) -> str:
    """As short as it can be typed; beyond a float's digits as a power of two."""
    if value > 2**53:
        return f"2^{int(value).bit_length() - 1}"
    return f"{value:g}".replace("e+0", "e")


if __name__ == "__main__":
    print(page(), end="")
