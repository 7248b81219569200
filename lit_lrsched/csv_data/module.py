"""The data module for any CSV file: rows held as tensors, fetched a whole batch at a time."""

from __future__ import annotations

import os
from typing import Literal, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lit_lrsched.csv_data.reading import read_table
from lit_lrsched.csv_data.splitting import Split, parse_split, split_rows
from lit_lrsched.errors import InputError
from lit_lrsched.trainer.lightning_package import LightningDataModule, rank_zero_info

Batch = tuple[Tensor, Tensor]

Part = Literal["train", "validation", "test", "predict"]
T = TypeVar("T")


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
    ``seed_everything`` decides their order; ``predict`` yields every row of the file, in file order.

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

    >>> import lit_lrsched
    >>> path = lit_lrsched.__path__[0] + "/ionosphere/ionosphere.csv"
    >>> data = CSVDataModule(path, split="ordered:200")
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
        parse_split(split)
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
        self._announced = False

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
        if stage in ("fit", "validate") and isinstance(self.split, str) and not self._announced:
            self._announced = True
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
        table = read_table(self.path, self.target, self.positive, self.header)
        x, positives = table.x, table.positives
        parts = split_rows(positives, self.split, self.seed, self.stratify)
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
        return table.class_names, {**loaded, "predict": everything}
