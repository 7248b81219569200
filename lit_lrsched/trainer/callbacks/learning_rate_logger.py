"""The callback that logs the learning rate of every param group."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from lit_lrsched.optim.param_groups import GroupValue, group_values, values_of
from lit_lrsched.trainer.horizon import step_to_log
from lit_lrsched.trainer.lightning_package import Callback, LightningModule, Trainer, rank_zero_info
from lit_lrsched.trainer.loggers import HeldPoints, is_tensorboard


class Spacing:
    """Tells which steps of a run to log: each up to ``most`` steps, and of a longer run fewer the farther it is.

    A long run has a point every ``steps / most`` steps. At its beginning, where warmups are, points stand closer: by
    default a fiftieth of the way so far. Where its length is unknown, they are a thousandth of the way apart.

    Args:
        steps: Optimizer steps of the whole run; -1 or infinite when that is unknown.
        most: About how many points to log.

    >>> spacing = Spacing(steps=1_000_000)
    >>> [spacing.between(step) for step in (0, 100, 10_000, 100_000)]
    [1, 2, 200, 1000]
    """

    def __init__(self, steps: float = -1, most: int = 1000) -> None:
        self.steps, self.most = steps, most
        self.last = -1
        self._values: Mapping[str, float] = {}

    def between(self, step: int) -> int:
        """Returns how many steps lie between two points there."""
        if 0 < self.steps < math.inf:
            return min(math.ceil(self.steps / self.most), max(1, 20 * step // self.most))
        return step // self.most + 1

    def is_new(self, step: int) -> bool:
        """Returns whether this step was not logged yet."""
        return step != self.last

    def is_due(self, step: int) -> bool:
        """Returns whether enough steps have passed."""
        return self.last < 0 or step - self.last >= self.between(step)

    def is_change(self, values: Mapping[str, float]) -> bool:
        """Returns whether these are other values than those of the last point."""
        return values != self._values

    def note(self, step: int, values: Mapping[str, float]) -> None:
        """Takes a point that is logged for the last one."""
        self.last, self._values = step, values


class LearningRateLogger(Callback):
    """Logs the learning rate of every param group, the one that is used.

    It does so at the start of each epoch, and at every step that changes one of the values. A run of more than 1,000
    steps is thinned to about as many points, which stand closer at its beginning: so a short warmup is visible.
    TensorBoard gets the points of two seconds, or those before a checkpoint, together: that is quicker than one by one.

    The names are ``lr/<group>``, where the group is the ``name`` of the param group or ``group0``, ``group1``, ...
    They depend on neither optimizer nor scheduler, so runs with different ones share their charts. (Lightning's
    ``LearningRateMonitor`` names curves after the optimizer's class and refuses to run without a logger.)

    Args:
        each_step: Log at every optimizer step, however long the run is.
        momentum: Log ``momentum/<group>`` as well: the momentum, or the first beta of Adam-like optimizers.
        weight_decay: Log ``weight_decay/<group>`` as well.
        print_each_epoch: Print a line like ``Epoch 0: SGD lr 0.1000 -> 0.0983``: the rate that the epoch used and the
            one that the next will use.

    >>> LearningRateLogger(print_each_epoch=True).print_each_epoch
    True
    """

    def __init__(
        self,
        each_step: bool = False,
        momentum: bool = False,
        weight_decay: bool = False,
        print_each_epoch: bool = False,
    ) -> None:
        self.each_step = each_step
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.print_each_epoch = print_each_epoch
        self._epoch_started: tuple[int, list[tuple[str, GroupValue, float]]] | None = None
        self._spacing = Spacing()
        self._held = HeldPoints()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says so when there is nowhere to log to."""
        self._epoch_started = None
        self._spacing = Spacing(trainer.estimated_stepping_batches)
        if not trainer.loggers:
            rank_zero_info("LearningRateLogger: the trainer has no logger, so learning rates are not logged.")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the rates that the epoch begins with."""
        self._print_finished_epoch(trainer)
        kinds = [type(optimizer).__name__ for optimizer in trainer.optimizers]
        rates = group_values(trainer.optimizers, ["lr"])
        self._epoch_started = (trainer.current_epoch, [(kinds[one.optimizer], one, one.read()) for one in rates])
        self._log(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Logs the rates of a step that is due, unless they are those that were logged last.

        Those of a step that was logged may have changed since: by a callback that comes after this one, or by a
        validation while its gradients are accumulated.
        """
        step = step_to_log(trainer)
        again = not self._spacing.is_new(step)
        if again or self.each_step or self._spacing.is_due(step):
            self._log(trainer, changed=again or not self.each_step)
        if self._held.is_due():
            self._held.write()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Writes what is held: a run that is killed and goes on from this checkpoint shall have logged it."""
        self._held.write()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes what is held, and prints the line of the last epoch, when asked."""
        self._held.write()
        self._print_finished_epoch(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Writes what is held of a run that fails or is interrupted."""
        self._held.write()

    def _log(self, trainer: Trainer, changed: bool = False) -> None:
        asked = {"lr": True, "momentum": self.momentum, "weight_decay": self.weight_decay}
        values = values_of(trainer.optimizers, [quantity for quantity, wanted in asked.items() if wanted])
        if changed and not self._spacing.is_change(values):
            return
        step = step_to_log(trainer)
        self._spacing.note(step, values)
        for logger in trainer.loggers:
            if is_tensorboard(logger):
                self._held.add(logger, values, step)
            else:
                logger.log_metrics(values, step=step)

    # An epoch's line waits for the next epoch to start: only then has a scheduler that follows a metric moved as well.
    def _print_finished_epoch(self, trainer: Trainer) -> None:
        if not self.print_each_epoch or self._epoch_started is None or not trainer.is_global_zero:
            return
        epoch, used = self._epoch_started
        for kind, value, rate in used:
            label = "lr" if len(used) == 1 else value.name
            tqdm.write(f"Epoch {epoch}: {kind} {label} {_shown(rate)} -> {_shown(value.read())}")  # above any bar


def _shown(rate: float) -> str:
    return f"{rate:.4g}" if 0 < rate < 0.001 else f"{rate:.4f}"
