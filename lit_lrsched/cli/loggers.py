"""The command's own logger."""

from __future__ import annotations

from pathlib import Path
from typing import Union

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only


class OwnVersionLogger(TensorBoardLogger):
    """Takes the next free version by making its folder, so that two runs which begin at once do not share one."""

    @property
    def version(self) -> Union[int, str]:
        while self._version is None:
            self._version = self._get_next_version()
            if getattr(rank_zero_only, "rank", 0) == 0 and "://" not in self.log_dir:
                try:
                    Path(self.log_dir).mkdir(parents=True)
                except FileExistsError:
                    self._version = None
        return self._version
