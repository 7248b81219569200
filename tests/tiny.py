"""A run that is over in a moment: a module with two numbers to learn, and its data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.optim import SGD, Optimizer
from torch.utils.data import DataLoader, TensorDataset

from lit_lrsched.optim.param_groups import values_of

Configure = Callable[["Tiny"], Any]


class Tiny(LightningModule):
    """Notes what its optimizers are set to at each step.

    Args:
        configure: What ``configure_optimizers`` does.
        batches: Batches in an epoch.
        val_loss: What is logged at each validation; by default it falls, while ``val_acc`` rises.
    """

    def __init__(self, configure: Configure, batches: int = 11, val_loss: Sequence[float] = ()) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(1, 1), nn.Linear(1, 1)
        self.configure, self.batches, self.val_loss = configure, batches, val_loss
        self.used: list[dict[str, float]] = []
        self.validations = 0

    def make_optimizer(self) -> Optimizer:
        groups = [{"params": self.backbone.parameters(), "lr": 0.03}, {"params": self.head.parameters()}]
        return SGD(groups, lr=0.1, momentum=0.9)

    def configure_optimizers(self) -> Any:
        return self.configure(self)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.head(self.backbone(batch[0])).mean()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.used.append(values_of(self.trainer.optimizers))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0 and not self.trainer.sanity_checking:
            falling = 1.0 / (1 + self.validations)
            self.log("val_loss", self.val_loss[self.validations] if self.val_loss else falling)
            self.log("val_acc", 1.0 - falling)
            self.validations += 1

    def train_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(torch.ones(self.batches, 1)))

    def val_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(torch.ones(1, 1)))


def tiny_trainer(**options: Any) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "log_every_n_steps": 1}
    return Trainer(**{**quiet, "accelerator": "cpu", "enable_model_summary": False, "max_epochs": 5, **options})
