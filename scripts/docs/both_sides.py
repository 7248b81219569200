"""Trains under torch's scheduler in stock Lightning and under this package's, and says which rates were right."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import SGD, Optimizer, lr_scheduler

from lit_lrsched import Cosine, Horizon, Schedule, schedule_config, table
from lit_lrsched.errors import InputError

PEAK, EPOCHS, BATCHES = 0.1, 3, 4

Made = Callable[[LightningModule], Any]  # what configure_optimizers does
Outcome = tuple[str, str]  # of stock Lightning, and of this package


class Numbers:
    """Batches of one number each. It can go on in the middle of an epoch."""

    def __init__(self, count: int = BATCHES) -> None:
        self.count, self.start, self.position = count, 0, 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[torch.Tensor]:
        start, self.start = self.start, 0
        for index in range(start, self.count):
            self.position = (index + 1) % self.count
            yield torch.tensor([0.3 + 0.1 * index])

    def state_dict(self) -> dict[str, int]:
        """Returns where it stands."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on from there."""
        self.start = state["position"]


class NoLength:
    """The same without a length."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(Numbers())


class Module(LightningModule):
    """Two weights, and whatever the situation configures."""

    def __init__(self, made: Made) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(1, 1), nn.Linear(1, 1)
        self.made = made

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        """Returns a loss."""
        loss: torch.Tensor = (self.head(self.backbone(batch)) - 1).square().mean()
        return loss

    def configure_optimizers(self) -> Any:
        """Returns what the situation says."""
        return self.made(self)


class Validated(Module):
    """The same with a metric that gets better once, and worse ever after."""

    losses = (1.0, 0.5, 0.6, 0.7, 0.8)

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        """Logs the metric."""
        self.log("val_loss", self.losses[self.current_epoch], batch_size=1)


class Used(Callback):
    """Notes the rate of every param group at each step that an optimizer takes."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins."""
        for optimizer in trainer.optimizers[:1]:
            optimizer.register_step_pre_hook(lambda optimizer, *_: self._note(optimizer))

    def _note(self, optimizer: Optimizer) -> None:
        self.rates.append([float(group["lr"]) / PEAK for group in optimizer.param_groups])

    @property
    def factors(self) -> list[float]:
        """Those of the first group, relative to the peak."""
        return [rates[0] for rates in self.rates]


class Save(Callback):
    """Saves a checkpoint after so many batches, or at the end of an epoch."""

    def __init__(self, path: Path, batches: int = 0, epoch: int = -1) -> None:
        self.path, self.batches, self.epoch = path, batches, epoch

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Saves."""
        if trainer.fit_loop.total_batch_idx + 1 == self.batches:
            trainer.save_checkpoint(self.path)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves."""
        if trainer.current_epoch == self.epoch:
            trainer.save_checkpoint(self.path)


def fit(module: LightningModule, *callbacks: Callback, data: Any = None, val: Any = None, **options: Any) -> Used:
    """Trains."""
    used, ckpt = Used(), options.pop("ckpt_path", None)
    defaults: dict[str, Any] = {"max_epochs": EPOCHS, "logger": False, "enable_checkpointing": False}
    trainer = Trainer(
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[used, *callbacks],
        **{**defaults, **options},
    )
    own_data = "train_dataloader" in vars(type(module))
    trainer.fit(module, None if own_data else data or Numbers(), val, ckpt_path=ckpt)
    return used


def sgd(module: nn.Module) -> SGD:
    """Returns the optimizer of all parameters that are not frozen."""
    return SGD([one for one in module.parameters() if one.requires_grad], lr=PEAK)


def stock(make: Callable[[Optimizer, Trainer], Any] | None = None, **config: Any) -> Made:
    """Returns what one writes with Lightning alone: by default a cosine over the steps that it estimates."""

    def cosine(optimizer: Optimizer, trainer: Trainer) -> Any:
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=int(trainer.estimated_stepping_batches))

    def made(module: LightningModule) -> Any:
        optimizer = sgd(module)
        scheduler = (make or cosine)(optimizer, module.trainer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step", **config}}

    return made


def ours(schedule: Schedule | None = None, **options: Any) -> Made:
    """Returns what one writes with this package."""
    return lambda module: schedule_config(sgd(module), schedule or Cosine(), module.trainer, **options)


def cosine_over(horizon: int) -> list[float]:
    """Returns the factors of a cosine over so many steps."""
    return table(Cosine(), Horizon(horizon))


def says(train: Callable[[], Used], right: list[float], first: int = 0) -> str:
    """Trains and says what came of it.

    Args:
        train: Trains.
        right: The factors that should have been used.
        first: The number of the first of them.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            used = train().factors
        except InputError:
            return "refuses, and says why"
        except Exception as error:
            return f"stops with {type(error).__name__}"
    also = " (and warns of the jump)" if any(str(one.message).startswith("Resumed") for one in caught) else ""
    if len(used) != len(right):
        return f"takes {len(used)} steps instead of {len(right)}{also}"
    wrong = [n for n, pair in enumerate(zip(used, right, strict=True)) if not math.isclose(*pair, abs_tol=1e-9)]
    if not wrong:
        return f"right at all {len(right)} steps{also}"
    where = f"from step {first + wrong[0]} on" if len(wrong) > 1 else f"at step {first + wrong[0]}"
    return f"wrong {where}: the last step has {used[-1]:.3f} of the peak instead of {right[-1]:.3f}{also}"


def both(
    right: list[float], *callbacks: Callable[[], Callback], kind: type[Module] = Module, **options: Any
) -> Outcome:
    """Says what comes of a cosine under the same options, stock and ours."""

    def run(made: Made) -> str:
        return says(lambda: fit(kind(made), *[make() for make in callbacks], **options), right)

    return run(stock()), run(ours())


def go_on(
    before: Made, after: Made, right: list[float], kind: type[Module] = Module, epoch: int = 0, **options: Any
) -> str:
    """Trains up to the end of an epoch, resumes from there under other options, and says what came of that."""
    val = Numbers(1) if issubclass(kind, Validated) else None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "stopped.ckpt")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit(kind(before), Save(path, epoch=epoch), val=val)
        resumed = {"val": val, **options}
        return says(lambda: fit(kind(after), ckpt_path=path, **resumed), right, first=(epoch + 1) * BATCHES)
