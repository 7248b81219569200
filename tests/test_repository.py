"""What no file of the repository may hold: paths of one machine, notes to oneself, unsafe loading."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import lit_lrsched

ROOT = Path(__file__).parents[1]
TEXTS = {".py", ".md", ".yaml", ".yml", ".cff", ".toml", ".txt", ".css", ""}
FORBIDDEN = re.compile(r"/work/|/tmp/|/home/|\bTODO\b|\bFIXME\b|\bXXX\b|\bissue #", re.IGNORECASE)


def files_of(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*")) if path.is_file()]
    return [path for path in found if path.suffix in TEXTS and "__pycache__" not in path.parts]


def test_no_file_speaks_of_anything_but_the_project():
    at_the_top = [path for path in sorted(ROOT.iterdir()) if path.is_file() and path.suffix in TEXTS - {""}]
    said = {}
    for path in [*at_the_top, *files_of(".github", "docs", "lit_lrsched", "scripts")]:
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


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # all that the format demands
    assert citation["version"] == lit_lrsched.__version__
    assert 'license = "' + citation["license"] + '"' in (ROOT / "pyproject.toml").read_text().splitlines()


def test_a_commit_is_checked_as_the_tests_check_it():
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    before_a_commit = [hook["entry"].removesuffix(" --force-exclude") for hook in local["hooks"]]
    lines = (ROOT / "scripts" / "test").read_text().splitlines()
    of_the_tests = [re.sub(r" --check| \.$", "", line) for line in lines if re.match(r"\.venv/bin/(ruff|mypy)", line)]
    assert before_a_commit == of_the_tests != []


def test_the_workflow_runs_what_is_there():
    (job,) = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())["jobs"].values()
    (command,) = [step["run"] for step in job["steps"] if "run" in step]
    assert (ROOT / command).stat().st_mode & 0o100


def test_what_the_form_for_defects_asks_for_can_be_had():
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "defect.yml").read_text())
    (asked,) = [part["attributes"]["description"] for part in form["body"] if part["id"] == "versions"]
    _, *arguments = shlex.split(asked.partition("this prints: ")[2])
    told = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line.partition(" ")[0] for line in told[-4:]] == ["lit_lrsched", "torch", "lightning", "jsonargparse"]
