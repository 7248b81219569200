"""What is built for a seed, and how long an epoch of its data is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import DataLoader, IterableDataset

from lit_lrsched.comparison.builds import batches_per_epoch
from lit_lrsched.trainer.fit_plan import configure


class Stream(IterableDataset[torch.Tensor]):
    def __iter__(self) -> Any:
        return iter([torch.ones(32)] * 5)


def rows(count: int) -> DataLoader[Any]:
    return DataLoader(torch.ones(count, 32), batch_size=2)  # type: ignore[arg-type]


LOADERS = {
    "one": lambda: rows(12),
    "dict": lambda: {"a": rows(12), "b": rows(8)},
    "list": lambda: [rows(8), rows(12), rows(4)],
    "shortest": lambda: CombinedLoader({"a": rows(12), "b": rows(8)}, "min_size"),
    "one after another": lambda: CombinedLoader([rows(12), rows(8)], "sequential"),
    "with a stream": lambda: CombinedLoader([rows(12), DataLoader(Stream())], "min_size"),
    "stream": lambda: DataLoader(Stream()),
    "no loader": Stream,
}


@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*Skipping val loop", "ignore:.*`IterableData"
)
@pytest.mark.parametrize("name", LOADERS)
def test_an_epoch_has_as_many_batches_as_the_trainer_counts(name: str) -> None:
    class Data(LightningDataModule):
        def train_dataloader(self) -> Any:
            return LOADERS[name]()

    trainer = Trainer(max_steps=3, accelerator="cpu", logger=False, enable_checkpointing=False)
    configure(trainer, BoringModel(), Data())
    counted = batches_per_epoch(lambda seed: (BoringModel(), Data()), 0)
    assert counted == (None if trainer.num_training_batches == float("inf") else trainer.num_training_batches)
