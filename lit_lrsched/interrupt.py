"""Ctrl-C: stop after a whole step, with a checkpoint and the command that goes on from it."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from tqdm import tqdm

from lit_lrsched.lightning_package import Callback, LightningModule, Trainer


class StopCleanly(Callback):
    """Turns the first Ctrl-C into a stop after the present step, where a checkpoint is exact. A second stops at once.

    Args:
        command: Returns the command that goes on, without its ``--ckpt_path``.
    """

    def __init__(self, command: Callable[[], list[str]]) -> None:
        self._command = command
        self._asked = False
        self._before: Callable[[int, FrameType | None], Any] | int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts to listen."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._ask)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stops, once asked, when no gradient is half accumulated: a checkpoint does not hold those."""
        if not self._asked or trainer.fit_loop._should_accumulate():
            return
        checkpoint = trainer.checkpoint_callback
        folder = getattr(checkpoint, "dirpath", None) or trainer.default_root_dir
        path = Path(folder) / "last.ckpt"
        trainer.save_checkpoint(path, weights_only=False)
        if trainer.is_global_zero:
            command = shlex.join([*self._command(), "--ckpt_path", str(path)])
            tqdm.write(f"Interrupted after step {trainer.global_step}. To go on:\n  {command}")
        raise KeyboardInterrupt

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops listening."""
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stops listening."""
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._restore()
        self._asked = True
        tqdm.write("Stopping after this step ... (Ctrl-C again stops at once)")

    def _restore(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None
