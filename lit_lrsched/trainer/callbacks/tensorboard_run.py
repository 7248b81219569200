"""What loggers show of a run at once: the planned rate, the schedule's picture and table, hyperparameters, charts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lit_lrsched.class_paths import to_plain
from lit_lrsched.errors import InputError
from lit_lrsched.hparams import hparams_summary
from lit_lrsched.optim.param_groups import base_values_of, values_of
from lit_lrsched.optim.run_plan import plan_run
from lit_lrsched.optim.scheduled_lr import ScheduledLR
from lit_lrsched.optim.training_loop import scheduler_config
from lit_lrsched.plans.plan import Plan
from lit_lrsched.schedules.core import title_of
from lit_lrsched.trainer.callbacks.learning_rate_logger import Spacing
from lit_lrsched.trainer.callbacks.receipt import Receipt
from lit_lrsched.trainer.fit_plan import is_too_long_to_replay, steps_schedulers_itself, training_loop_of
from lit_lrsched.trainer.lightning_internals import callbacks_of, loaded_checkpoint
from lit_lrsched.trainer.lightning_package import Callback, LightningModule, Trainer
from lit_lrsched.trainer.loggers import (
    is_tensorboard,
    tensorboards,
    write_hyperparameters,
    write_plan,
    write_planned_rates,
    write_text,
)
from lit_lrsched.trainer.resumed_run import resumed_run

_PLANNED = 200  # points of the planned rate: enough to see a curve by, and fewer than of the rate that is used

# Charts by title, and the tags that each shows.
CHARTS = {
    "learning rate": ["^lr/"],
    "loss": ["^(?!loss/|test)(.*[_/])?loss$"],
    "accuracy": ["^(?!test)(.*[_/])?acc(uracy)?$"],
}


class TensorBoardRun(Callback):
    """Writes what makes a run readable, under names that no model or schedule changes.

    - the planned rate beside the ``lr/<group>`` that is used, about 200 points: in TensorBoard under the same name in
      the run ``planned`` inside the run, in a colour of its own; elsewhere as ``planned_lr/<group>``, as it goes on;
    - the schedule as an image with its phases, its key moments, and its configuration;
    - the receipt, where the trainer has one;
    - for TensorBoard, a layout of three charts: learning rate, loss, accuracy; and a row of the HParams tab.

    :mod:`lit_lrsched.trainer.loggers` says what each kind of logger takes.

    >>> from lightning.pytorch import Trainer
    >>> trainer = Trainer(callbacks=[TensorBoardRun()], logger=False)
    """

    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._spacing = Spacing()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Plans a resumed run, before the checkpoint changes its schedulers."""
        is_resumed = loaded_checkpoint(trainer) or trainer.global_step > 0
        self._plan = _plan(trainer) if is_resumed else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes what is known before the first step."""
        if trainer.global_step == 0:  # other callbacks may have changed the run since
            self._plan = _plan(trainer)
        self._spacing = Spacing(trainer.estimated_stepping_batches, most=_PLANNED)
        # A module without an optimizer has one of Lightning's, without param groups.
        if not trainer.is_global_zero or not any(optimizer.param_groups for optimizer in trainer.optimizers):
            return
        hyperparameters = _hyperparameters(trainer, self._plan)
        write_hyperparameters(trainer, hyperparameters)
        for writer in tensorboards(trainer):
            layout = {title: ["Multiline", tags] for title, tags in CHARTS.items()}
            writer.add_custom_scalars({"run": layout})
            rows = "\n".join(f"| {name} | {_cell(value)} |" for name, value in hyperparameters.items())
            writer.add_text("configuration", f"| | |\n|---|---|\n{rows}")
            row = hparams_summary(Path(writer.log_dir).name, hyperparameters)
            writer.file_writer.add_summary(row)  # a file of its own would end TensorBoard's reading of this one
        if self._plan:
            write_plan(trainer, self._plan)
            write_planned_rates(trainer, self._plan, _PLANNED)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Logs the rates planned for this step, when one is due and they change, and for the first of each epoch."""
        step = trainer.global_step
        if self._plan is None or step >= self._plan.horizon.steps:
            return
        is_first = batch_idx == 0 and self._spacing.is_new(step)
        if not is_first and not self._spacing.is_due(step):
            return
        planned = {f"planned_{name}": value for name, value in self._plan.at(step).items() if name.startswith("lr/")}
        if not is_first and not self._spacing.is_change(planned):
            return
        self._spacing.note(step, planned)
        for logger in trainer.loggers:
            if not is_tensorboard(logger):
                logger.log_metrics(planned, step=step)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the receipt."""
        receipts = [one for one in callbacks_of(trainer) if isinstance(one, Receipt)]
        if trainer.is_global_zero and receipts and (text := receipts[0].text()):
            write_text(trainer, "receipt", text)


def _plan(trainer: Trainer) -> Plan | None:
    """Returns the plan of the run; None where it cannot be known."""
    by_hand = not trainer.lightning_module.automatic_optimization or steps_schedulers_itself(trainer)
    if by_hand or not values_of(trainer.optimizers, ["lr"]):
        return None
    try:
        configs = [scheduler_config(config) for config in trainer.lr_scheduler_configs]
        loop = training_loop_of(trainer)
        if is_too_long_to_replay(configs, loop):
            return None  # as the audit says
        return plan_run(trainer.optimizers, configs, loop, resumed=resumed_run(trainer))
    except Exception:  # of somebody's scheduler, which may not let itself be tried out, as the audit says
        return None


def _hyperparameters(trainer: Trainer, plan: Plan | None) -> dict[str, Any]:
    """Returns optimizer, schedule and their arguments as readable columns, such as ``schedule.warmup``.

    The length of an epoch is one of them: what counts in epochs means nothing without it.
    """
    optimizer = trainer.optimizers[0]
    columns = {"optimizer": type(optimizer).__name__, **base_values_of(optimizer.param_groups[0])}
    configs = trainer.lr_scheduler_configs
    if not configs:
        return {**columns, "schedule": "none"}
    scheduler = scheduler_config(configs[0]).scheduler
    if isinstance(scheduler, ScheduledLR):
        try:
            plain = to_plain(scheduler.schedule)
        except InputError:
            plain = title_of(scheduler.schedule)
    else:
        plain = {"class_path": type(scheduler).__name__, "init_args": _numbers(vars(scheduler))}
    per_epoch = plan.horizon.steps_per_epoch if plan else None
    lengths = {"interval": configs[0].interval, **_flat("steps_per_epoch", per_epoch)}
    return {**columns, **lengths, **_flat("schedule", plain)}


def _cell(value: Any) -> str:
    """Returns a value as a cell of a Markdown table, which ends at a line break or a ``|``."""
    return " ".join(str(value).split()).replace("|", "\\|")


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those that are numbers or words and are arguments rather than state."""
    state = ("last_epoch", "verbose")
    return {
        name: float(value) if isinstance(value, torch.Tensor) else value
        for name, value in values.items()
        if isinstance(value, (bool, int, float, str)) or (isinstance(value, torch.Tensor) and value.numel() == 1)
        if not name.startswith("_") and name not in state
    }


def _flat(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping) and "class_path" in value:
        columns = {name: value["class_path"].rpartition(".")[2]}
        for argument, inner in (value.get("init_args") or {}).items():
            columns.update(_flat(f"{name}.{argument}", inner))
        return columns
    if isinstance(value, (list, tuple)):
        return {key: column for n, item in enumerate(value) for key, column in _flat(f"{name}.{n}", item).items()}
    if isinstance(value, Mapping):
        return {key: column for word, item in value.items() for key, column in _flat(f"{name}.{word}", item).items()}
    return {} if value is None else {name: value}
