"""Runs docs/notebook.ipynb in an empty folder and writes what its cells give below them. Needs ``nbclient``.

    python scripts/docs/notebook.py            # write the notebook
    python scripts/docs/notebook.py --check    # fail when it is stale, up to numbers that depend on the machine

A cell that fails ends the script, and a warning among the outputs makes the notebook stale.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "notebook.ipynb"
# What Lightning says under a newer torch, and tqdm where ipywidgets are missing, which Jupyter brings.
NOT_OURS = "ignore:`isinstance(treespec,ignore:IProgress not found"


def main() -> None:
    """Writes the notebook, or checks it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail when the notebook is stale")
    check = parser.parse_args().check
    shown = nbformat.read(NOTEBOOK, as_version=4)
    fresh = executed(nbformat.read(NOTEBOOK, as_version=4))
    if not check:
        nbformat.write(fresh, NOTEBOOK)
        return
    for before, now in zip(shown.cells, fresh.cells, strict=True):
        if masked(before) != masked(now):
            sys.exit(
                f"stale: {NOTEBOOK.name}: run python scripts/docs/notebook.py\n\n{before.source}\n\n"
                f"shows   {masked(before)}\ngives   {masked(now)}"
            )


def executed(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Returns a notebook with the outputs that its cells have now."""
    # The model is too small to be shared among threads.
    environment = {**os.environ, "PYTHONWARNINGS": NOT_OURS, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=300, coalesce_streams=True, resources=resources).execute(env=environment)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran
        for output in cell.get("outputs", []):
            if "text" in output:
                output.text = re.sub(r"^.*\r(?!\n)", "", output.text, flags=re.MULTILINE)  # a bar redraws its line
    return notebook


def masked(cell: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """Returns the kind and the text of each output, without what depends on the machine.

    That is numbers, the widths of columns, and the table and the verdict of a close race.
    """
    found = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        text = output.get("text") or data.get("text/plain", "")
        text = re.sub(r"^.*\d+%\|.*$", "", text.partition("─" * 9)[0], flags=re.MULTILINE)
        found.append((" ".join([output.output_type, *sorted(data)]), re.sub(r"[\s\d.e+-]+", " ", text)))
    return found


if __name__ == "__main__":
    main()
