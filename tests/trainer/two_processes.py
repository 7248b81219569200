"""Trains in two processes and writes what each used: ``python -m tests.trainer.two_processes FOLDER CHECKPOINT``.

Lightning starts the second process by the same command.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch.utils.data import DataLoader

from lit_lrsched import LearningRateLogger, Linear, Plateau, WarmupCosine
from lit_lrsched.trainer.callbacks.stop_cleanly import StopCleanly
from lit_lrsched.trainer.interrupts import Interrupted, interrupts_of_lightning
from tests.training import SaveAt, Small, Used, quiet_trainer, scheduled, small


class Disagreeing(Small):
    """One process sees its loss fall, the other sees it rise, and nobody brings them together."""

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        direction = 1 if self.global_rank else -1
        self.log("val_loss", 10.0 + direction * (1 + self.global_rank) * self.current_epoch, batch_size=1)


class Sharded(LightningModule):
    """Layers whose parameters are spread over the processes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Linear(8, 2))

    def configure_model(self) -> None:
        from torch.distributed.fsdp import fully_shard

        for layer in [*self.layers, self.layers]:
            fully_shard(layer, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.layers(batch).square().mean()

    def configure_optimizers(self) -> Any:
        return scheduled(WarmupCosine("3st"))(self)


class AskedAmidAgreement(DDPStrategy):
    """Sends the second process SIGTERM when the first has just heard that nobody was asked to stop."""

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        agreed = super().reduce_boolean_decision(decision, all)
        if self.global_rank == 1 and self.lightning_module.trainer.global_step == STEP:
            os.kill(os.getpid(), signal.SIGTERM)
        return agreed


STEP = 7


def stop(folder: Path) -> None:
    """Trains until both processes are stopped, and writes the signal that each was told of."""
    strategy = AskedAmidAgreement(process_group_backend="gloo", timeout=timedelta(seconds=30))
    try:
        with interrupts_of_lightning():
            train(small(WarmupCosine("20%")), folder, StopCleanly(lambda: ["fit"]), strategy=strategy)
    except Interrupted as stopped:
        (folder / f"{strategy.global_rank}.signal").write_text(str(stopped.number))


def train(module: LightningModule, folder: Path, *callbacks: Callback, val: bool = False, **options: Any) -> None:
    """Trains for 3 epochs of 10 numbers, five for each process, and writes the rates that this process used."""
    used, ckpt = Used(), options.pop("ckpt_path", None)
    folder.mkdir(exist_ok=True)
    defaults = {"strategy": DDPStrategy(process_group_backend="gloo"), "log_every_n_steps": 1}
    trainer = quiet_trainer(used, *callbacks, devices=2, default_root_dir=folder, **{**defaults, **options})
    numbers = DataLoader(torch.linspace(0.1, 0.9, 10).reshape(-1, 1), batch_size=1)
    trainer.fit(module, numbers, numbers if val else None, ckpt_path=ckpt)
    (folder / f"{trainer.global_rank}.json").write_text(json.dumps(used.rates))


def main(folder: Path, ckpt_of_one_process: Path) -> None:
    train(
        small(WarmupCosine("20%")),
        folder / "accumulation",
        LearningRateLogger(each_step=True),
        accumulate_grad_batches=2,
        logger=TensorBoardLogger(folder / "accumulation", name=None),
    )
    train(Disagreeing(scheduled(Plateau(patience=0, factor=0.5))), folder / "plateau", val=True)
    train(small(Linear()), folder / "resumed", ckpt_path=ckpt_of_one_process)
    saver = SaveAt(folder, "on_train_epoch_end")
    train(Sharded(), folder / "sharded", saver, strategy=ModelParallelStrategy(2, 1))
    train(Sharded(), folder / "sharded resumed", strategy=ModelParallelStrategy(2, 1), ckpt_path=saver.paths[0])
    (folder / "whole").mkdir(exist_ok=True)
    train(small(WarmupCosine("20%")), folder / "whole", SaveAt(folder / "whole"))
    stop(folder / "stopped")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    torch.distributed.destroy_process_group()  # one that is left to the end of the process may abort it
