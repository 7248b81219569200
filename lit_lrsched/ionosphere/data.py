"""Two-class data from a CSV file: checked cell by cell, split the same everywhere, fetched a batch at a time."""

from __future__ import annotations

import csv
import io
import math
import os
import random
import re
import reprlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, Union

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lit_lrsched.errors import InputError, did_you_mean

Batch = tuple[Tensor, Tensor]
Split = Union[tuple[float, float, float], str]
Part = Literal["train", "validation", "test", "predict"]
T = TypeVar("T")

_BUNDLED = Path(__file__).with_name("ionosphere.csv")
_MISSING = frozenset({"", "?", "na", "nan", "null"})
_FLOAT32_MAX = torch.finfo(torch.float32).max
_ORDERED = re.compile(r"ordered:(\d+)")


class Rows(Dataset[Batch]):
    """Rows held as two tensors, fetched a whole batch at a time.

    Args:
        x: Features, float32 ``[N, F]``.
        y: 1.0 for the positive class and 0.0 for the negative one, float32 ``[N, 1]``.

    >>> rows = Rows(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0], [1.0]]))
    >>> rows.__getitems__([1])
    (tensor([[3., 4.]]), tensor([[1.]]))
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x = x
        self.y = y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Batch:
        return self.x[index], self.y[index]

    def __getitems__(self, indices: list[int]) -> Batch:
        index = torch.tensor(indices)
        return self.x.index_select(0, index), self.y.index_select(0, index)


def _as_fetched(batch: T) -> T:
    """Collates nothing: ``__getitems__`` has already made the batch. A module's function, so that workers find it."""
    return batch


@dataclass(frozen=True)
class _Sheet:
    """The cells of a CSV file as text, and where each stands in the file."""

    path: str
    lines: list[int]  # the line of the file that each row ends on, counted from 1
    rows: list[list[str]]  # without the header
    names: list[str] | None
    target: int  # counted from 0
    guessed: bool  # whether the header was left to us

    def at(self, row: int, column: int) -> str:
        return f"{self.path}: row {self.lines[row]}, {self.column(column)}"

    def column(self, column: int) -> str:
        return f"column {column + 1}" + (f" ({reprlib.repr(self.names[column])})" if self.names else "")

    def header_hint(self, row: int) -> str:
        """The fix to offer for a row that may be a header which does not look like one."""
        unsure = row == 0 and self.guessed and self.names is None
        return "; or set header=true if this row holds the column names" if unsure else ""

    def features(self) -> Tensor:
        """Returns the cells outside the target as float64 ``[N, F]``, and refuses any cell that cannot be used."""
        table = []
        for row, cells in enumerate(self.rows):
            values = [_number(cell) for cell in cells[: self.target] + cells[self.target + 1 :]]
            if None in values or _is_missing(cells[self.target]):
                raise self._bad_cell(row)
            table.append(values)
        return torch.tensor(table, dtype=torch.float64)

    def _bad_cell(self, row: int) -> InputError:
        cells = self.rows[row]
        column = next(
            i for i, cell in enumerate(cells) if _is_missing(cell) or (i != self.target and _number(cell) is None)
        )
        cell, place, hint = cells[column], self.at(row, column), self.header_hint(row)
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


def _read_text(path: str) -> str:
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        siblings = [sibling.name for sibling in Path(path).parent.glob("*")]
        near = did_you_mean(Path(path).name, siblings)
        raise InputError(f"{path}: no such file{near}: give the path of a CSV file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory: give the path of a CSV file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): give the path of a CSV file") from None
    try:
        return content.decode("utf-8-sig")  # spreadsheets put a byte order mark in front
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: row {line}: byte 0x{content[error.start]:02x} is not UTF-8 text: save the file as CSV in UTF-8"
        ) from None


def _read_cells(path: str) -> tuple[list[int], list[list[str]]]:
    """Reads a rectangle of cells, blank lines left out, with the line that each row ends on."""
    lines: list[int] = []
    rows: list[list[str]] = []
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), skipinitialspace=True, strict=True)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
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


def _read_sheet(path: str, target: int | str, header: Literal["auto"] | bool) -> _Sheet:
    lines, rows = _read_cells(path)
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
    return _Sheet(
        path=path,
        lines=lines[headed:],
        rows=rows[headed:],
        names=rows[0] if headed else None,
        target=index,
        guessed=header == "auto",
    )


def _looks_like_header(cells: list[str], target: int) -> bool:
    """Tells a header by features of which some are text and none is a number.

    One number is enough to make it data: then a mistyped cell in the first row is refused, and never swallowed with
    its row. The label tells nothing, since labels are text too.
    """
    features = [cell for i, cell in enumerate(cells) if i != target and not _is_missing(cell)]
    return bool(features) and not any(_is_float(cell) for cell in features)


def _parse_split(split: Split) -> int | tuple[float, ...]:
    """Returns the number of leading rows that train, or the three fractions.

    Raises:
        InputError: When the split is neither, or the fractions are negative or do not sum to 1.
    """
    spellings = "give three fractions that sum to 1, like [0.7, 0.15, 0.15], or 'ordered:200'"
    if not isinstance(split, (tuple, list)):
        match = _ORDERED.fullmatch(str(split))
        if match is None:
            raise InputError(f"split={split!r} is not a split: {spellings}")
        return int(match[1])
    fractions = tuple(split)
    if len(fractions) != 3:
        raise InputError(f"split={split!r} has {len(fractions)} parts: {spellings}")
    for fraction in fractions:
        if not 0 <= fraction <= 1:
            raise InputError(f"split={split!r} has the fraction {fraction}, not within 0 to 1: {spellings}")
    if not math.isclose(math.fsum(fractions), 1, abs_tol=1e-9):
        raise InputError(f"split={split!r} sums to {math.fsum(fractions):g}: {spellings}")
    return fractions


def _counts(sizes: Sequence[int], fractions: Sequence[float]) -> list[list[int]]:
    """Divides groups of rows into parts by the method of the largest remainder.

    What rounding leaves a part short of in one group counts for it in the next, so that with two groups not only the
    count of every part within a group but also its count over both is right to a row.
    """
    owed = [0.0] * len(fractions)
    table = []
    for size in sizes:
        exact = [round(size * fraction, 9) for fraction in fractions]  # 0.29 * 100 is 28.999999999999996
        counts = [math.floor(share) for share in exact]
        owed = [debt + share - count for debt, share, count in zip(owed, exact, counts, strict=True)]
        for part in sorted(range(len(owed)), key=lambda part: -owed[part])[: size - sum(counts)]:
            counts[part] += 1
            owed[part] -= 1
        table.append(counts)
    return table


def _split_rows(positives: Sequence[bool], split: Split, seed: int, stratify: bool) -> tuple[list[int], ...]:
    """Returns the rows of the training, validation and test parts, each in file order."""
    total = len(positives)
    parsed = _parse_split(split)
    if isinstance(parsed, int):
        rest = list(range(parsed, total))
        return list(range(min(parsed, total))), rest, rest
    # Python documents the sequence of random() as the same for ever; it does not for shuffle(), nor torch for randperm.
    draw = random.Random(seed).random
    keys = [draw() for _ in range(total)]
    shuffled = sorted(range(total), key=keys.__getitem__)
    groups = [[row for row in shuffled if positives[row] is kind] for kind in (False, True)] if stratify else [shuffled]
    parts: tuple[list[int], ...] = ([], [], [])
    for group, counts in zip(groups, _counts([len(group) for group in groups], parsed), strict=True):
        start = 0
        for part, count in zip(parts, counts, strict=True):
            part += group[start : start + count]
            start += count
    return tuple(sorted(part) for part in parts)


def _standardize(x: Tensor, train: Tensor) -> Tensor:
    """Shifts and scales each column to mean 0 and standard deviation 1 over the training rows, which alone count."""
    std = train.std(dim=0, correction=0)
    # A constant column is only shifted. Its computed deviation may differ from 0 by rounding, its range does not.
    varies = (train.amax(dim=0) > train.amin(dim=0)) & (std > 0)
    return (x - train.mean(dim=0)) / torch.where(varies, std, 1.0)


class CSVDataModule(LightningDataModule):
    """Numeric features and a two-class label from any CSV file.

    Batches are ``(x, y)``: features float32 ``[B, F]`` in file order of the columns, and float32 ``[B, 1]`` that is
    1.0 for the positive class. Training batches are reshuffled every epoch by torch's global generator, so
    ``seed_everything`` rules their order; ``predict`` yields every row of the file, in file order.

    The file is read once, on first use, and every cell of it is checked: a missing value (an empty cell, ``?``,
    ``NA``, ``NaN``, ``null``), one that is not a finite number, or a row with too few or too many cells is refused.
    Blank lines are skipped.

    Args:
        path: The file: comma separated, UTF-8.
        target: The label's column: an index from 0, or negative from the end; or a name, which implies a header.
        positive: The label that counts as 1. None is the one that sorts last: the larger of two numbers, otherwise
            the later in the alphabet, so ``g`` over ``b``.
        header: Whether the first row holds column names. ``"auto"``: it does when, outside the target, some of its
            cells are text and none is a number.
        batch_size: Rows in a batch, at least 1. The last batch of an epoch may be smaller.
        split: Fractions of the rows for training, validation and test, which sum to 1; or ``"ordered:N"``: the first
            N rows train and the rest are the test rows and the validation rows both.
        seed: Chooses which rows fractions draw, at least 0. The same on every machine, whatever the global seed.
        stratify: Whether fractions divide each class by itself, each share right to a row. Otherwise, all rows as one.
        standardize: Whether to bring every feature to mean 0 and standard deviation 1 over the training rows. A
            feature that is constant there is only shifted.
        num_workers: Processes that load batches, at least 0. The data is in memory: 0 is fastest.

    Raises:
        InputError: In construction for an argument out of range; on first use for anything in the file.

    >>> data = CSVDataModule(_BUNDLED, split="ordered:200")
    >>> data.num_features, data.class_names
    (34, ('b', 'g'))
    >>> [tuple(part.shape) for part in next(iter(data.train_dataloader()))]
    [(24, 34), (24, 1)]
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        target: int | str = -1,
        positive: str | None = None,
        header: Literal["auto"] | bool = "auto",
        batch_size: int = 24,
        split: Split = (0.7, 0.15, 0.15),
        seed: int = 0,
        stratify: bool = True,
        standardize: bool = False,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        path = os.fspath(path)  # plain text in a checkpoint loads with weights_only=True, a Path does not
        for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0), ("num_workers", num_workers, 0)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name}={value!r} must be a whole number of at least {least}")
        if header not in ("auto", True, False):
            raise InputError(f"header={header!r} must be 'auto', true or false")
        _parse_split(split)
        # Not to the logger: there Lightning refuses a module that happens to save, say, another batch_size.
        self.save_hyperparameters(logger=False)
        self.path = path
        self.target = target
        self.positive = positive
        self.header = header
        self.batch_size = batch_size
        self.split = split
        self.seed = seed
        self.stratify = stratify
        self.standardize = standardize
        self.num_workers = num_workers
        self._loaded: tuple[tuple[str, str], dict[Part, Rows]] | None = None
        self._told = False

    @property
    def num_features(self) -> int:
        """The number of columns besides the label."""
        return self._load()[1]["predict"].x.shape[1]

    @property
    def class_names(self) -> tuple[str, str]:
        """The two labels: ``(negative, positive)``, which ``y`` holds as 0 and 1."""
        return self._load()[0]

    def prepare_data(self) -> None:
        """Reads and checks the whole file, before Lightning makes any folder."""
        self._load()

    def setup(self, stage: str) -> None:
        """Says once where the validation rows are also the test rows."""
        self._load()
        if stage in ("fit", "validate") and isinstance(self.split, str) and not self._told:
            self._told = True
            rank_zero_info(f"split={self.split}: validation uses the test rows")

    def train_dataloader(self) -> DataLoader[Batch]:
        """Returns the training rows, reshuffled every epoch."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Batch]:
        """Returns the validation rows, in file order."""
        return self._loader("validation")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Returns the test rows, in file order."""
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Returns every row of the file, in file order."""
        return self._loader("predict")

    def _loader(self, part: Part) -> DataLoader[Batch]:
        return DataLoader(
            self._load()[1][part],
            batch_size=self.batch_size,
            shuffle=part == "train",
            num_workers=self.num_workers,
            collate_fn=_as_fetched,
            persistent_workers=self.num_workers > 0,
        )

    def _load(self) -> tuple[tuple[str, str], dict[Part, Rows]]:
        if self._loaded is None:
            self._loaded = self._read()
        return self._loaded

    def _read(self) -> tuple[tuple[str, str], dict[Part, Rows]]:
        sheet = _read_sheet(self.path, self.target, self.header)
        x = sheet.features()
        class_names = sheet.classes(self.positive)
        positives = [cells[sheet.target] == class_names[1] for cells in sheet.rows]
        parts = _split_rows(positives, self.split, self.seed, self.stratify)
        names: tuple[Part, ...] = ("train", "validation", "test")
        for name, part in zip(names, parts, strict=True):
            if not part:
                sizes = ", ".join(f"{len(rows)} {name}" for name, rows in zip(names, parts, strict=True))
                raise InputError(
                    f"{self.path}: split={self.split!r} leaves the {name} part of its {len(positives)} rows empty "
                    f"({sizes}): give that part more, or add rows"
                )
        if self.standardize:
            x = _standardize(x, x[torch.tensor(parts[0])])
        everything = Rows(x.float(), torch.tensor(positives).float().unsqueeze(1))
        loaded = {name: Rows(*everything.__getitems__(part)) for name, part in zip(names, parts, strict=True)}
        return class_names, {**loaded, "predict": everything}


class IonosphereDataModule(CSVDataModule):
    """The UCI ionosphere data set, bundled: 351 radar returns, 34 features, label ``g`` (good) or ``b`` (bad).

    A :class:`CSVDataModule` with the file, its label column and ``g`` as the positive class filled in. Where the data
    comes from, and its licence: ``DATA.md`` beside this module.

    Args:
        batch_size: Rows in a batch, at least 1. The last batch of an epoch may be smaller.
        split: Fractions of the rows for training, validation and test, which sum to 1; or ``"ordered:200"``, the split
            of the 1989 paper: the first 200 rows train and the other 151 are the test and the validation rows both.
        seed: Chooses which rows fractions draw, at least 0. The same on every machine, whatever the global seed.
        stratify: Whether fractions divide each class by itself, each share right to a row. Otherwise, all rows as one.
        standardize: Whether to bring every feature to mean 0 and standard deviation 1 over the training rows. A
            feature that is constant there is only shifted.
        num_workers: Processes that load batches, at least 0. The data is in memory: 0 is fastest.

    Raises:
        InputError: In construction for an argument out of range; on first use for a split that leaves a part empty.

    >>> data = IonosphereDataModule()
    >>> loaders = data.train_dataloader(), data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()
    >>> [len(loader.dataset) for loader in loaders]
    [246, 53, 52, 351]
    """

    def __init__(
        self,
        batch_size: int = 24,
        split: Split = (0.7, 0.15, 0.15),
        seed: int = 0,
        stratify: bool = True,
        standardize: bool = False,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            _BUNDLED,
            positive="g",
            header=False,
            batch_size=batch_size,
            split=split,
            seed=seed,
            stratify=stratify,
            standardize=standardize,
            num_workers=num_workers,
        )
        # Where the bundled file lies on this machine has no place in a checkpoint.
        self.save_hyperparameters(ignore=["path", "target", "positive", "header"], logger=False)
