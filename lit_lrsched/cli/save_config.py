"""The configuration of a run, saved in the run's own folder once the run has begun."""

from __future__ import annotations

import os
from typing import Any

from lit_lrsched.cli.lightning_cli_package import SaveConfigCallback
from lit_lrsched.cli.run_folder import CONFIG, RunFolder
from lit_lrsched.trainer.lightning_package import LightningModule, Trainer, get_filesystem


class SaveConfig(SaveConfigCallback):
    """Lightning's callback, which saves when a loop begins and not before: a run that is refused leaves nothing.

    Lightning's own saves in ``save_dir`` where the logger is neither TensorBoard's nor CSV's: in the same folder for
    every run, so that the second refuses to start. Only the loop that was asked for counts: when ``fit`` had nothing to
    train, the test after it saves nothing.

    Args:
        folder: The run's folder.
    """

    def __init__(self, *args: Any, folder: RunFolder, **kwargs: Any) -> None:
        super().__init__(*args, **{"config_filename": CONFIG, **kwargs, "save_to_log_dir": False})
        self._folder = folder
        self._asked: str | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses to overwrite the configuration of another run.

        Raises:
            InputError: When the folder has one.
        """
        if self._asked is not None:
            return
        self._asked = stage
        if not self.overwrite:
            self._folder.refuse_another_run(trainer)

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

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Saves it, in the first process alone."""
        folder = self._folder(trainer)
        if folder is None:
            return
        get_filesystem(folder).makedirs(folder, exist_ok=True)
        path = os.path.join(folder, self.config_filename)
        if stage == "fit" and trainer.global_step > 0:
            _keep(path, trainer.global_step)
        self.parser.save(self.config, path, skip_none=False, overwrite=True, multifile=self.multifile)

    def _save(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == self._asked:
            super().setup(trainer, pl_module, stage)


def _keep(path: str, step: int) -> None:
    """Keeps the configuration that a resumed run had until now, as ``config_until_step_275.yaml``."""
    files = get_filesystem(path)
    name, ending = os.path.splitext(path)
    kept = f"{name}_until_step_{step}{ending}"
    if files.exists(path) and not files.exists(kept):  # else what came after that step is done anew
        files.mv(path, kept)
