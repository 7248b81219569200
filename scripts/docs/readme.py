"""Regenerates what the documents show: runs every marked command, puts its real output below it, and draws.

    python scripts/docs/readme.py            # write README.md, docs/gallery.md and the pictures without a browser
    python scripts/docs/readme.py --check    # fail when one is stale, up to numbers that depend on the machine

A marked block is a ``console`` block below a line ``<!-- run -->``; its lines that begin with ``$`` are the commands.
All of them run in one empty folder, one after another.
"""

from __future__ import annotations

import argparse
import inspect
import io
import os
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import gallery as drawings
from matplotlib.image import imread

import lit_lrsched.cli.command  # noqa: F401  # loads Lightning
from lit_lrsched import Custom, FromTorch
from lit_lrsched.schedules.examples import EXAMPLES
from tests.forking import command as in_a_copy
from tests.forking import forked, status_of

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "img"
BLOCK = re.compile(r"(<!-- run -->\n```console\n)(.*?)(```)", re.DOTALL)
# How much a picture may differ: from another machine, which rounds in its own way, a training differs as well.
DRAWN, TRAINED = 0.001, 0.02
PROGRESS = re.compile(r"^.*(\d+%\|| \d+/\d+ \[).*$\n?", re.MULTILINE)


def main() -> None:
    """Writes the documents, or checks them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail when a document is stale")
    check = parser.parse_args().check
    stale = []
    with tempfile.TemporaryDirectory() as folder:
        for path, text in {ROOT / "README.md": readme(folder), ROOT / "docs" / "gallery.md": gallery()}.items():
            if not check:
                path.write_text(text)
            elif masked(path.read_text()) != masked(text):
                stale.append(str(path.relative_to(ROOT)))
        for name, png in pictures(folder).items():
            path = IMAGES / name
            if not check:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(png)
            elif not path.exists() or not look_alike(path.read_bytes(), png, TRAINED if name == "find.png" else DRAWN):
                stale.append(str(path.relative_to(ROOT)))
    if stale:
        sys.exit(f"stale: {', '.join(stale)}: run python scripts/docs/readme.py")


def readme(folder: str) -> str:
    """Returns the README with what its commands print now, run in a folder that holds the examples."""
    for example in (ROOT / "docs" / "examples").glob("*.py"):
        shutil.copy(example, folder)
    return BLOCK.sub(lambda match: match[1] + rerun(match[2], folder) + match[3], (ROOT / "README.md").read_text())


def pictures(folder: str) -> dict[str, bytes]:
    """Returns the gallery's pictures, and those that the README's commands have left in the folder."""
    found = {name: Path(folder, name).read_bytes() for name in ("preview.png", "find.png")}
    for name, figure in drawings.pictures().items():
        file = io.BytesIO()
        figure.savefig(file, format="png")
        found[name] = file.getvalue()
    return found


def look_alike(one: bytes, other: bytes, most: float) -> bool:
    """Tells whether two pictures show the same, up to so much difference of a pixel on average, of 1.

    Each version of matplotlib draws letters its own way, so what another version drew is not judged.
    """
    a, b = (imread(io.BytesIO(png)) for png in (one, other))
    drawn_by = {png[png.index(b"Matplotlib") :].split(b",")[0] for png in (one, other)}
    return len(drawn_by) > 1 or (a.shape == b.shape and bool(abs(a - b).mean() < most))


def rerun(block: str, folder: str) -> str:
    """Returns the commands of a block, each with its output below it."""
    shown = ""
    for command in re.findall(r"^\$ (.+)$", block, flags=re.MULTILINE):
        output = re.sub(r"^.*\r", "", run(command, folder), flags=re.MULTILINE)  # a bar redraws its line
        output = re.sub(r"^(Training .*)\n\n", r"\1\n", PROGRESS.sub("", output))  # the bar stood in between
        output = re.sub(r"\n{3,}", "\n\n", output)  # several bars
        output = "".join(line.rstrip() + "\n" for line in output.strip("\n").splitlines())
        shown += f"$ {command}\n{output}"
    return shown


def run(command: str, folder: str) -> str:
    """Returns what ``lit-lrsched`` prints, run in a copy of this process, which has loaded Lightning already."""
    program, *arguments = shlex.split(command)
    if program != "lit-lrsched":
        sys.exit(f"`{command}` is no command of this package")
    with tempfile.TemporaryDirectory() as said:
        out, err = Path(said, "out"), Path(said, "err")
        os.environ["COLUMNS"] = "100"
        if status := status_of(forked(in_a_copy(arguments, Path(folder), out, err))):
            sys.exit(f"`{command}` failed with status {status}:\n{err.read_text()}")
        return out.read_text()


def masked(text: str) -> str:
    """Returns a text without what depends on the machine: numbers, the widths of columns, who wins a close race."""
    text = re.sub(r"^─+\n.*?^(Report|Picture): .*?$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"[ \d.e+-]+", " ", text)


def gallery() -> str:
    """Returns the page of all schedules: what their docstrings say, and their picture."""
    parts = [
        "# Gallery\n\nEvery schedule of the package, drawn over 105 epochs.\n\n![All schedules](img/gallery.png)\n"
    ]
    # FromTorch and Custom, which look like whatever they carry, have no picture.
    classes = {name: type(schedule) for name, schedule in EXAMPLES.items()}
    classes |= {each.__name__: each for each in (FromTorch, Custom)}
    for name, each in classes.items():
        text = inspect.cleandoc(each.__doc__ or "").split("\n>>>")[0]
        text = re.sub(r":(?:class|func|meth):`~?(?:\w+\.)*(\w+)`", r"`\1`", text).replace("``", "`")
        text = re.sub(r"^(Args|Raises|Returns):\n((?:    .*\n?|\n)+)", _as_list, text, flags=re.MULTILINE)
        picture = f"![{name}](img/gallery/{name}.png)\n\n" if name in EXAMPLES else ""
        parts.append(f"## {name}\n\n{picture}{text.strip()}\n".replace("\n\n- *refused", "\n- *refused"))
    return "\n".join(parts)


def _as_list(match: re.Match[str]) -> str:
    items = re.sub(r"\n {8,}", " ", match[2])
    items = items.replace("InputError: ", "*refused:* ")
    return "".join(f"- {line.strip()}\n" for line in items.splitlines() if line.strip()) + "\n"


if __name__ == "__main__":
    main()
