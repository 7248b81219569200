"""The logger of a run, where none was asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Union

import torch

from lit_lrsched.cli.checkpoint import counts_of
from lit_lrsched.cli.run_name import is_run_of, names_of
from lit_lrsched.trainer.horizon import step_logged_next
from lit_lrsched.trainer.lightning_package import TensorBoardLogger, get_filesystem, rank_zero_only


class RunLogger(TensorBoardLogger):
    """Logs what belongs on TensorBoard's first screen: not the epoch, and losses in one group, such as ``loss/train``.

    TensorBoard opens with the first two groups of tags, in the order of the alphabet: ``loss`` and ``lr``. Each loss is
    there under its own name, too.

    Args:
        folder: The folder that has ``lightning_logs``.
        run: The run's folder in there; None for one that is not known yet.
        purge_step: The step from which on TensorBoard forgets what was logged.
    """

    def __init__(self, folder: str, run: str | None = None, purge_step: int | None = None) -> None:
        queue = 1000  # points that wait for TensorBoard's thread; with its ten the training waits for that instead
        super().__init__(folder, "lightning_logs", run, default_hp_metric=False, purge_step=purge_step, max_queue=queue)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs metrics, but for the epoch."""
        shown = {name: value for name, value in metrics.items() if name != "epoch"}
        losses = {name: value for name, value in shown.items() if name.endswith("_loss") and name[:4] != "test"}
        super().log_metrics(
            {**shown, **{f"loss/{name.removesuffix('_loss')}": value for name, value in losses.items()}}, step
        )


class NewRunLogger(RunLogger):
    """Takes the next free name by making its folder, so that two runs which begin at once do not share one.

    Args:
        folder: The folder that has ``lightning_logs``.
        name: The run's name, which gets a number where it is taken.
    """

    def __init__(self, folder: str, name: str) -> None:
        super().__init__(folder)
        self._run = name

    @property
    def version(self) -> Union[int, str]:
        """The name of the run's folder."""
        if self._version is None:
            self._version = next(name for name in names_of(self._run) if self._is_free(name))
        return self._version

    def _is_free(self, name: str) -> bool:
        folder = os.path.join(self.root_dir, name)
        if getattr(rank_zero_only, "rank", 0) != 0 or "://" in folder:
            return not get_filesystem(folder).exists(folder)
        try:
            Path(folder).mkdir(parents=True)
        except FileExistsError:
            return False
        return True


class CheckpointLogger(RunLogger):
    """Logs what is found out about a checkpoint into its run, at the step of the checkpoint.

    An evaluation by itself counts no steps and no epochs: its metrics would stand at the beginning of the run.

    Args:
        folder: The folder that has ``lightning_logs``.
        run: The run's folder in there.
        step: The step of the checkpoint by which Lightning logs.
    """

    def __init__(self, folder: str, run: str, step: int) -> None:
        super().__init__(folder, run)
        self._step = step

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs metrics at that step."""
        super().log_metrics(metrics, self._step)


def default_logger(
    folder: str, name: str | None, otherwise: str, checkpoint: str | None, *, trains: bool, by_hand: bool
) -> TensorBoardLogger:
    """Returns the trainer's default logger, under ``folder/lightning_logs``.

    Args:
        folder: The trainer's ``default_root_dir``.
        name: The run's name. None: that of the run that the checkpoint belongs to, or ``otherwise``.
        otherwise: What a new run is called by default.
        checkpoint: The checkpoint that is trained on or evaluated. One of a run in that folder belongs to that run,
            unless ``name`` asks for another.
        trains: Whether it is trained on.
        by_hand: Whether the module optimizes by hand.
    """
    file = counts_of(checkpoint) if checkpoint else None
    if checkpoint is None or file is None:
        return NewRunLogger(folder, name or otherwise)
    run = Path(checkpoint).resolve().parent.parent
    is_another = name is not None and not is_run_of(name, run.name)
    if is_another or run.parent != Path(folder, "lightning_logs").resolve():
        return NewRunLogger(folder, name or otherwise)
    step = step_logged_next(torch.load(file, weights_only=True, map_location="cpu"), by_hand)
    if not trains:
        return CheckpointLogger(folder, run.name, step)
    # What the interrupted run logged after the checkpoint happens again: TensorBoard shall forget the first time.
    return RunLogger(folder, run.name, purge_step=step)
