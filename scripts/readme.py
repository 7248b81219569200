"""Regenerates what the documents show: runs every marked command and puts its real output below it.

    python scripts/readme.py            # write README.md and docs/gallery.md anew
    python scripts/readme.py --check    # fail when a document is stale, up to numbers that depend on the machine

A marked block is a ``console`` block below a line ``<!-- run -->``; its lines that begin with ``$`` are the commands.
All of them run in one empty folder, one after another.
"""

from __future__ import annotations

import argparse
import inspect
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import lit_lrsched
from lit_lrsched import schedules
from lit_lrsched.schedules import Schedule

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- run -->\n```console\n)(.*?)(```)", re.DOTALL)
PROGRESS = re.compile(r"^.*(\d+%\|| \d+/\d+ \[).*$\n?", re.MULTILINE)


def main() -> None:
    """Writes the documents, or checks them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail when a document is stale")
    check = parser.parse_args().check
    stale = []
    for path, text in {ROOT / "README.md": readme(), ROOT / "docs" / "gallery.md": gallery()}.items():
        if not check:
            path.write_text(text)
        elif masked(path.read_text()) != masked(text):
            stale.append(str(path.relative_to(ROOT)))
    if stale:
        sys.exit(f"stale: {', '.join(stale)}: run python scripts/readme.py")


def readme() -> str:
    """Returns the README with what its commands print now."""
    with tempfile.TemporaryDirectory() as folder:
        return BLOCK.sub(lambda match: match[1] + rerun(match[2], folder) + match[3], (ROOT / "README.md").read_text())


def rerun(block: str, folder: str) -> str:
    """Returns the commands of a block, each with its output below it."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "100"}
    shown = ""
    for command in re.findall(r"^\$ (.+)$", block, flags=re.MULTILINE):
        done = subprocess.run(
            command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"`{command}` failed with status {done.returncode}:\n{done.stderr}")
        output = re.sub(r"^.*\r", "", done.stdout, flags=re.MULTILINE)  # a bar redraws its line
        output = re.sub(r"^(Training .*)\n\n", r"\1\n", PROGRESS.sub("", output))  # the bar stood in between
        output = "".join(line.rstrip() + "\n" for line in output.strip("\n").splitlines())
        shown += f"$ {command}\n{output}"
    return shown


def masked(text: str) -> str:
    """Returns a text without what depends on the machine: numbers, the widths of columns, who wins a close race."""
    text = re.sub(r"^─+\n.*?^Report: .*?$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"[ \d.e+-]+", " ", text)


def gallery() -> str:
    """Returns the page of all schedules: what their docstrings say, and their picture."""
    classes = [
        value
        for name in lit_lrsched.__all__
        if isinstance(value := getattr(schedules, name, None), type)
        and issubclass(value, Schedule)
        and value is not Schedule
    ]
    parts = [
        "# Gallery\n\nEvery schedule of the package, drawn over 105 epochs.\n\n![All schedules](img/gallery.png)\n"
    ]
    for each in sorted(classes, key=lambda each: (each.__module__, each.__name__)):
        text = inspect.cleandoc(each.__doc__ or "").split("\n>>>")[0]
        text = re.sub(r":(?:class|func|meth):`~?(?:\w+\.)*(\w+)`", r"`\1`", text).replace("``", "`")
        text = re.sub(r"^(Args|Raises|Returns):\n((?:    .*\n?|\n)+)", _as_list, text, flags=re.MULTILINE)
        parts.append(f"## {each.__name__}\n\n{text.strip()}\n")
    return "\n".join(parts)


def _as_list(match: re.Match[str]) -> str:
    items = re.sub(r"\n {8,}", " ", match[2])
    items = items.replace("InputError: ", "*refused:* ")
    return "".join(f"- {line.strip()}\n" for line in items.splitlines() if line.strip())


if __name__ == "__main__":
    main()
