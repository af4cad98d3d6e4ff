"""What the site has beside the pages: the README as the first one, files that they lead to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
INDEX = "index.md"
_PAGES = {"README.md": INDEX, "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
_OUTSIDE = re.compile(r"\]\(\.\./([^)#\s]+)")
_BESIDE = re.compile(r"\]\(((?:examples|bench)/[^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies outside of docs/, where the pages lead to it."""
    texts = {path: path.read_text(encoding="utf-8") for path in Path(config.docs_dir).glob("*.md")}
    linked = {name for text in texts.values() for name in _OUTSIDE.findall(text)}
    for name, page in _PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        linked |= set(_BESIDE.findall(text))
        files.append(File.generated(config, page, content=text))
    for name in sorted(linked - _PAGES.keys()):
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead to where things are in the site."""
    del page, config, files
    markdown = markdown.replace("](../", "](").replace("](docs/", "](")
    return re.sub(r"\]\(README\.md", f"]({INDEX}", markdown)
