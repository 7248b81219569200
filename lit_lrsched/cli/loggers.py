"""The logger of a run, where none was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Union

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only


class OwnVersionLogger(TensorBoardLogger):
    """Takes the next free version by making its folder, so that two runs which begin at once do not share one."""

    @property
    def version(self) -> Union[int, str]:
        """The version, as the name of its folder or as a number."""
        while self._version is None:
            self._version = self._get_next_version()
            if getattr(rank_zero_only, "rank", 0) == 0 and "://" not in self.log_dir:
                try:
                    Path(self.log_dir).mkdir(parents=True)
                except FileExistsError:
                    self._version = None
        return self._version


def default_logger(folder: str, checkpoint: str | None) -> TensorBoardLogger:
    """Returns the trainer's default logger, under ``folder/lightning_logs``.

    Args:
        folder: The trainer's ``default_root_dir``.
        checkpoint: Where the run goes on from. One of a run in that folder goes on in the run's own.
    """
    run = Path(checkpoint).resolve().parents[1] if checkpoint and Path(checkpoint).is_file() else None
    if checkpoint is None or run is None or run.parent != Path(folder, "lightning_logs").resolve():
        return OwnVersionLogger(folder, "lightning_logs", default_hp_metric=False)
    # What the interrupted run logged after the checkpoint happens again: TensorBoard shall forget the first time.
    step = torch.load(checkpoint, weights_only=True, map_location="cpu")["global_step"]
    return TensorBoardLogger(folder, "lightning_logs", run.name, default_hp_metric=False, purge_step=step)
