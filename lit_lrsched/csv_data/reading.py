"""Two-class data in a CSV file, read and checked cell by cell."""

from __future__ import annotations

import csv
import hashlib
import io
import reprlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lit_lrsched.errors import InputError, did_you_mean

_MISSING = frozenset({"", "?", "na", "nan", "null"})
_FLOAT32_MAX = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class Table:
    """What a file says.

    Args:
        x: Features, float64 ``[N, F]``.
        positives: Which rows are of the positive class, ``[N]``.
        class_names: The two labels, the negative one first.
    """

    x: Tensor
    positives: list[bool]
    class_names: tuple[str, str]


@dataclass(frozen=True)
class Sheet:
    """The cells of a CSV file as text, and where each stands in the file."""

    path: str
    lines: list[int]  # the line of the file that each row ends on, counted from 1
    rows: list[list[str]]  # without the header
    names: list[str] | None
    target: int  # counted from 0
    guessed: bool  # whether header was 'auto'

    def at(self, row: int, column: int) -> str:
        """Returns a cell's place in the file, for a message."""
        return f"{self.path}: row {self.lines[row]}, {self.column(column)}"

    def column(self, column: int) -> str:
        """Returns a column's number and name, for a message."""
        return f"column {column + 1}" + (f" ({reprlib.repr(self.names[column])})" if self.names else "")

    def header_hint(self, row: int) -> str:
        """The fix to offer for a row that may be a header which does not look like one."""
        unsure = row == 0 and self.guessed and self.names is None
        return "; or set header=true if this row holds the column names" if unsure else ""

    def features(self) -> Tensor:
        """Returns the cells outside the target as float64 ``[N, F]``, and refuses any cell that cannot be used."""
        before, after = slice(self.target), slice(self.target + 1, None)
        try:
            table = np.array([[*map(float, cells[before]), *map(float, cells[after])] for cells in self.rows])
        except ValueError:
            raise self._bad_cell() from None
        if not (np.abs(table) <= _FLOAT32_MAX).all() or any(_is_missing(cells[self.target]) for cells in self.rows):
            raise self._bad_cell()
        return torch.from_numpy(table)

    def _bad_cell(self) -> InputError:
        row, column = next(
            (row, column)
            for row, cells in enumerate(self.rows)
            for column, cell in enumerate(cells)
            if _is_missing(cell) or (column != self.target and _number(cell) is None)
        )
        cell = self.rows[row][column]
        place, hint = self.at(row, column), self.header_hint(row)
        if _is_missing(cell):
            return InputError(f"{place}: {cell!r} is a missing value: fill it in or delete the row{hint}")
        if _is_float(cell):
            return InputError(f"{place}: {reprlib.repr(cell)} is not a finite 32-bit number: correct it{hint}")
        return InputError(
            f"{place}: {reprlib.repr(cell)} is not a number: correct it, remove the column, "
            f"or set target={column} if it holds the label{hint}"
        )

    def classes(self, positive: str | None) -> tuple[str, str]:
        """Returns the two labels, the negative one first."""
        labels = [cells[self.target] for cells in self.rows]
        counts = Counter(labels).most_common()
        if len(counts) == 1:
            raise InputError(
                f"{self.path}: {self.column(self.target)} holds one class only, {reprlib.repr(labels[0])} in all "
                f"{len(labels)} rows: add rows of the other class, or choose the label's column with target"
            )
        if len(counts) > 2:
            rarest = counts[-1][0]
            row = labels.index(rarest)
            others = ", ".join(reprlib.repr(label) for label, _ in counts[:3] if label != rarest)
            raise InputError(
                f"{self.at(row, self.target)}: {reprlib.repr(rarest)} makes {len(counts)} classes, beside {others}"
                f"{', ...' if len(counts) > 4 else ''}: keep the rows of two, or choose the label's column "
                f"with target{self.header_hint(row)}"
            )
        negative, last = sorted((label for label, _ in counts), key=_label_order)
        if positive is None or positive == last:
            return negative, last
        if positive == negative:
            return last, negative
        raise InputError(
            f"{self.path}: positive={positive!r} is not a label of {self.column(self.target)}"
            f"{did_you_mean(str(positive), [negative, last])}: choose {negative!r} or {last!r}"
        )


def _is_missing(cell: str) -> bool:
    return cell.casefold() in _MISSING


def _is_float(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell: str) -> float | None:
    """Returns the cell as a number, or None where it is not one that is finite in float32."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if abs(value) <= _FLOAT32_MAX else None


def _label_order(label: str) -> tuple[bool, float, str, str]:
    # As numbers where they are, so that -1 comes before +1 and 9 before 10.
    number = _number(label)
    return number is None, number or 0.0, label.casefold(), label


def _read_bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        siblings = [sibling.name for sibling in Path(path).parent.glob("*")]
        near = did_you_mean(Path(path).name, siblings)
        raise InputError(f"{path}: no such file{near}: give the path of a CSV file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory: give the path of a CSV file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): give the path of a CSV file") from None


def _text_of(content: bytes, path: str) -> str:
    try:
        return content.decode("utf-8-sig")  # spreadsheets put a byte order mark in front
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: row {line}: byte 0x{content[error.start]:02x} is not UTF-8 text: save the file as CSV in UTF-8"
        ) from None


def _cells_of(text: str, path: str) -> tuple[list[int], list[list[str]]]:
    """Returns a rectangle of cells, blank lines left out, with the line that each row ends on."""
    lines: list[int] = []
    rows: list[list[str]] = []
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    try:
        for row in reader:
            cells = [*map(str.strip, row)]
            if cells not in ([], [""]):
                lines.append(reader.line_num)
                rows.append(cells)
    except csv.Error as error:
        raise InputError(f"{path}: row {reader.line_num}: not CSV ({error}): mend the quotes in this row") from None
    if not rows:
        raise InputError(f"{path}: the file is empty: give a CSV file with rows")
    width = len(rows[0])
    for line, cells in zip(lines, rows, strict=True):
        if len(cells) != width:
            raise InputError(
                f"{path}: row {line} has {len(cells)} cells where row {lines[0]} has {width}: "
                "give every row one cell for each column"
            )
    if width < 2:
        raise InputError(
            f"{path}: row {lines[0]} has one column: separate the cells with commas, the features and a label"
        )
    return lines, rows


# The table that was read last, by the content of its file: a comparison reads the same one for each of its seeds.
_last: dict[tuple[object, ...], Table] = {}


def read_table(path: str, target: int | str, positive: str | None, header: Literal["auto"] | bool) -> Table:
    """Reads a file with two classes.

    Args:
        path: The file.
        target: The label's column: an index, or a name.
        positive: The positive label. None: the one that comes last in order.
        header: Whether the first row holds column names.

    Raises:
        InputError: When the file cannot be read, is not a rectangle of cells, has no such column or a cell that cannot
            be used, or labels that are not of two classes.
    """
    content = _read_bytes(path)
    key = (path, hashlib.blake2b(content).digest(), target, positive, header)
    if key not in _last:
        sheet = _sheet_of(_text_of(content, path), path, target, header)
        x, class_names = sheet.features(), sheet.classes(positive)
        _last.clear()
        _last[key] = Table(x, [cells[sheet.target] == class_names[1] for cells in sheet.rows], class_names)
    return _last[key]


def _sheet_of(text: str, path: str, target: int | str, header: Literal["auto"] | bool) -> Sheet:
    """Finds the header and the target column."""
    lines, rows = _cells_of(text, path)
    width = len(rows[0])
    if isinstance(target, str):
        if not header:
            raise InputError(
                f"target={target!r} names a column, but header=false says that {path} has no names: "
                f"give a column index from 0 to {width - 1}"
            )
        headed = True
        count = rows[0].count(target)
        if count != 1:
            known = ", ".join(map(reprlib.repr, rows[0][:5])) + (", ..." if width > 5 else "")
            problem = f"{count} columns are named {target!r}" if count else f"no column is named {target!r}"
            raise InputError(
                f"{path}: row {lines[0]}: {problem}{'' if count else did_you_mean(target, rows[0])}: set target to "
                f"one name of the header ({known}) or to a column index from 0 to {width - 1}"
            )
        index = rows[0].index(target)
    else:
        if not -width <= target < width:
            raise InputError(
                f"{path}: target={target} is not one of its {width} columns: give 0 to {width - 1}, "
                f"or -1 to {-width} counted from the end"
            )
        index = target % width
        headed = _looks_like_header(rows[0], index) if header == "auto" else header
    if headed and len(rows) == 1:
        raise InputError(f"{path}: has only a header (row {lines[0]}): add rows, or set header=false if it is data")
    return Sheet(
        path=path,
        lines=lines[headed:],
        rows=rows[headed:],
        names=rows[0] if headed else None,
        target=index,
        guessed=header == "auto",
    )


def _looks_like_header(cells: list[str], target: int) -> bool:
    """Returns whether some of the features are text and none is a number.

    One number makes the row data: a mistyped cell in it is then refused, and not dropped with the row. The label does
    not count, since labels are text too.
    """
    features = [cell for i, cell in enumerate(cells) if i != target and not _is_missing(cell)]
    return bool(features) and not any(_is_float(cell) for cell in features)
