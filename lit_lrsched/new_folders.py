"""The folders that loggers make for a run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


class NewFolders:
    """What loggers are about to make for a run, which is remembered before so that nothing else is ever removed.

    Args:
        runs: The run's folders. Those that are there already stay, and so does what they hold.

    >>> NewFolders([Path(".")]).remove()
    """

    def __init__(self, runs: Iterable[Path]) -> None:
        self._runs = list(runs)
        self._new = [run for run in self._runs if not run.exists()]
        self._above = [folder for run in self._new for folder in run.parents if not folder.exists()]
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
    return list(run.glob(f"events.out.tfevents.*.{os.getpid()}.*"))
