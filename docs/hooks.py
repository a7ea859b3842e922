"""Hooks of MkDocs: README.md is the home page, and links that leave docs/ work as in the repository.

Every file that a page links to becomes part of the site under its own path; a Markdown file becomes a page.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HOME = "README.md"
LINK = re.compile(r"(?<=\]\()(?![a-z]+:)([^)#\s]+)")
"""The path of a relative link in Markdown."""

_sources: dict[str, str] = {}
"""Page of the site -> file of the repository."""


def on_files(files: Any, config: Any) -> Any:
    """Add the home page and all files that pages link to, however far."""
    from mkdocs.structure.files import File

    waiting = [HOME, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        uri = site_path(path)
        _sources[uri] = path
        if files.get_file_from_path(uri) is None:
            files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
        if path.endswith(".md"):
            new = {target for _, target in links(path) if (ROOT / target).is_file()} - seen
            seen |= new
            waiting += sorted(new)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Make the links of a page those of the site."""
    del config, files
    return moved(markdown, _sources[page.file.src_uri])


def moved(markdown: str, path: str) -> str:
    """Turn a file's links between places in the repository into links between places on the site."""
    folder = posixpath.dirname(site_path(path)) or "."

    def link(found: re.Match[str]) -> str:
        target = _joined(path, found[1])
        return posixpath.relpath(site_path(target), folder) if (ROOT / target).is_file() else found[1]

    return LINK.sub(link, markdown)


def links(path: str) -> Iterator[tuple[str, str]]:
    """The relative links of a Markdown file, as they are written and as paths in the repository."""
    for link in LINK.findall((ROOT / path).read_text()):
        yield link, _joined(path, link)


def _joined(path: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def site_path(path: str) -> str:
    """Where a file of the repository is on the site."""
    return "index.md" if path == HOME else path.removeprefix("docs/")
