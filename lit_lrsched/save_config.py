"""The configuration of a run, saved once the run has begun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from lit_lrsched.errors import InputError


class SaveConfig(SaveConfigCallback):
    """Lightning's callback, which saves when a loop begins and not before: a run that is refused leaves nothing.

    Only the loop that was asked for counts: when ``fit`` had nothing to train, the test after it saves nothing.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._asked: str | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses to overwrite the configuration of another run.

        Raises:
            InputError: When the folder has one.
        """
        if self._asked is not None:
            return
        self._asked = stage
        folder = trainer.log_dir  # which all processes have to ask for
        saved = Path(folder or "", self.config_filename)
        if trainer.strategy.broadcast(saved.exists()) and not self.overwrite:
            raise InputError(f"{str(saved)!r} is of another run: remove it, or give the logger another folder")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves."""
        self._save(trainer, pl_module, "fit")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves."""
        self._save(trainer, pl_module, "validate")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves."""
        self._save(trainer, pl_module, "test")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves."""
        self._save(trainer, pl_module, "predict")

    def _save(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == self._asked:
            super().setup(trainer, pl_module, stage)
