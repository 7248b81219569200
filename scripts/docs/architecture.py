"""Writes the list of modules in docs/architecture.md: one line a file, the first of its docstring.

python scripts/docs/architecture.py            # write the list
python scripts/docs/architecture.py --check    # fail when it is stale
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "lit_lrsched"
PAGE = ROOT / "docs" / "architecture.md"
# From the top to the bottom: a folder imports those above it.
FOLDERS = (
    *(".", "schedules", "theory", "plans", "optim", "trainer", "trainer/callbacks", "csv_data", "ionosphere"),
    *("comparison", "comparison/engine", "comparison/evidence", "comparison/report", "search", "forecasting", "cli"),
)
LIST = re.compile(r"(<!-- files -->\n).*?(<!-- end of files -->)", re.DOTALL)


def main() -> None:
    """Writes the list, or checks it."""
    parser = argparse.ArgumentParser(description="Writes the list of modules in docs/architecture.md.")
    parser.add_argument("--check", action="store_true", help="fail when the list is stale")
    check = parser.parse_args().check
    text = PAGE.read_text()
    new = LIST.sub(lambda match: match[1] + "".join(files()) + match[2], text)
    if not check:
        PAGE.write_text(new)
    elif new != text:
        sys.exit("docs/architecture.md is stale: run python scripts/docs/architecture.py")


def files() -> Iterator[str]:
    """Yields the list: a heading for each folder, and a line for each file."""
    unknown = {folder_of(path) for path in PACKAGE.rglob("*.py")} - set(FOLDERS)
    if unknown:
        sys.exit(f"error: {', '.join(sorted(unknown))}: put it into FOLDERS of scripts/docs/architecture.py")
    for folder in FOLDERS:
        paths = sorted(path for path in (PACKAGE / folder).glob("*.py") if folder == "." or path.stem != "__init__")
        if paths:
            about = "" if folder == "." else f" {first_line(PACKAGE / folder / '__init__.py')}"
            yield f"\n**`{'lit_lrsched' if folder == '.' else folder}/`**{about}\n\n"
            yield from (f"- `{path.name}`: {first_line(path)}\n" for path in paths)
    yield "\n"


def folder_of(path: Path) -> str:
    """Returns the folder of a module, as FOLDERS spells it."""
    return path.parent.relative_to(PACKAGE).as_posix()


def first_line(path: Path) -> str:
    """Returns the first line of a module's docstring, as Markdown."""
    line = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
    return re.sub(r":(?:class|func|meth):`~?(?:\w+\.)*(\w+)`", r"`\1`", line).replace("``", "`")


if __name__ == "__main__":
    main()
