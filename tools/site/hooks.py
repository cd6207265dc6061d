"""What mkdocs calls while it builds: pages that are made of the code, and links that lead out of docs/."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from tools.site import commands, contract, interface, methods, settings
from tools.site.markdown import with_bars
from tools.site.repository import ROOT, outside, place_of, source_of, with_links

REFERENCES = {
    "reference/experiment.md": settings.page,
    "reference/commands.md": commands.page,
    "reference/contract.md": contract.page,
    "reference/python.md": interface.page,
}

_FOUND_LATER = "---\nsearch:\n  boost: 0.3\n---\n\n"
"""Of a page that the search shows after those that explain."""

_FOLDED = {f"{methods.FOLDER}/*": lambda: sorted(methods.pages()), "decisions/*": lambda: _decisions()}

_origins: dict[str, str] = {}
"""By a page's place on the site, the repository's file that its links are relative to."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages in the place of `FOLDER/*` in the navigation."""
    config.nav = _unfolded(config.nav)
    return config


def _unfolded(nav: Any) -> Any:
    if isinstance(nav, dict):
        return {title: _unfolded(inner) for title, inner in nav.items()}
    if isinstance(nav, list):
        folded = [_FOLDED[each]() if isinstance(each, str) and each in _FOLDED else [_unfolded(each)] for each in nav]
        return [place for places in folded for place in places]
    return nav


def _decisions() -> list[str]:
    return sorted(f"decisions/{path.name}" for path in (ROOT / "docs/decisions").glob("[0-9]*.md"))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of the code, the README as the first one, and what documents link to."""
    made = {place: _FOUND_LATER + make() for place, make in REFERENCES.items()} | methods.pages()
    made["index.md"] = (ROOT / "README.md").read_text(encoding="utf-8")
    _origins.update({place: f"docs/{place}" for place in (*made, *(file.src_uri for file in files))})
    _origins["index.md"] = "README.md"
    for place, text in made.items():
        files.append(File.generated(config, place, content=text))
    for path, shown in outside(_documents(files, made)).items():
        place = place_of(path)
        if isinstance(shown, Path):
            files.append(File.generated(config, place, abs_src_path=str(shown)))
        else:
            _origins[place] = source_of(path)
            files.append(File.generated(config, place, content=shown))
    return files


def _documents(files: Files, made: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Give the path and text of every page that is there so far."""
    for file in files.documentation_pages():
        yield _origins[file.src_uri], made.get(file.src_uri) or file.content_string


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - mkdocs' signature
    """Have a page's links lead to what is on the site."""
    here = page.file.src_uri
    if here == "methods.md":
        markdown = methods.with_links_to_pages(markdown)
    return with_bars(with_links(_origins[here], markdown, here))
