"""A recorded metric, read from a file or from the folder of a run."""

from __future__ import annotations

from collections.abc import Collection
from operator import itemgetter
from pathlib import Path

from lit_lrsched.errors import InputError, did_you_mean
from lit_lrsched.plans.csv_rows import csv_rows
from lit_lrsched.plans.event_files import events_in


def recorded(path: str | None, monitors: Collection[str]) -> list[float]:
    """Returns the recorded metric that schedules are to follow; nothing where none was given.

    Args:
        path: The file or folder, for :func:`read_metric`.
        monitors: The names of the metrics that the schedules follow.

    Raises:
        InputError: When there is a record and no schedule that follows it, or schedules follow several metrics.
    """
    if not path:
        return []
    if len(monitors) > 1:
        raise InputError(
            f"metric={path!r} is one metric, and the schedules follow {', '.join(sorted(monitors))}: preview them apart"
        )
    if not monitors:
        raise InputError(f"metric={path!r} is for a schedule that follows a metric, as Plateau does: leave it out")
    return read_metric(path, *monitors)


def read_metric(path: str, monitor: str) -> list[float]:
    """Returns a recorded metric: one number a line, or the column of a CSV file with the metric's name.

    Of a run's folder it is what the CSV logger or TensorBoard's has written there.

    Raises:
        InputError: When the file is missing, has no such column, or holds something else.
    """
    folder = Path(path)
    if folder.is_dir():
        if not (folder / "metrics.csv").exists():
            return _from_tensorboard(folder, monitor)
        path = str(folder / "metrics.csv")
    rows = csv_rows(Path(path), f"metric={path!r}", "name a file of numbers")
    number = 0
    if rows and all(_is_number(cell) for cell in rows[0]) and len(rows[0]) > 1:
        raise InputError(
            f"metric={path!r} has {len(rows[0])} columns and no header: write one number a line, or name the columns"
        )
    if rows and not _is_number(rows[0][0]):
        header, rows = rows[0], rows[1:]
        if monitor not in header and len(header) > 1:
            known = ", ".join(header)
            raise InputError(
                f"metric={path!r} has no column {monitor!r}{did_you_mean(monitor, header)}: it has {known}"
            )
        number = header.index(monitor) if monitor in header else 0
    cells = [row[number] for row in rows if number < len(row) and row[number]]  # loggers leave some cells empty
    for cell in cells:
        if not _is_number(cell):
            raise InputError(f"metric={path!r} holds {cell!r}: write one number a line, or a CSV with a header")
    if not cells:
        raise InputError(f"metric={path!r} holds no values: write one number a line")
    return [float(cell) for cell in cells]


def _from_tensorboard(folder: Path, monitor: str) -> list[float]:
    """Returns the values of a scalar in the event files of a folder, in the order of their steps."""
    known = events_in(folder).scalars
    if monitor not in known:
        there = f"it has {', '.join(known)}" if known else "it has neither metrics.csv nor event files with values"
        raise InputError(f"metric={str(folder)!r} has no {monitor!r}{did_you_mean(monitor, known)}: {there}")
    return [value for _, value in sorted(known[monitor], key=itemgetter(0))]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
