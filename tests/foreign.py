"""Classes that are not ours, with parameters that are called as ours are."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lit_lrsched import Cosine, schedule_config


class MLP(LightningModule):
    """Tells whether the first of ten features is positive."""

    def __init__(self, in_features: int = 10, hidden: int = 128, depth: int = 1) -> None:
        super().__init__()
        self.save_hyperparameters()
        inner = [nn.Linear(hidden, hidden) for _ in range(depth - 1)]
        self.network = nn.Sequential(nn.Linear(in_features, hidden), *inner, nn.ReLU(), nn.Linear(hidden, 1))

    def step(self, stage: str, batch: Any) -> Tensor:
        x, y = batch
        logits = self.network(x)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, y)
        self.log(f"{stage}_loss", loss, on_step=False, on_epoch=True)
        self.log(f"{stage}_acc", ((logits > 0) == y.bool()).float().mean(), on_step=False, on_epoch=True)
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.step("train", batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.step("val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.step("test", batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class Grouped(MLP):
    """Two param groups of other rates and decays, and a schedule that asks the trainer for its length."""

    def configure_optimizers(self) -> Any:
        first, last = self.network[0], self.network[-1]
        groups = [
            {"params": first.parameters(), "lr": 1e-3, "name": "first"},
            {"params": last.parameters(), "lr": 4e-3, "weight_decay": 0.0, "name": "last"},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=0.2)
        steps = int(self.trainer.estimated_stepping_batches)
        one_cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, [1e-3, 4e-3], total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": one_cycle, "interval": "step"}}


class Decayed(MLP):
    """One group, with settings of its own and a schedule of ours."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.02, momentum=0.8, weight_decay=0.3, nesterov=True)
        return schedule_config(optimizer, Cosine(), self.trainer)


class HeadOnly(MLP):
    def configure_optimizers(self) -> Any:
        return torch.optim.RMSprop(self.network[-1].parameters(), lr=1e-3)


class Several(MLP):
    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(layer.parameters()) for layer in (self.network[0], self.network[-1])]


class GAN(Several):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


class NoOptimizer(MLP):
    def configure_optimizers(self) -> None:
        return None


class OtherWords(MLP):
    """Means something else by the names of two options: text, and a scheduler of torch's alone."""

    def __init__(
        self,
        optimizer: str = "adam",
        lr_scheduler: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler] | None = None,
    ) -> None:
        super().__init__()


class Untyped(Grouped):
    """Has parameters by the names of two options, and no type tells what they take."""

    def __init__(self, optimizer=None, lr_scheduler=None) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.given = optimizer, lr_scheduler

    def configure_optimizers(self) -> Any:
        assert self.given == (None, None)
        return super().configure_optimizers()


class Data(LightningDataModule):
    """Ten random features."""

    def __init__(
        self, batch_size: int = 64, seed: int = 1234, num_workers: int = 0, standardize: bool = True, rows: int = 128
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        x = torch.randn(rows, 10, generator=torch.Generator().manual_seed(seed))
        self.rows, self.batch_size = TensorDataset(x, (x[:, :1] > 0).float()), batch_size

    def train_dataloader(self) -> Any:
        return DataLoader(self.rows, self.batch_size, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.rows, self.batch_size)

    def test_dataloader(self) -> Any:
        return DataLoader(self.rows, self.batch_size)


class WideData(Data):
    """The same, and it says how wide it is."""

    def __init__(self, batch_size: int = 32) -> None:
        super().__init__(batch_size)
        self.num_features = 10


class OtherwiseWide(Data):
    """The same, and it calls something else by that name."""

    num_features = 3


class SelfFed(MLP):
    """Brings its own data."""

    def train_dataloader(self) -> Any:
        return Data().train_dataloader()


def made_by_a_function(hidden: int = 3) -> MLP:
    return MLP(hidden=hidden)


class Tracker(Logger):
    """A logger of the shape of W&B's: a folder, a project and a run's own id, and no ``log_dir``.

    Or one for the folder of all runs, as some have.
    """

    def __init__(
        self,
        folder: str | None = "tracked",
        project: str | None = "mine",
        version: str | None = "",
        has_log_dir: bool = False,
    ) -> None:
        super().__init__()
        self._has_log_dir = has_log_dir
        self._folder, self._project = folder, project
        # Like W&B, it knows its id only when its experiment begins.
        self._id, self._version = (None if version == "" else version), version

    @property
    def experiment(self) -> object:
        if self._version == "":
            self._id = self._id or uuid.uuid4().hex
        return self

    @property
    def save_dir(self) -> str | None:
        return self._folder

    @property
    def log_dir(self) -> str | None:
        return self._folder if self._has_log_dir else None

    @property
    def name(self) -> str | None:
        return self._project

    @property
    def version(self) -> str | None:
        return self._id

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        pass

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass
