"""Ctrl-C and SIGTERM: stop after a whole step, with a checkpoint and the command that goes on from it."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from tqdm import tqdm

from lit_lrsched.trainer.interrupts import Interrupted
from lit_lrsched.trainer.lightning_internals import is_accumulating
from lit_lrsched.trainer.lightning_package import Callback, LightningModule, Trainer


class StopCleanly(Callback):
    """Turns the first Ctrl-C into a stop after the present step, where a checkpoint is exact. A second stops at once.

    SIGTERM, by which batch systems end a run, does the same. Where several processes train, all stop when one is asked.

    Args:
        command: Returns the command that goes on, without its ``--ckpt_path``.
    """

    def __init__(self, command: Callable[[], list[str]]) -> None:
        self._command = command
        self._asked = 0  # the signal
        self._before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts to listen."""
        self._asked = 0
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stops, once asked, when no gradient is half accumulated: a checkpoint does not hold those."""
        if is_accumulating(trainer):
            return
        # One answer for all processes: one that is asked meanwhile would stop alone, and wait for the others for ever.
        asked = self._asked
        if trainer.world_size > 1:
            asked = self._asked_anywhere(trainer)
        if not asked:
            return
        checkpoint = trainer.checkpoint_callback
        folder = getattr(checkpoint, "dirpath", None) or trainer.default_root_dir
        path = Path(folder) / "last.ckpt"
        trainer.save_checkpoint(path, weights_only=False)
        if trainer.is_global_zero:
            command = shlex.join([*self._command(), "--ckpt_path", str(path)])
            tqdm.write(f"Interrupted after step {trainer.global_step}. To go on:\n  {command}")
        raise Interrupted(asked, announced=True)

    def _asked_anywhere(self, trainer: Trainer) -> int:
        heard_of = trainer.strategy.reduce_boolean_decision
        if not heard_of(bool(self._asked), all=False):
            return 0
        return signal.SIGTERM if heard_of(self._asked == signal.SIGTERM, all=False) else signal.SIGINT

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops listening."""
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stops listening."""
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._restore()
        self._asked = number
        tqdm.write("Stopping after this step ... (Ctrl-C again stops at once)")

    def _restore(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}
