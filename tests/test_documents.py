"""The documents show what the commands print now, and name what exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_no_document_is_stale():
    command = [sys.executable, str(ROOT / "scripts" / "readme.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr


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
