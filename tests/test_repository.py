"""What no file of the repository may hold: paths of one machine, notes to oneself, unsafe loading."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXTS = {".py", ".md", ".yaml", ".toml", ".txt", ".css", ""}
FORBIDDEN = re.compile(r"/work/|/tmp/|/home/|\bTODO\b|\bFIXME\b|\bXXX\b|\bissue #", re.IGNORECASE)


def files_of(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*")) if path.is_file()]
    return [path for path in found if path.suffix in TEXTS and "__pycache__" not in path.parts]


def test_no_file_speaks_of_anything_but_the_project():
    documents = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "pyproject.toml")]
    said = {}
    for path in [*documents, *files_of("docs", "lit_lrsched", "scripts")]:
        lines = path.read_text(encoding="utf-8").splitlines()
        if found := [f"{n}: {line}" for n, line in enumerate(lines, 1) if FORBIDDEN.search(line)]:
            said[str(path.relative_to(ROOT))] = found
    assert said == {}


def unsafe_loads(source: str) -> Iterator[int]:
    """Yields the lines that load a checkpoint and could run any code that it holds."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "load"):
            safe = any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in node.keywords)
            if not safe:
                yield node.lineno


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("torch.load(path)", [1]),
        ("torch.load(path, weights_only=False)", [1]),
        ("x = 1\nload(path, weights_only=safe)", [2]),
        ("torch.load(path, weights_only=True)", []),
    ],
)
def test_an_unsafe_load_is_found(source, lines):
    assert list(unsafe_loads(source)) == lines


def test_checkpoints_are_loaded_as_plain_values():
    sources = {path: path.read_text() for path in files_of("lit_lrsched", "scripts") if path.suffix == ".py"}
    assert any("torch.load" in source for source in sources.values())
    assert {
        str(path.relative_to(ROOT)): found for path, source in sources.items() if (found := list(unsafe_loads(source)))
    } == {}
