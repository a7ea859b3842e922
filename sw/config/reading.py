"""Configurations from TOML files, with an answer to every wrong key and value."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import sys
import tomllib
import typing
from pathlib import Path
from typing import Any

from sw.config.regimes import REGIMES
from sw.config.sections import AlignConfig, RunConfig
from sw.ir.errors import InputError

PLACES = (("model", "checkpoint"), ("data", "root"))
NEUTRAL = (
    ("data", "workers"),
    ("evolve", "jobs"),
    ("evolve", "scheduler"),
    ("verify", "jobs"),
    ("synth", "jobs"),
)
"""Keys on which no result depends."""


def load(path: str | Path, overrides: tuple[str, ...] = ()) -> RunConfig:
    """Read a run's TOML file.

    Args:
        path: The file; paths inside it are relative to its folder.
        overrides: ``section.key=value`` texts that win over the file; the value is written as in TOML,
            and a bare word counts as a string.

    Raises:
        InputError: No such file, not TOML, an unknown key, or a value of the wrong type or range.
    """
    path = Path(path)
    try:
        body = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"configuration '{path}' cannot be read: {error.strerror}") from error
    except ValueError as error:  # not UTF-8, not TOML, or a number of thousands of digits
        raise InputError(f"configuration '{path}' is not TOML: {error}") from error
    except RecursionError as error:
        raise InputError(f"configuration '{path}' must not be nested so deeply") from error
    _leave_regime(body, overrides)
    for text in overrides:
        _override(body, text)
    _resolve_paths(body, path.parent)
    body.setdefault("name", path.stem)
    config = from_dict(body)
    if config.evolve.weights == "sensitivity" and not config.capture.sensitivity:
        raise InputError("configuration key 'evolve.weights' must be none where capture.sensitivity is false")
    return config


def without_run(overrides: tuple[str, ...] = ()) -> RunConfig:
    """The defaults, but for overrides, for what works on files alone.

    Raises:
        InputError: As ``load``.
    """
    body: dict[str, Any] = {"name": "none", "model": {"name": "none"}}
    for text in overrides:
        _override(body, text)
    return from_dict(body)


def from_dict(body: dict[str, Any]) -> RunConfig:
    """A checked configuration from nested dicts; the inverse of ``RunConfig.to_dict``."""
    return typing.cast(RunConfig, _build(RunConfig, body, ""))


def digest(config: RunConfig, *parts: str, places: bool = True) -> str:
    """sha256 of the whole configuration, or of parts of it: sections, or keys such as ``unit.lanes``.

    What changes nothing but time is left out (``NEUTRAL``), and so is where files lie (``PLACES``) without
    ``places``: a project may move.

    Raises:
        KeyError: There is no such part.
    """
    body = config.to_dict()
    for section, key in NEUTRAL if places else (*NEUTRAL, *PLACES):
        del body[section][key]
    picked = {part: _part(body, part) for part in parts} if parts else body
    return hashlib.sha256(json.dumps(picked, sort_keys=True).encode()).hexdigest()


def _part(body: dict[str, Any], part: str) -> Any:
    section, _, key = part.partition(".")
    return body[section][key] if key else body[section]


def _override(body: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"override must look like 'section.key=value', not {text!r}")
    try:
        parsed = tomllib.loads(f"v = {value}")["v"]
    except (ValueError, RecursionError):
        parsed = value
    *sections, last = key.strip().split(".")
    for section in sections:
        body = body.setdefault(section, {})
        if not isinstance(body, dict):
            raise InputError(f"override {text!r} must name a section and a key in it")
    body[last] = parsed


def _leave_regime(body: dict[str, Any], overrides: tuple[str, ...]) -> None:
    """Where another regime is asked for, forget what the file has from its own, as a run's file has."""
    asked: dict[str, Any] = {}
    for text in overrides:
        _override(asked, text)
    align, wanted = body.get("align"), asked.get("align")
    if not (isinstance(align, dict) and isinstance(wanted, dict)):
        return
    former = align.get("regime", AlignConfig().regime)
    if wanted.get("regime", former) == former or former not in list(REGIMES):  # it may be of any type here
        return
    filled = dataclasses.asdict(AlignConfig(**REGIMES[former]))
    for key in {key for settings in REGIMES.values() for key in settings}:
        if key in align and align[key] == filled[key]:
            del align[key]


def _resolve_paths(body: dict[str, Any], folder: Path) -> None:
    for section, key in PLACES:
        table = body.get(section)
        if isinstance(table, dict) and isinstance(table.get(key), str) and table[key]:
            if "\0" in table[key]:
                raise InputError(f"configuration key '{section}.{key}' must be a path, not {table[key]!r}")
            table[key] = str((folder / table[key]).resolve())


def _build(cls: type, body: Any, where: str) -> Any:
    if not isinstance(body, dict):
        raise InputError(f"configuration key '{where}' must be a table, not {body!r}")
    if cls is AlignConfig:
        body = _preset(body) | body
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    for key, value in body.items():
        name = f"{where}.{key}" if where else key
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            near = f"{where}.{close[0]}" if close and where else "".join(close)
            hint = f"did you mean '{near}'?" if near else f"there are: {', '.join(known)}"
            raise InputError(f"unknown configuration key '{name}'; {hint}")
        values[key] = _convert(hints[key], value, name)
    for name, f in known.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise InputError(f"configuration lacks the key '{f'{where}.' if where else ''}{name}'")
    return cls(**values)


def _preset(body: dict[str, Any]) -> dict[str, Any]:
    """What the named regime fills in; an unknown one is refused later, with all other choices."""
    regime = body.get("regime")
    return REGIMES.get(regime, {}) if isinstance(regime, str) else {}


def _convert(hint: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, name)
    origin = typing.get_origin(hint) or hint
    if origin is tuple and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if origin is float and isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > sys.float_info.max:
            raise InputError(
                f"configuration key '{name}' must be a number, not one of {len(str(value))} digits"
            )
        return float(value)
    if isinstance(value, origin) and isinstance(value, bool) == (origin is bool):
        return value
    wanted = {"str": "a string", "int": "a whole number", "float": "a number", "bool": "true or false"}
    article = wanted.get(origin.__name__, "a list of strings" if origin is tuple else "a table")
    raise InputError(f"configuration key '{name}' must be {article}, not {value!r}")
