"""The CSV export of a panel of Weights & Biases, whose columns name their runs: ``"run-a - loss"``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from lit_lrsched.errors import InputError

_EXTREMES = ("__MIN", "__MAX")  # stand beside every column of a panel
_Column = TypeVar("_Column")


def of_one_run(columns: Mapping[str, _Column], name: str, wanted: str | None) -> tuple[dict[str, _Column], str]:
    """Returns the columns of one run by the names that it logged them by, and what stands before these in the file.

    Columns that no panel has stay, and so do all of another file.

    Args:
        columns: The columns of the file.
        name: What messages call the file.
        wanted: The column with the loss, which tells the run where there are several.

    Raises:
        InputError: When there are several runs, and it does not tell one.

    >>> of_one_run({"a - loss": 1, "a - loss__MIN": 2, "a - loss__MAX": 3, "lr": 4}, "a.csv", None)
    ({'loss': 1, 'lr': 4}, 'a - ')
    """
    panel = [title for title in columns if all(title + ending in columns for ending in _EXTREMES)]
    left = {title + ending for title in panel for ending in _EXTREMES}
    begins = dict.fromkeys(title[: title.rfind(" - ") + 3] if " - " in title else "" for title in panel)
    if len(begins) > 1:
        begins = {begin: None for begin in begins if begin and str(wanted).startswith(begin)}
        left |= {title for title in panel if not title.startswith(tuple(begins))}
    if panel and not begins:
        entry = f"{{log: {name}, loss: {panel[0]!r}, schedule: {{class_path: Cosine}}, lr: 3e-4}}"
        raise InputError(
            f"{name} has the columns of several runs, {', '.join(panel)}: write a YAML list with an entry for each, "
            f"like {entry}"
        )
    begin = next(iter(begins), "")
    return {title.removeprefix(begin): column for title, column in columns.items() if title not in left}, begin
