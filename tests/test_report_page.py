"""The page of a report, on figures made up for it; ``test_run`` looks at that of a real run."""

from __future__ import annotations

import json
import re
import xml.dom.minidom
from html.parser import HTMLParser

import numpy as np
import pytest
from jinja2 import UndefinedError
from matplotlib.figure import Figure

from sw.report import figures
from sw.report.page import FORMATS, look_up, page, written

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """What a reader meets in an HTML text: figures, references, elements, cells with a bare number."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.figures: list[tuple[str, str, str]] = []
        """(path, format, text) of every figure."""
        self.references: list[str] = []
        self.elements: set[str] = set()
        self.bare: list[str] = []
        """Numbers in cells of tables, but for a row's name, that are no figures."""
        self._open: list[str] = []
        self._figure: tuple[str, str] | None = None
        self._cell = 0
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.elements.add(tag)
        self.references += [found[key] for key in ("src", "href", "xlink:href") if key in found]
        self._cell = 0 if tag == "tr" else self._cell + (tag == "td")
        if tag == "data":
            self._figure = found["data-key"], found["data-how"]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        self._figure = None if tag == "data" else self._figure

    def handle_data(self, data):
        if self._figure:
            self.figures.append((*self._figure, data))
        elif "td" in self._open and self._cell > 1 and re.search(r"\d", data):
            self.bare.append(data)


def path_of(summary, key):
    """A path as the page writes it, back as keys and indices."""
    found = []
    for word in key.split("/"):
        here = look_up(summary, tuple(found))
        found.append(int(word) if isinstance(here, list) else word)
    return tuple(found)


def check_page(text: str, summary) -> Page:
    """Every figure is the summary's, nothing is fetched, nothing runs."""
    found = Page(text)
    assert found.figures
    for key, how, shown in found.figures:
        assert shown == written(look_up(summary, path_of(summary, key)), how), key
    assert found.bare == []
    assert [r for r in found.references if not r.startswith(("#", "data:"))] == []
    assert not found.elements & {"script", "iframe", "object", "embed", "img", "audio", "video"}
    assert not re.search(r"@import|url\((?!#)[^)]", text.replace('url("#', "url(#"))
    return found


COMPARED = {
    "runs": ["runs/a", "runs/<b>"],
    "config": {"evolve.generations": [10, None]},
    "versions": {},
    "accuracy": {
        "original": {
            "mean": [0.5, 0.625],
            "std": [None, 0.01],
            "n": [1, 3],
            "difference": 0.125,
            "error": None,
        }
    },
    "total": {"xc7": [131.0, None]},
    "family": None,
    "sites": {
        "norm": {"expression": ["x", None], "r2_fixed": [0.9, None], "lut": [1.0, None], "mhz": [None, None]}
    },
}


def test_every_figure_is_an_entry_of_the_summary_and_nothing_is_fetched():
    text = page("compare.html", COMPARED, names={"original": "original"})
    found = check_page(text, COMPARED)
    shown = {key: shown for key, _, shown in found.figures}
    assert shown["accuracy/original/mean/1"] == "62.50 %"
    assert shown["accuracy/original/difference"] == "12.50"
    assert shown["accuracy/original/std/0"] == "-"
    assert shown["config/evolve.generations/1"] == "-"
    assert shown["runs/1"] == "runs/<b>", "what comes from files is text, whatever is in it"


def test_a_figure_that_the_summary_lacks_is_an_error_not_a_gap():
    with pytest.raises(KeyError, match="mean"):
        page("compare.html", COMPARED | {"accuracy": {"original": {}}}, names={"original": "original"})
    with pytest.raises(UndefinedError):
        page("compare.html", {"runs": ["a", "b"]}, names={})


@pytest.mark.parametrize(
    ("value", "how", "text"),
    [
        (589824, "count", "589\u202f824"),
        (1093.66, "one", "1\u202f093.7"),
        (0.99188, "percent", "99.19 %"),
        (0.99188, "points", "99.19"),
        (130.6, "count", "131"),
        (9.96, "times", "10.0"),
        (24.4, "times", "24"),
        ("0123456789abcdef", "digest", "0123456789ab"),
        (None, "count", "-"),
    ],
)
def test_how_figures_are_written(value, how, text):
    assert written(value, how) == text
    assert how in FORMATS


def test_pictures_are_valid_take_the_pages_colours_and_share_no_names():
    def drawn(name):
        with figures._figure(name, 3, 2) as figure:
            panel = figure.subplots()
            panel.hexbin(np.arange(9.0), np.arange(9.0), rasterized=True)
            panel.plot([0, 9], [0, 9], label="a < b")
            panel.legend()
            return str(figures.svg(figure, 'says "a < b"'))

    texts = [drawn("one"), drawn("two")]
    names = []
    for text in texts:
        element = xml.dom.minidom.parseString(text).documentElement
        assert element.tagName == "svg"
        assert not element.hasAttribute("width")
        assert element.getAttribute("aria-label") == 'says "a < b"'
        assert "currentColor" in text
        assert figures.INK not in text
        names.append(set(re.findall(r' id="([^"]+)"', text)))
        references = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
        assert references == names[-1]
    assert names[0].isdisjoint(names[1])
    assert drawn("one") == texts[0]


def test_a_figure_without_a_picture_of_its_own_has_no_leftovers():
    assert "metadata" not in figures.svg(Figure(), "empty")
    json.dumps(COMPARED)
