"""The rows of a CSV file, whatever wrote it."""

from __future__ import annotations

import csv
from pathlib import Path

from lit_lrsched.errors import InputError


def csv_rows(path: Path, name: str, wanted: str) -> list[list[str]]:
    """Returns the rows of a CSV file that are not empty, each cell without the spaces around it.

    Args:
        path: The file.
        name: What messages call it.
        wanted: What to give in its place where it cannot be read, for the message.

    Raises:
        InputError: When it cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets put a byte order mark in front
            return [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = "it is not a text file"
        if not isinstance(error, UnicodeDecodeError):
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise InputError(f"{name} cannot be read: {reason}: {wanted}") from error
