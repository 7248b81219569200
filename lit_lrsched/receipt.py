"""The receipt: whether every optimizer step used the learning rate that was planned for it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.hooks import RemovableHandle

from lit_lrsched.lightning_package import Callback, LightningModule, Trainer
from lit_lrsched.replay import Replay, Stepped, stepped_of
from lit_lrsched.scheduled_lr import ScheduledLR
from lit_lrsched.schedules import PlateauState
from lit_lrsched.slots import Slot, slots_of


class Departure(NamedTuple):
    """The first step that used something else than the plan's value, and the likely reason."""

    step: int
    epoch: int
    name: str
    planned: float
    used: float
    reason: str


class Receipt(Callback):
    """Compares, at every optimizer step, what is used with what was planned, and says after ``fit`` how it went.

    A :class:`~lit_lrsched.ScheduledLR` is asked for its values at the tick that this callback has counted; copies of
    torch's schedulers are stepped beside the real ones. Modules with manual optimization are left alone.

    >>> from lightning.pytorch import Trainer
    >>> trainer = Trainer(callbacks=[Receipt()], logger=False)
    """

    def __init__(self) -> None:
        self.followed = 0
        self.departed = 0
        self.first: Departure | None = None
        self._plan: _ByFormula | _ByReplay | None = None
        self._handle: RemovableHandle | None = None
        self._begun = self._epoch = 0
        self._trained = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers the schedule as it is configured, before a checkpoint can change it."""
        self.followed = self.departed = 0
        self.first = None
        self._plan = _plan(trainer)
        self._trained = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes up the plan where the run begins, and watches the optimizer from here on."""
        self._trained = True
        if self._plan and self._plan.schedulers != _schedulers(trainer):  # a callback has brought others since
            self._plan = _plan(trainer)
        if not self._plan:
            return
        self._begun, self._epoch = trainer.global_step, trainer.current_epoch
        self._plan.start_at(self._begun, self._epoch, trainer)

        def check(*_: Any) -> None:
            self._check(trainer)

        # Not a hook of Lightning's: this one also knows the steps that AMP leaves out, and what training_step changed.
        self._handle = trainer.optimizers[0].register_step_post_hook(check)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Moves the plan on to the epoch."""
        while self._plan and self._epoch < trainer.current_epoch:
            self._plan.after_epoch(self._epoch, trainer.callback_metrics)
            self._epoch += 1

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops watching."""
        if self._handle:
            self._handle.remove()
            self._handle = None

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says how it went, or that training was over before it began, which the trainer passes over in silence."""
        if not trainer.is_global_zero:
            return
        if self.followed + self.departed > 0:
            print(self.text(trainer.estimated_stepping_batches))
        elif not self._trained and trainer.global_step > 0:
            print(
                f"Nothing is left to train: the checkpoint is of the end, after {trainer.global_step} steps. "
                "To train for longer, raise trainer.max_epochs or trainer.max_steps."
            )

    def text(self, planned: float = math.inf) -> str:
        """Returns how it went, in a line.

        Args:
            planned: How many steps the whole run was to have.
        """
        steps = self.followed + self.departed
        since = f" from step {self._begun}" if self._begun else ""
        if self.first:
            at = self.first
            return (
                f"learning rate left the plan at step {at.step} (epoch {at.epoch}): {at.name} was {at.used:.6g} where "
                f"{at.planned:.6g} was planned: {at.reason} ({self.followed} of {steps} steps{since} followed it)"
            )
        short = f"; {planned:.0f} were planned" if self._begun + steps < planned < math.inf else ""
        return f"learning rate followed the plan ({steps} of {steps} steps{since}{short})"

    def _check(self, trainer: Trainer) -> None:
        assert self._plan is not None
        for slot, planned in self._plan.values():
            used = slot.read()
            if used != planned and not _is_rounded(slot, used, planned):
                if self.first is None:
                    step = self._begun + self.followed
                    reason = self._reason(trainer, slot)
                    self.first = Departure(step, trainer.current_epoch, slot.name, planned, used, reason)
                self.departed += 1
                break
        else:
            self.followed += 1
        self._plan.after_step(trainer.fit_loop.epoch_loop.batch_idx)

    def _reason(self, trainer: Trainer, slot: Slot) -> str:
        assert self._plan is not None
        skipped = trainer.global_step - self._begun - self.followed
        if skipped > 0:
            times = "a step was" if skipped == 1 else f"{skipped} steps were"
            return f"{times} skipped before it, for gradients that overflowed, but the scheduler moved on"
        if _schedulers(trainer) != self._plan.schedulers:
            return f"the scheduler was replaced during training{_suspects(trainer)}"
        if self._begun and not self.followed:
            return f"the resumed run does not continue the configured schedule{self._plan.changed_on_resume()}"
        rates = [float(rate) for scheduler in self._plan.schedulers for rate in scheduler.get_last_lr()]
        if slot.quantity == "lr" and slot.read() not in rates:
            return f"something else than the scheduler set it{_suspects(trainer)}"
        return "the scheduler was not stepped as often as its interval says"


class _ByFormula:
    """What a :class:`~lit_lrsched.ScheduledLR` should have set: its values are worked out afresh at every tick."""

    def __init__(self, optimizer: Optimizer, stepped: Stepped) -> None:
        assert isinstance(stepped.scheduler, ScheduledLR)
        self.schedulers: list[LRScheduler] = [stepped.scheduler]
        self._scheduler = stepped.scheduler
        self._by_step = stepped.interval == "step"
        self._optimizer = optimizer
        self._slots: dict[tuple[int, str], Slot] = {}
        self._tick = 0
        self._known: tuple[int, PlateauState | None] | None = None
        self._values: list[tuple[Slot, float]] = []

    def values(self) -> list[tuple[Slot, float]]:
        # A plateau may have moved within a tick.
        if self._known != (self._tick, self._scheduler.plateau):
            self._known = (self._tick, self._scheduler.plateau)
            self._values = [
                (self._slots[number, quantity], value)
                for number, group in enumerate(self._scheduler.planned(self._tick))
                for quantity, value in group.items()
            ]
        return self._values

    def start_at(self, step: int, epoch: int, trainer: Trainer) -> None:
        # Not before: a checkpoint puts new groups into the optimizer.
        self._slots = {(slot.group_number, slot.quantity): slot for slot in slots_of([self._optimizer])}
        # What the checkpoint says: a changed horizon changes the count, and steps that AMP left out are not in it.
        self._tick = self._scheduler.last_epoch

    def after_step(self, batch: int) -> None:
        self._tick += self._by_step

    def after_epoch(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        self._tick += not self._by_step

    def changed_on_resume(self) -> str:
        return ""


class _ByReplay:
    """What torch's schedulers should have set: copies of them are stepped beside them."""

    def __init__(self, optimizer: Optimizer, stepped: Sequence[Stepped]) -> None:
        self.schedulers = [one.scheduler for one in stepped]
        self._stepped = stepped
        self._optimizer = optimizer
        self._replay = Replay([optimizer], stepped)
        self._slots: list[Slot] = []
        self._values: list[tuple[Slot, float]] = []

    def _refresh(self) -> None:
        planned = self._replay.values()
        self._values = [(slot, planned[slot.name]) for slot in self._slots]

    def values(self) -> list[tuple[Slot, float]]:
        return self._values

    def start_at(self, step: int, epoch: int, trainer: Trainer) -> None:
        cycles = any(getattr(scheduler, "cycle_momentum", False) for scheduler in self.schedulers)
        quantities = ("lr", "momentum") if cycles else ("lr",)
        self._slots = slots_of([self._optimizer], quantities)
        if any(isinstance(scheduler, ReduceLROnPlateau) for scheduler in self.schedulers):
            self._replay = Replay([self._optimizer], self._stepped)  # with what it knows of the metric so far
        else:
            self._catch_up(step, epoch, trainer)
        self._refresh()

    def _catch_up(self, steps: int, epochs: int, trainer: Trainer) -> None:
        batches, accumulate = trainer.num_training_batches, trainer.accumulate_grad_batches
        per_epoch = math.ceil(batches / accumulate) if batches < math.inf else steps
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for step in range(steps if self._replay.by_step else 0):
                self._replay.after_step(int(min((step % per_epoch + 1) * accumulate, batches)) - 1)
            for epoch in range(epochs):
                self._replay.after_epoch(epoch)

    def after_step(self, batch: int) -> None:
        if self._replay.by_step:
            self._replay.after_step(batch)
            self._refresh()

    def after_epoch(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        monitor = next((one.monitor for one in self._stepped if one.monitor), "")
        self._replay.after_epoch(epoch, float(metrics[monitor]) if monitor in metrics else None)
        self._refresh()

    def changed_on_resume(self) -> str:
        copies = [one.scheduler for one in self._replay.stepped]
        changes = [
            f"{name} is {vars(own)[name]} and not {value}"
            for own, planned in zip(sorted(self.schedulers, key=_is_plateau), copies, strict=True)
            for name, value in vars(planned).items()
            if not name.startswith("_") and isinstance(value, (int, float, str)) and vars(own).get(name) != value
        ]
        return f": from the checkpoint, {', '.join(changes)}" if changes else ""


def _plan(trainer: Trainer) -> _ByFormula | _ByReplay | None:
    if not trainer.lightning_module.automatic_optimization or not trainer.optimizers:
        return None
    stepped = [stepped_of(config) for config in trainer.lr_scheduler_configs]
    if len(stepped) == 1 and isinstance(stepped[0].scheduler, ScheduledLR) and stepped[0].frequency == 1:
        return _ByFormula(trainer.optimizers[0], stepped[0])
    if any(_is_plateau(one.scheduler) and one.interval == "step" for one in stepped):
        return None  # no hook comes between the metric and the next step
    return _ByReplay(trainer.optimizers[0], stepped)


def _is_plateau(scheduler: LRScheduler) -> bool:
    return isinstance(scheduler, ReduceLROnPlateau)


def _is_rounded(slot: Slot, used: float, planned: float) -> bool:
    """Tells a rate that is kept in a tensor, which has rounded it."""
    return isinstance(slot.group[slot.key], Tensor) and math.isclose(used, planned, rel_tol=1e-6)


def _suspects(trainer: Trainer) -> str:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    quiet = ("Checkpoint", "ProgressBar", "Summary", "Monitor", "Timer", "EarlyStopping")
    names = [
        type(callback).__name__
        for callback in callbacks
        if not type(callback).__module__.startswith("lit_lrsched") and not type(callback).__name__.endswith(quiet)
    ]
    return f" (callbacks: {', '.join(names)})" if names else " (the module itself, by the look of it)"


def _schedulers(trainer: Trainer) -> list[LRScheduler]:
    return [config.scheduler for config in trainer.lr_scheduler_configs]
