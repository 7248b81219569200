"""Hooks of the site: pages from beside ``docs``, the notebook, and links to both. ``mkdocs.yml`` names this file."""

from __future__ import annotations

from pathlib import Path

import notebook_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
# Pages of the site that are files of the repository's top folder.
BESIDE = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds them to the pages of ``docs``; the notebook itself stays beside its page, to be downloaded."""
    text = notebook_page.as_markdown((ROOT / "docs" / "notebook.ipynb").read_text())
    files.append(File.generated(config, "notebook.md", content=text))
    for page, name in BESIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lets links between ``docs`` and the files beside it lead to pages of the site."""
    if page.file.src_uri in BESIDE:
        return markdown.replace("](docs/", "](")
    for to, name in BESIDE.items():
        markdown = markdown.replace(f"](../{name}", f"]({to}")
    return markdown if page.file.src_uri == "notebook.md" else markdown.replace("](notebook.ipynb", "](notebook.md")
