"""The folder that a run has for itself, whatever its logger: its configuration and its checkpoints go there."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from lit_lrsched.errors import InputError
from lit_lrsched.trainer.lightning_package import (
    Callback,
    DummyLogger,
    LightningModule,
    Logger,
    ModelCheckpoint,
    Trainer,
    get_filesystem,
)

CONFIG = "config.yaml"


class RunFolder:
    """Finds the folder of a run once, when its logger knows what the run is called.

    The logger's own folder where it has one, as TensorBoard's has. Otherwise ``save_dir/name/version``, where Lightning
    keeps the checkpoints; with a number where an earlier run of that name and version is there already.

    Args:
        checkpoint: The checkpoint that the run goes on from. Inside such a folder, that is the run's.
    """

    def __init__(self, checkpoint: str | None = None) -> None:
        self._checkpoint = checkpoint
        self._found: str | None = None

    def __call__(self, trainer: Trainer) -> str | None:
        """Returns the folder; None without a logger."""
        # Not `trainer.log_dir`, which talks to the other processes, and they may be gone.
        if self._found is None and trainer.logger is not None and not isinstance(trainer.logger, DummyLogger):
            self._found = self._find(trainer.logger, trainer.default_root_dir)
        return self._found

    def refuse_another_run(self, trainer: Trainer) -> None:
        """Refuses a folder that an earlier run is in, in every process alike.

        Raises:
            InputError: When there is one.
        """
        folder = self(trainer)
        is_taken = folder is not None and _holds_run(folder) and not self.goes_on(folder)
        if trainer.strategy.broadcast(is_taken):
            raise InputError(f"an earlier run is in {folder}: give the logger another name or version")

    def goes_on(self, folder: str) -> bool:
        """Returns whether the run goes on from a checkpoint of this folder."""
        checkpoint = self._checkpoint
        return checkpoint is not None and Path(checkpoint).resolve().is_relative_to(Path(folder).resolve())

    def _find(self, logger: Logger, root: str) -> str:
        own = own_folder(logger)
        if own is not None:
            return own
        parent = os.path.join(logger.save_dir or root, logger.name or "lightning_logs")
        folders = (os.path.join(parent, name) for name in _names(logger.version))
        return next(folder for folder in folders if self.goes_on(folder) or not _holds_run(folder))


def own_folder(logger: Logger) -> str | None:
    """Returns the folder that a logger has for this run; None where its ``log_dir`` is that of all runs, or is none.

    >>> from lightning.pytorch.loggers import CSVLogger
    >>> own_folder(CSVLogger("logs", "mine", "first"))
    'logs/mine/first'
    """
    folder = getattr(logger, "log_dir", None)
    return str(folder) if folder and folder != logger.save_dir else None


def _names(version: int | str | None) -> Iterator[str]:
    if version is None:
        yield from (f"version_{number}" for number in itertools.count())
    name = version if isinstance(version, str) else f"version_{version}"
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(1))


def _holds_run(folder: str) -> bool:
    held: bool = get_filesystem(folder).isfile(os.path.join(folder, CONFIG))
    return held


class LastCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint of the last epoch in the run's own folder.

    Args:
        folder: The run's folder.
        others: The other callbacks of the run.
    """

    def __init__(self, folder: RunFolder, others: Iterable[Callback] = ()) -> None:
        # Else it saves after validations alone where these are not at the end of every epoch.
        super().__init__(filename="last", enable_version_counter=False, save_on_train_epoch_end=True)
        self._folder = folder
        own: str = super().state_key
        earlier = own.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)
        is_taken = any(other.state_key == earlier for other in others if isinstance(other, ModelCheckpoint))
        self._state_key = own if is_taken else earlier  # asked for at every hook of every step

    @property
    def state_key(self) -> str:
        """The base's, by which earlier checkpoints know it; its own where the user's ModelCheckpoint has that."""
        return self._state_key

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Chooses the folder."""
        folder = self._folder(trainer)
        if self.dirpath is None and folder is not None:
            self.dirpath = os.path.join(folder, "checkpoints")
        super().setup(trainer, pl_module, stage)
