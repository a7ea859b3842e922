"""Public modules of a package: there without an import of their own, loaded when they are named."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType


def modules(package: str, names: Sequence[str]) -> Callable[[str], ModuleType]:
    """A package's ``__getattr__``: imports a module of ``names`` when it is first asked for.

    >>> import gp
    >>> gp.baselines.__name__
    'gp.baselines'
    """

    def attribute(name: str) -> ModuleType:
        if name in names:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module '{package}' has no attribute '{name}'")

    return attribute
