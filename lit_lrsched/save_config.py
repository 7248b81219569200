"""The configuration of a run, saved once the run has begun."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from lit_lrsched.errors import InputError


class SaveConfig(SaveConfigCallback):
    """Lightning's callback, which saves when a loop begins and not before: a run that is refused leaves nothing."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses to overwrite the configuration of another run.

        Raises:
            InputError: When the folder has one.
        """
        folder = trainer.log_dir  # which all processes have to ask for
        saved = Path(folder or "", self.config_filename)
        if trainer.strategy.broadcast(saved.exists()) and not (self.overwrite or self.already_saved):
            raise InputError(f"{str(saved)!r} is of another run: remove it, or give the logger another folder")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves."""
        super().setup(trainer, pl_module, "fit")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves, unless this is the validation of a ``fit``."""
        if trainer.state.fn == "validate":
            super().setup(trainer, pl_module, "validate")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves."""
        super().setup(trainer, pl_module, "test")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves."""
        super().setup(trainer, pl_module, "predict")
