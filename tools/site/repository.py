"""Links of documents to the rest of the repository: on the site what they lead to is a page, too."""

import json
import posixpath
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from tools.site.markdown import outside_code, unlisted

ROOT = Path(__file__).parents[2]

_DOCS = "docs/"
_HOME = {"README.md": "index.md"}
_OUTSIDE = "repository/"
_LINK = re.compile(r"(?<=\]\()(?P<place>[^)\s#:]+)(?P<anchor>#[^)\s]*)?(?=\))")
_PICTURES = {".png", ".svg", ".jpg"}
_LANGUAGES = {".py": "python", ".toml": "toml", ".json": "json", ".yaml": "yaml", ".yml": "yaml", ".proto": "protobuf"}


def place_of(path: str) -> str:
    """Return where something of the repository is on the site.

    Args:
        path: from the top of the repository.

    Returns:
        Its place below the site's docs: a document's own, a page that shows it, or a picture.
    """
    if path.startswith(_DOCS):
        return source_of(path).removeprefix(_DOCS)
    if path in _HOME:
        return _HOME[path]
    if (ROOT / path / "README.md").is_file():
        return f"{_OUTSIDE}{path}/README.md"
    if (ROOT / path).is_dir():
        return f"{_OUTSIDE}{path}/index.md"
    return _OUTSIDE + (path if Path(path).suffix in {".md", *_PICTURES} else f"{path}.md")


def linked(path: str, text: str) -> Iterator[str]:
    """Give what a document links to that is in the repository, from its top, and no document of docs/."""
    found: list[str] = []

    def note(part: str) -> str:
        found.extend(target for link in _LINK.finditer(part) if (target := _target(path, link["place"])))
        return part

    outside_code(note, text)
    yield from (each for each in found if not source_of(each).startswith(_DOCS))


def with_links(path: str, text: str, here: str) -> str:
    """Return a document with its links as the site has them.

    Args:
        path: the document, from the top of the repository.
        text: its content.
        here: its page's place on the site.
    """

    def moved(link: re.Match[str]) -> str:
        target = _target(path, link["place"])
        if not target:
            return link[0]
        return posixpath.relpath(place_of(target), posixpath.dirname(here) or ".") + (link["anchor"] or "")

    return outside_code(lambda part: _LINK.sub(moved, part), text)


def outside(documents: Iterator[tuple[str, str]]) -> dict[str, str | Path]:
    """Return what the site has of the repository outside docs/, by its path: the text of a page, or a picture's file.

    Args:
        documents: the path and text of each that is there without them.
    """
    pages: dict[str, str | Path] = {}
    waiting = list(documents)
    while waiting:
        path, text = waiting.pop()
        for target in linked(path, text):
            if target not in pages and target not in _HOME:
                pages[target] = content = _shown(target)
                if isinstance(content, str) and source_of(target).endswith(".md"):
                    waiting.append((source_of(target), content))
    return pages


def source_of(path: str) -> str:
    """Return the file that a link's target shows: of a folder its README.md, where it has one."""
    return f"{path}/README.md" if (ROOT / path / "README.md").is_file() else path


def _target(path: str, place: str) -> str:
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), unquote(place)))
    return target if (ROOT / target).exists() and not target.startswith("..") else ""


@cache
def _shown(path: str) -> str | Path:
    """Return a page that shows a file or folder, or a picture's file."""
    file = ROOT / source_of(path)
    if file.suffix in _PICTURES:
        return file
    if file.is_dir():
        names = sorted(
            each.name + "/" * each.is_dir() for each in file.iterdir() if not each.name.startswith(("_", "."))
        )
        return unlisted(f"{path}/", "\n".join(f"- `{name}`" for name in names))
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".md":
        return text
    if file.suffix == ".ipynb":
        return unlisted(path, "\n\n".join(_cells(text)))
    return unlisted(path, f"````{_LANGUAGES.get(file.suffix, 'text')}\n{text}\n````\n")


def _cells(notebook: str) -> Iterator[str]:
    for each in json.loads(notebook)["cells"]:
        source = "".join(each["source"])
        yield source if each["cell_type"] == "markdown" else f"````python\n{source}\n````"
