"""The worked example's module: a multilayer perceptron with one hidden layer that tells two classes apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric, Metric

from lit_lrsched.class_paths import from_plain, to_plain
from lit_lrsched.errors import InputError
from lit_lrsched.schedules.core import Interval, Schedule, ScheduleLike
from lit_lrsched.trainer.lightning_package import LightningModule
from lit_lrsched.trainer.schedule_config import schedule_config

OptimizerCallable = Callable[[Iterable], Optimizer]  # type: ignore[type-arg]  # as jsonargparse knows it
LRSchedulerCallable = Callable[[Optimizer], LRScheduler]

SGD_01 = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}}
LINEAR_OVER_30_EPOCHS = {
    "class_path": "torch.optim.lr_scheduler.LinearLR",
    "init_args": {"start_factor": 1.0, "end_factor": 0.5, "total_iters": 30},
}

Batch = tuple[Tensor, Tensor]
Stage = Literal["train", "val", "test"]


class IonosphereClassifier(LightningModule):
    """Linear, ReLU, Linear, sigmoid: the probability of the positive class.

    Logs ``train_loss train_acc val_loss val_acc test_loss test_acc``, each once an epoch.

    Args:
        in_features: Number of input features F.
        hidden: Width of the hidden layer.
        optimizer: A callable that takes the parameters and returns an optimizer. Default: SGD at 0.1.
        lr_scheduler: A :class:`~lit_lrsched.Schedule`, a function ``(step, horizon) -> float``, a callable that takes
            the optimizer and returns a torch scheduler, or None for a constant rate. Default: torch's ``LinearLR``
            from 1.0 to 0.5 over 30 epochs.
        lr_interval: When to step the schedule, ``"step"`` or ``"epoch"``. None: ``"epoch"`` for torch's schedulers,
            ``"step"`` for schedules.
        lr_monitor: Name of the logged metric that a metric-driven scheduler follows, such as ``"val_acc"``.

    Raises:
        InputError: When ``in_features`` or ``hidden`` is less than 1.

    >>> import torch
    >>> IonosphereClassifier()(torch.zeros(5, 34)).shape
    torch.Size([5, 1])
    """

    def __init__(
        self,
        in_features: int = 34,
        hidden: int = 34,
        optimizer: OptimizerCallable = SGD_01,  # type: ignore[assignment]
        lr_scheduler: Union[Schedule, LRSchedulerCallable, ScheduleLike, None] = LINEAR_OVER_30_EPOCHS,  # type: ignore[assignment]
        lr_interval: Interval | None = None,
        lr_monitor: str | None = None,
    ) -> None:
        super().__init__()
        for name, value in {"in_features": in_features, "hidden": hidden}.items():
            if value < 1:
                raise InputError(f"{name}={value} leaves nothing to learn from: give at least 1")
        self.optimizer: OptimizerCallable = from_plain(optimizer)
        self.lr_scheduler = lr_scheduler
        self.lr_interval = lr_interval
        self.lr_monitor = lr_monitor
        # `save_hyperparameters` reads these local names: a checkpoint holds configuration, not live objects.
        optimizer, lr_scheduler = _stored(optimizer), _stored(lr_scheduler)
        self.save_hyperparameters()

        self.network = nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.metrics = nn.ModuleDict()
        for stage in ("train", "val", "test"):
            # A diverged run has to show its nan, and a check at every step costs more than the step.
            self.metrics[f"{stage}_loss"] = MeanMetric(nan_strategy="disable")
            # Of hits: BinaryAccuracy also counts misses of either kind, in three times the time.
            self.metrics[f"{stage}_acc"] = MeanMetric(nan_strategy="disable")

    def forward(self, x: Tensor) -> Tensor:
        """Returns the probability of the positive class: ``[B, F]`` to ``[B, 1]``, in [0, 1]."""
        return torch.sigmoid(self.network(x))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the mean loss of a batch ``(x [B, F], y [B, 1])``."""
        return self._step("train", batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Counts a batch towards ``val_loss`` and ``val_acc``."""
        self._step("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Counts a batch towards ``test_loss`` and ``test_acc``."""
        self._step("test", batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the probabilities ``[B, 1]`` of a batch."""
        probabilities: Tensor = self(batch[0])
        return probabilities

    def _step(self, stage: Stage, batch: Batch) -> Tensor:
        x, y = batch
        logits = self.network(x)
        losses = F.binary_cross_entropy_with_logits(logits, y, reduction="none")
        # Update at every step, log once an epoch: a `self.log` costs more than a step of a network this small.
        self._metric(f"{stage}_loss").update(losses.detach())
        self._metric(f"{stage}_acc").update(((logits > 0) == y.bool()).float())
        return losses.mean()

    def on_train_epoch_end(self) -> None:
        """Logs ``train_loss`` and ``train_acc``."""
        self._log_epoch("train")

    def on_validation_epoch_end(self) -> None:
        """Logs ``val_loss`` and ``val_acc``."""
        self._log_epoch("val")

    def on_test_epoch_end(self) -> None:
        """Logs ``test_loss`` and ``test_acc``."""
        self._log_epoch("test")

    def _log_epoch(self, stage: Stage) -> None:
        for name in (f"{stage}_loss", f"{stage}_acc"):
            self.log(name, self._metric(name), prog_bar=stage != "test")

    def _metric(self, name: str) -> Metric:
        metric = self.metrics[name]
        assert isinstance(metric, Metric)
        return metric

    def configure_optimizers(self) -> Any:
        """Returns Lightning's dict of the optimizer and, when there is a schedule, its scheduler."""
        for name, value in {"optimizer": self.optimizer, "lr_scheduler": self.lr_scheduler}.items():
            if isinstance(value, str):
                raise InputError(f"{value}: pass {name}= again when you load the module to train it")
        return schedule_config(
            self.optimizer(self.parameters()),
            self.lr_scheduler,
            self.trainer,
            interval=self.lr_interval,
            monitor=self.lr_monitor,
        )


def _stored(value: Any) -> Any:
    try:
        return to_plain(value)
    except InputError:
        return f"{value!r} is not in the checkpoint"  # loads, and is refused if training starts from it
