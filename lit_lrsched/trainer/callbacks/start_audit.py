"""Refuses to train what the audit calls a failure, before anything is trained or written."""

from __future__ import annotations

from typing import Literal

from lit_lrsched.errors import InputError
from lit_lrsched.trainer.callbacks.keeper import take_over_changes
from lit_lrsched.trainer.fit_plan import audit_fit
from lit_lrsched.trainer.lightning_internals import (
    callbacks_of,
    loaded_checkpoint,
    resume_data_loaders,
    set_callbacks,
)
from lit_lrsched.trainer.lightning_package import Callback, LightningModule, Trainer

AuditLevel = Literal["error", "warn", "off"]


class TrainingRefused(InputError):
    """The plan of a run is a failure, so the run does not start.

    Args:
        reason: What is wrong, and how to mend it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason} (audit='warn' trains anyway)")
        self.reason = reason


class StartAudit(Callback):
    """Audits the plan of a run when its optimizers and schedulers are there and nothing has been trained.

    Nothing is audited where there is no schedule, and with ``fast_dev_run``, which is not about the schedule.

    Args:
        level: ``"error"`` refuses to train a failure and prints warnings, ``"warn"`` prints both, ``"off"`` checks
            nothing.

    Raises:
        TrainingRefused: When training starts, for a failure.

    >>> from lightning.pytorch import Trainer
    >>> trainer = Trainer(callbacks=[StartAudit()], logger=False)
    """

    def __init__(self, level: AuditLevel = "error") -> None:
        self.level = level
        self.begun = False  # whether training has, so that what is written is a run's

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Becomes the last callback: others bring schedules when fitting starts."""
        others = [callback for callback in callbacks_of(trainer) if callback is not self]
        set_callbacks(trainer, [*others, self])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses or warns. After this hook loggers make their folders."""
        if self.level == "off" or getattr(trainer, "fast_dev_run", False):
            return
        if not loaded_checkpoint(trainer):
            take_over_changes(trainer)  # of callbacks that have searched for a batch size, or a rate
        findings = audit_fit(trainer)
        failures = [finding.text for finding in findings if finding.level == "failure"]
        if failures and self.level == "error":
            more = f"; and {len(failures) - 1} more, which preview shows" if len(failures) > 1 else ""
            raise TrainingRefused(failures[0] + more)
        if trainer.is_global_zero:
            for finding in findings:
                print(f"warning: {finding.text}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lets the data loaders of a resumed run go on where they were: the audit set them up early."""
        self.begun = True
        resume_data_loaders(trainer)
