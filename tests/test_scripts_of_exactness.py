"""The scripts that prove what the documentation says of exactness: a sample, or with ``--all`` the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "scripts"

# A second or two each, and one of each kind: where both sides are right, which tells that the two are compared fairly;
# where steps are counted, while training; and where a run is resumed under another length.
THREE_ROWS = ("Resumed as it was", "AMP's `GradScaler` skips 3 of 12 steps", "Resumed for twice as many epochs")


def run(script: str, *options: str) -> str:
    command = [sys.executable, str(SCRIPTS / script), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=7200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


def test_killed_runs_go_on(run_all):
    runs = 50 if run_all else 2
    out = run("kill_and_resume.py", "--runs", str(runs))
    assert f"{runs} of {runs} runs went on with the right rates and a readable log" in out


def test_the_table_of_situations_is_up_to_date(run_all):
    rows = [] if run_all else ["--rows", *THREE_ROWS]
    assert "docs/situations.md is up to date" in run("docs/situations.py", "--check", *rows)
