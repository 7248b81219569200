"""The one callback that reports on the schedule of any run, into any logger."""

from __future__ import annotations

from lit_lrsched.schedules.checks import check_choice
from lit_lrsched.trainer.callbacks.learning_rate_logger import LearningRateLogger
from lit_lrsched.trainer.callbacks.receipt import Receipt
from lit_lrsched.trainer.callbacks.start_audit import AuditLevel, StartAudit
from lit_lrsched.trainer.callbacks.tensorboard_run import TensorBoardRun
from lit_lrsched.trainer.lightning_internals import callbacks_of, set_callbacks
from lit_lrsched.trainer.lightning_package import Callback, LightningModule, Trainer


class ScheduleReport(Callback):
    """Gives any ``Trainer`` what the command ``lit-lrsched fit`` reports, whatever the module and its schedule.

    - Before training, the audit: a run whose plan is a failure is refused, warnings are printed.
    - In each logger, the learning rate that is used beside the one that was planned, every step of a short run.
    - In each logger that can take them, the plan's picture and key moments, and optimizer and schedule by name with
      their arguments: TensorBoard, Weights & Biases, MLflow and CSV. A row of the HParams tab for TensorBoard.
    - After training, the receipt: whether every step used the rate that was planned for it.

    What the trainer has already, as the command's has, is not done twice.

    Args:
        audit: ``"error"`` refuses to train a failure, ``"warn"`` prints it, ``"off"`` checks nothing.

    Raises:
        InputError: When ``audit`` is another word, and when training starts and the plan is a failure.

    >>> from lightning.pytorch import Trainer
    >>> from lit_lrsched import ScheduleReport
    >>> trainer = Trainer(callbacks=[ScheduleReport()], logger=False)
    """

    def __init__(self, audit: AuditLevel = "error") -> None:
        check_choice("audit", audit, ("error", "warn", "off"))
        self.audit = audit

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Adds the callbacks that do this, each unless the trainer has one of its kind."""
        if stage != "fit":
            return
        for part in (LearningRateLogger(), Receipt(), TensorBoardRun(), StartAudit(self.audit)):
            present = callbacks_of(trainer)
            if not any(isinstance(one, type(part)) for one in present):
                set_callbacks(trainer, [*present, part])
                part.setup(trainer, pl_module, stage)  # the trainer is going through the callbacks that it had
