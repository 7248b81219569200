"""The documents show what the commands print now, and name what exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lit_lrsched"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_no_document_is_stale():
    command = [sys.executable, str(ROOT / "scripts" / "docs" / "readme.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr


def test_the_architecture_lists_every_module_and_no_other():
    command = [sys.executable, str(ROOT / "scripts" / "docs" / "architecture.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    page = (ROOT / "docs" / "architecture.md").read_text()
    listed, folder = [], PACKAGE
    for line in page[page.index("<!-- files -->") :].splitlines():
        if heading := re.match(r"\*\*`(.+)/`\*\*", line):
            folder = PACKAGE if heading[1] == PACKAGE.name else PACKAGE / heading[1]
        elif file := re.match(r"- `(.+?)`: \S", line):
            listed.append(folder / file[1])
    there = [path for path in PACKAGE.rglob("*.py") if path.parent == PACKAGE or path.name != "__init__.py"]
    assert sorted(listed) == sorted(there)


def test_the_architecture_names_files_that_exist_and_short_ways():
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`((?:\w+/)+\w+\.py)`", page))
    assert len(named) > 20
    assert {name for name in named if not ((PACKAGE / name).exists() or (ROOT / name).exists())} == set()
    for way in ("From the command line to the optimizer", "From the trainer to TensorBoard"):
        (text,) = re.findall(rf"## {way}\n(.*?)\n## ", page, flags=re.DOTALL)
        steps = re.findall(r"^(\d)\. `(\S+\.py)`", text, flags=re.MULTILINE)
        assert [int(number) for number, _ in steps] == list(range(1, len(steps) + 1))
        assert 3 <= len(steps) <= 6


@pytest.fixture
def importable(in_tmp, monkeypatch):
    """Writes a module into the working folder, from which it can be imported; another test may use the same name."""
    monkeypatch.syspath_prepend(str(in_tmp))

    def write(name: str, text: str) -> None:
        Path(f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


MY = """
from lit_lrsched import IonosphereClassifier, IonosphereDataModule


class Module(IonosphereClassifier):
    pass


class DataModule(IonosphereDataModule):
    pass
"""


@pytest.mark.parametrize("name", ["README.md", "docs/recipes.md"])
def test_every_yaml_and_every_command_of_the_documents_works(name, command, importable):
    text = re.sub(r"<!-- run -->\n```console\n.*?```", "", (ROOT / name).read_text(), flags=re.DOTALL)
    importable("my", MY)
    for code in re.findall(r"```python\n(# my_schedules.py\n.*?)```", text, flags=re.DOTALL):
        importable("my_schedules", code)
    assert command("fit", "--trainer.max_epochs=2") == 0  # the run that the recipes resume
    blocks = re.findall(r"```(yaml|bash)\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) >= 4
    for language, block in blocks:
        if language == "yaml":
            Path("block.yaml").write_text(block)
            assert command("fit", "--config=block.yaml", "--trainer.max_epochs=4") == 0, f"{block}\n{command.err}"
            continue
        for line in block.replace("\\\n", " ").splitlines():
            program, *arguments = shlex.split(line, comments=True) or [""]
            if program == "lit-lrsched":
                short = [] if "--trainer.max_epochs" in arguments else ["--trainer.max_epochs=4"]
                assert command(*arguments, *short) == 0, f"{line}\n{command.err}"


def test_links_and_pictures_exist():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_a_newcomer_adds_a_schedule_by_the_book(command, importable):
    """Does what CONTRIBUTING says, from outside the package."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"```python\n(# my_schedules.py\n.*?)```", text, flags=re.DOTALL)
    assert len(code.splitlines()) < 20
    importable("my_schedules", code)
    by_hand = ["--epochs=5", "--steps_per_epoch=10"]
    scheduler = ["--lr_scheduler", "my_schedules.Sawtooth"]
    assert command("preview", *scheduler, "--lr_scheduler.low=0.2", *by_hand) == 0
    assert command("fit", *scheduler, "--trainer.max_epochs=1") == 0
    assert "learning rate followed the plan (11 of 11 steps)" in command.out
    race = ["--schedules", "{constant: Constant, sawtooth: my_schedules.Sawtooth}", "--lrs=[0.1]", "--momenta=[0.9]"]
    assert command("compare", *race, "--seeds=2", "--trainer.max_epochs=1") == 0
    assert "sawtooth" in command.out
