"""The documents show what the commands print now, and name what exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_no_document_is_stale():
    command = [sys.executable, str(ROOT / "scripts" / "docs" / "readme.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr


MY = """
from lit_lrsched import IonosphereClassifier, IonosphereDataModule


class Module(IonosphereClassifier):
    pass


class DataModule(IonosphereDataModule):
    pass
"""


@pytest.mark.parametrize("name", ["README.md", "docs/recipes.md"])
def test_every_yaml_and_every_command_of_the_documents_works(name, command, monkeypatch):
    text = re.sub(r"<!-- run -->\n```console\n.*?```", "", (ROOT / name).read_text(), flags=re.DOTALL)
    Path("my.py").write_text(MY)
    for code in re.findall(r"```python\n(# my_schedules.py\n.*?)```", text, flags=re.DOTALL):
        Path("my_schedules.py").write_text(code)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    for loaded in ("my", "my_schedules"):
        monkeypatch.delitem(sys.modules, loaded, raising=False)
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


def test_a_newcomer_adds_a_schedule_by_the_book(command, monkeypatch):
    """Does what CONTRIBUTING says, from outside the package."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"```python\n(# my_schedules.py\n.*?)```", text, flags=re.DOTALL)
    assert len(code.splitlines()) < 20
    Path("my_schedules.py").write_text(code)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    by_hand = ["--epochs=5", "--steps_per_epoch=10"]
    scheduler = ["--lr_scheduler", "my_schedules.Sawtooth"]
    assert command("preview", *scheduler, "--lr_scheduler.low=0.2", *by_hand) == 0
    assert command("fit", *scheduler, "--trainer.max_epochs=1") == 0
    assert "learning rate followed the plan (11 of 11 steps)" in command.out
    race = ["--schedules", "{constant: Constant, sawtooth: my_schedules.Sawtooth}", "--lrs=[0.1]", "--momenta=[0.9]"]
    assert command("compare", *race, "--seeds=2", "--trainer.max_epochs=1") == 0
    assert "sawtooth" in command.out
