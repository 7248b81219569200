"""The logger of a run, where none was asked for."""

from __future__ import annotations

from collections.abc import Mapping
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


class CheckpointLogger(TensorBoardLogger):
    """Logs what is found out about a checkpoint into its run, at the step of the checkpoint.

    An evaluation by itself counts no steps and no epochs: its metrics would stand at the beginning of the run.

    Args:
        folder: The folder of ``lightning_logs``.
        run: The run's folder in there.
        step: The step of the checkpoint.
    """

    def __init__(self, folder: str, run: str, step: int) -> None:
        super().__init__(folder, "lightning_logs", run, default_hp_metric=False)
        self._step = step

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs metrics, but for the epoch."""
        super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, self._step)


def default_logger(folder: str, checkpoint: str | None, trains: bool) -> TensorBoardLogger:
    """Returns the trainer's default logger, under ``folder/lightning_logs``.

    Args:
        folder: The trainer's ``default_root_dir``.
        checkpoint: The checkpoint that is trained on or evaluated. One of a run in that folder belongs to that run.
        trains: Whether it is trained on.
    """
    run = Path(checkpoint).resolve().parents[1] if checkpoint and Path(checkpoint).is_file() else None
    if checkpoint is None or run is None or run.parent != Path(folder, "lightning_logs").resolve():
        return OwnVersionLogger(folder, "lightning_logs", default_hp_metric=False)
    step = torch.load(checkpoint, weights_only=True, map_location="cpu")["global_step"]
    if not trains:
        return CheckpointLogger(folder, run.name, step)
    # What the interrupted run logged after the checkpoint happens again: TensorBoard shall forget the first time.
    return TensorBoardLogger(folder, "lightning_logs", run.name, default_hp_metric=False, purge_step=step)
