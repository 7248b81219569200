"""The folders that loggers make for a run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lit_lrsched.cli.run_folder import own_folder
from lit_lrsched.trainer.lightning_package import Logger


class NewFolders:
    """What loggers are about to make for a run, which is remembered before so that nothing else is ever removed.

    Args:
        loggers: The run's loggers. Their folders that are there already stay, unless empty, and so does what they hold.

    >>> from lightning.pytorch.loggers import CSVLogger
    >>> NewFolders([CSVLogger("nowhere")]).remove()
    """

    def __init__(self, loggers: Iterable[Logger]) -> None:
        loggers = list(loggers)
        # Before the loggers are asked for their folder: to claim it, one of them makes it then.
        roots = [Path(root) for logger in loggers if (root := getattr(logger, "root_dir", None))]
        self._above = [folder for root in roots for folder in (root, *root.parents) if not folder.exists()]
        self._runs = [Path(folder) for logger in loggers if (folder := own_folder(logger))]
        self._new = [run for run in self._runs if not run.exists() or not any(run.iterdir())]
        self._events = {file for run in self._runs for file in _events(run)}

    def remove(self) -> None:
        """Removes what was made: folders, those above them that are empty, and event files among those of before.

        An event file of a resumed run tells TensorBoard to forget what came after the checkpoint.
        """
        for run in self._new:
            shutil.rmtree(run, ignore_errors=True)
        for folder in self._above:
            with suppress(OSError):
                folder.rmdir()
        for file in {file for run in self._runs for file in _events(run)} - self._events:
            file.unlink()


def _events(run: Path) -> list[Path]:
    """Returns the event files that this process has written."""
    return list(run.rglob(f"events.out.tfevents.*.{os.getpid()}.*"))
