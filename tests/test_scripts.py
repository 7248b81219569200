"""The scripts: those that prove what the documentation says of exactness in a sample, or with ``--all`` the whole."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"

# A second or two each, and one of each kind: where both sides are right, which tells that the two are compared fairly;
# where steps are counted, while training; and where a run is resumed under another length.
THREE_ROWS = ("Resumed as it was", "AMP's `GradScaler` skips 3 of 12 steps", "Resumed for twice as many epochs")


def run(script: str, *options: str, cwd: Path | None = None) -> str:
    command = [sys.executable, str(SCRIPTS / script), *options]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=7200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


def test_killed_runs_go_on(run_all):
    runs = 50 if run_all else 1
    out = run("kill_and_resume.py", "--runs", str(runs))
    assert f"{runs} of {runs} runs went on with the right rates and a readable log" in out


def test_the_table_of_situations_is_up_to_date(run_all):
    rows = [] if run_all else ["--rows", *THREE_ROWS]
    assert "docs/situations.md is up to date" in run("docs/situations.py", "--check", *rows)


@pytest.mark.exhaustive
def test_forecasts_of_language_models_hold():
    folder = SCRIPTS.parents[1] / "shared" / "data" / "llm_curves"
    if not folder.exists():
        pytest.skip(f"the curves of language models are not there: {folder}")
    out = run("forecast_errors.py", str(folder))
    (small,) = re.findall(r"\| mean, by the [\w-]+ law \| ([\d.]+) %", out)
    assert float(small) <= 0.2
    shares = re.findall(r"\| (?:all|50 subsets) \| \d+ \| [\d.]+ % \| (\d+) % \| (\d+) % \|", out)
    assert len(shares) == 4  # ends and curves, groups and subsets
    assert all(int(wide) >= 88 for _, wide in shares)
    # Those of the longest runs hold together or not at all, so the four tables are taken together.
    assert 70 <= sum(int(narrow) for narrow, _ in shares) / 4 <= 90
    winners = re.findall(r"A winner is named (\d+) times, and within 0.003 of the best (\d+) times", out)
    assert len(winners) == 2
    for named, right in winners:
        assert int(right) >= 0.95 * int(named)


@pytest.mark.exhaustive
def test_intervals_hold_as_often_as_they_say():
    out = run("forecast_calibration.py")
    shares = re.findall(r"\| all \| \d+ \| .* \| (\d+) % \| (\d+) % \|", out)
    assert len(shares) == 2  # curves and ends
    assert all(70 <= int(narrow) <= 90 and int(wide) >= 90 for narrow, wide in shares)


def test_ci_stops_where_the_lowest_versions_cannot_be_installed(tmp_path):
    for name, does in {
        "scripts/setup": '[ "${1:-}" != --lowest ]',
        **dict.fromkeys(("scripts/smoke", ".venv/bin/ruff", ".venv/bin/mypy", ".venv/bin/python"), "true"),
    }.items():
        script = tmp_path / name
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(f"#!/usr/bin/env bash\n{does}\n")
        script.chmod(0o755)
    shutil.copy(SCRIPTS / "test", tmp_path / "scripts")
    for environment, status in [({}, 0), ({"CI": "true"}, 1)]:
        own = {name: value for name, value in os.environ.items() if name != "CI"}
        done = subprocess.run([tmp_path / "scripts" / "test"], env={**own, **environment}, check=False)
        assert done.returncode == status


# Those that no other test runs.
OTHERS = (
    *("bench/fit.py", "bench/callback.py", "bench/compare.py", "bench/find.py", "docs/screenshots.py", "faults.py"),
    *("verdict_errors.py", "budget_errors.py", "transfer_errors.py", "forecast_errors.py", "forecast_calibration.py"),
    "docs/forecast_race.py",
)

# Starts each as a process would, but in one: they take seconds to load torch. What one brings along is taken away.
STARTER = """
import os, runpy, sys
path, loaded = list(sys.path), {*sys.modules}
for script in sys.argv[1:]:
    folder = os.path.dirname(script)
    sys.path[:], sys.argv = [folder, *path], [script, "--help"]
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(folder):
            del sys.modules[name]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as stop:
        print(chr(0), stop.code, chr(0), sep="")
"""


def test_every_script_starts_anywhere(tmp_path):
    scripts = [str(SCRIPTS / script) for script in OTHERS]
    done = subprocess.run([sys.executable, "-c", STARTER, *scripts], cwd=tmp_path, capture_output=True, text=True)
    *said, rest = done.stdout.split("\0")
    assert (done.returncode, rest.strip()) == (0, ""), done.stderr[-3000:]
    for script, usage, status in zip(OTHERS, said[::2], said[1::2], strict=True):
        assert usage.lstrip().startswith(f"usage: {Path(script).name} "), script
        assert status == "0", script
    assert list(tmp_path.iterdir()) == []
