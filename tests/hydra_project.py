"""A project as lightning-hydra-template lays it out: its code here, its ``configs`` in ``tests/fixtures``."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset


class Points(LightningDataModule):
    """Forty points of the plane, and on which side of a line they lie."""

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
        self.rows = TensorDataset(x, (x[:, :1] > x[:, 1:]).float())

    def train_dataloader(self) -> Any:
        return DataLoader(self.rows, batch_size=self.hparams["batch_size"])

    def val_dataloader(self) -> Any:
        return DataLoader(self.rows, batch_size=self.hparams["batch_size"])


class LitModule(LightningModule):
    """Gets optimizer and scheduler as partial functions, and does without a scheduler where that is None."""

    def __init__(self, net: nn.Module, optimizer: partial[Optimizer], scheduler: Any) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False, ignore=["net"])
        self.net = net
        self.rates: list[float] = []

    def loss_of(self, batch: Any) -> Tensor:
        x, y = batch
        return nn.functional.binary_cross_entropy_with_logits(self.net(x), y)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return self.loss_of(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", self.loss_of(batch))

    def configure_optimizers(self) -> Any:
        optimizer = self.hparams["optimizer"](params=self.trainer.model.parameters())
        if self.hparams["scheduler"] is None:
            return {"optimizer": optimizer}
        scheduler = {"scheduler": self.hparams["scheduler"](optimizer=optimizer), "monitor": "val/loss"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def train(config: Any) -> LightningModule:
    """Makes everything that a configuration names, and trains."""
    from hydra.utils import instantiate

    torch.manual_seed(config.seed)
    data, model = instantiate(config.data), instantiate(config.model)
    callbacks: list[Callback] = [instantiate(each) for each in config.callbacks.values() if "_target_" in each]
    trainer: Trainer = instantiate(config.trainer, callbacks=callbacks)
    trainer.fit(model, data, ckpt_path=config.ckpt_path, weights_only=False)
    return model
