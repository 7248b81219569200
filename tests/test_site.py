"""The site: it builds without a warning and without a network, and its API page has every public name."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lit_lrsched

pytest.importorskip("mkdocs")

ROOT = Path(__file__).parents[1]
NO_NETWORK = """
import socket
def refuse(*_): raise OSError("no network here")
socket.socket.connect = socket.getaddrinfo = refuse
from mkdocs.__main__ import cli
cli()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built where nothing can be reached."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-c", NO_NETWORK, "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_api_page_shows_every_public_name_with_links_and_examples(site):
    asked = re.findall(r"^::: lit_lrsched\.(\w+)$", (ROOT / "docs" / "api.md").read_text(), flags=re.MULTILINE)
    assert sorted(asked) == sorted(lit_lrsched.__all__)
    page = (site / "api" / "index.html").read_text()
    assert set(re.findall(r'id="lit_lrsched\.(\w+)"', page)) >= set(asked)
    assert ":class:" not in page
    assert 'href="#lit_lrsched.ScheduledLR"' in page
    assert '<span class="gp">&gt;&gt;&gt; </span>' in page
    assert re.findall(r'id="lit_lrsched\.\w+\._[a-z]\w*"', page) == []  # what is private


def test_the_notebook_is_a_page_with_its_pictures_and_can_be_downloaded(site):
    page = (site / "notebook" / "index.html").read_text()
    assert 'href="../notebook.ipynb"' in page
    assert page.count("<svg role=") == 1
    assert page.count('src="data:image/png;base64,') == 4
    assert "<p>&lt;" not in page  # an output that was taken for text
    assert 'href="../notebook/"' in (site / "tour" / "index.html").read_text()
    assert (site / "notebook.ipynb").read_text() == (ROOT / "docs" / "notebook.ipynb").read_text()


def test_every_page_is_there_and_asks_nothing_of_another_host(site):
    for page in (*(ROOT / "docs").glob("**/*.md"), Path("contributing.md"), Path("changelog.md")):
        assert (site / (page.stem if page.stem != "index" else "") / "index.html").exists() or (
            site / "guides" / page.stem / "index.html"
        ).exists(), page
    assert (site / "examples" / "spirals.py").exists()
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img)[^>]* src="([^"]+)"', page.read_text())
        loaded += re.findall(r'<link[^>]* rel="(?:stylesheet|preconnect)"[^>]* href="([^"]+)"', page.read_text())
        assert [one for one in loaded if one.startswith(("http", "//"))] == [], page


@pytest.mark.parametrize(
    ("docstring", "markdown"),
    [
        ("See :class:`~lit_lrsched.Cosine` and :func:`as_part`.", "See [`Cosine`][lit_lrsched.Cosine] and `as_part`."),
        ("Adds.\n\n>>> 1 + 1\n2", "Adds.\n\n```pycon\n>>> 1 + 1\n2\n```"),
        (">>> a = 1\n>>> a\n1\n\nAnd so on.", "```pycon\n>>> a = 1\n>>> a\n1\n```\n\nAnd so on."),
    ],
)
def test_a_docstring_as_markdown(docstring, markdown):
    spec = importlib.util.spec_from_file_location("docstrings", ROOT / "scripts" / "docs" / "docstrings.py")
    docstrings = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(docstrings)
    assert docstrings.as_markdown(docstring) == markdown
