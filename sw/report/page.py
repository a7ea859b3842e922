"""``report/index.html``: what removing LayerNorm bought, in one file that needs no network.

Every figure in it is an entry of ``summary.json``: the template can only name its path, and the page
carries path and value in a ``<data>`` element around the text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from hw.synth import HARD_BLOCK_FAMILY, OPERATOR_FAMILY
from sw.report import figures
from sw.run_dir import RunDir

THIN_SPACE = "\u202f"
"""Between thousands; no line breaks at it."""


MEASURED_ON = {"hard_block_family": HARD_BLOCK_FAMILY, "operator_family": OPERATOR_FAMILY}
"""The families of what is measured on one alone."""


def _grouped(value: float, decimals: int) -> str:
    return f"{value:,.{decimals}f}".replace(",", THIN_SPACE)


FORMATS: dict[str, Callable[[Any], str]] = {
    "text": str,
    "count": lambda value: _grouped(value, 0),
    "percent": lambda value: f"{100 * value:.2f} %",
    "points": lambda value: f"{100 * value:.2f}",
    "share": lambda value: f"{100 * value:.1f} %",
    "one": lambda value: _grouped(value, 1),
    "two": lambda value: f"{value:.2f}",
    "four": lambda value: f"{value:.4f}",
    "times": lambda value: f"{value:.0f}" if value >= 10 else f"{value:.1f}",
    "digest": lambda value: value[:12],
}
"""How a figure is written."""


def look_up(summary: Any, path: tuple[str | int, ...]) -> Any:
    """The entry of a summary that a path of keys and indices names."""
    for key in path:
        summary = summary[key]
    return summary


def written(value: Any, how: str) -> str:
    """The text of a figure; what was not measured is a dash."""
    return "-" if value is None else FORMATS[how](value)


def render(run: RunDir, summary: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """The page of a run.

    Args:
        run: For the pictures: captures, functions and programs.
        summary: As ``sw.report.summary.summarize`` gives it.
        names: Of the stages at which accuracy is measured, as tables call them.
    """
    functions = run.read_functions()
    family = next(iter(summary["total"]))
    pictures = {
        "accuracy": figures.accuracies(summary["accuracy"], names),
        "luts": figures.luts(summary["comparison"]["units"], family),
        "roofline": figures.roofline(summary["traffic"]),
        "moved": figures.moved(summary["traffic"]),
        "sites": {name: figures.site(run, name, entry) for name, entry in functions.items()},
    }
    return page("run.html", summary, pictures=pictures, names=names, family=family, **MEASURED_ON)


def page(template: str, summary: Mapping[str, Any], **more: Any) -> str:
    """A template with the figures of a summary.

    In a template ``fig('percent', 'accuracy', 'original', 'mean')`` writes the entry of that path, whose
    beginning may be a tuple.
    """
    environment = Environment(
        loader=PackageLoader("sw.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def fig(how: str, first: str | tuple[str | int, ...], *rest: str | int) -> Markup:
        path = (*([first] if isinstance(first, str) else first), *rest)
        value = look_up(summary, path)
        key = escape("/".join(map(str, path)))
        return Markup('<data value="{}" data-key="{}" data-how="{}">{}</data>').format(
            "" if value is None else value, key, how, written(value, how)
        )

    return environment.get_template(template).render(s=summary, fig=fig, **more)
