"""The line that says what is trained."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer


class StartLine(Callback):
    """Says what is trained and where, once training starts: a run that is refused says nothing of it."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the line."""
        if trainer.is_global_zero:
            parameters = sum(parameter.numel() for parameter in pl_module.parameters())
            device = trainer.strategy.root_device.type
            print(f"Training {type(pl_module).__name__} ({parameters:,} parameters) on {device}.")
