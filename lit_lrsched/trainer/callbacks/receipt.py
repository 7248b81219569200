"""The receipt: whether every optimizer step used the learning rate that was planned for it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.hooks import RemovableHandle

from lit_lrsched.errors import described
from lit_lrsched.optim.kept_scheduler import KeptScheduler, kept_by
from lit_lrsched.optim.param_groups import GroupValue, group_values, works_out_its_rate
from lit_lrsched.optim.replay import Replay
from lit_lrsched.optim.scheduled_lr import ScheduledLR
from lit_lrsched.optim.steps import around_steps, let_go
from lit_lrsched.optim.torch_internals import leaves_out_its_step, tells_its_steps
from lit_lrsched.optim.training_loop import SchedulerConfig, scheduler_config
from lit_lrsched.schedules.plateau import PlateauState
from lit_lrsched.trainer.horizon import callback_of, stepping_batches, steps_reached
from lit_lrsched.trainer.lightning_internals import callbacks_of, loaded_checkpoint
from lit_lrsched.trainer.lightning_package import Callback, LightningModule, StochasticWeightAveraging, Trainer
from lit_lrsched.trainer.other_rates import rates_from_elsewhere


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
    torch's schedulers are stepped beside the real ones. In a module with manual optimization every step of every
    optimizer is compared with the plan for the training batch that it belongs to. What cannot be checked is named, and
    so is a loss or a weight that is no longer a finite number.

    >>> from lightning.pytorch import Trainer
    >>> trainer = Trainer(callbacks=[Receipt()], logger=False)
    """

    def __init__(self) -> None:
        self.followed = 0
        self.departed = 0
        self.first: Departure | None = None
        self.broke_down = ""
        self._plans: list[_ByFormula | _ByReplay] = []
        self._unchecked = self._base = ""
        self._handles: list[RemovableHandle] = []
        self._optimizers: list[Optimizer] = []
        self._begun = self._begun_batches = self._batches = self._epoch = 0
        self._planned = math.inf  # steps of the whole run, batches with manual optimization
        self._manual = self._trained = self._stepped = self._has_checkpoint = False
        self._outputs: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remembers the schedule as it is configured, before a checkpoint can change it."""
        self.followed = self.departed = self._batches = 0
        self.first, self.broke_down = None, ""
        self._plans = _plans(trainer)
        self._trained = self._stepped = False
        self._manual = not pl_module.automatic_optimization
        self._has_checkpoint = bool(loaded_checkpoint(trainer))
        self._outputs = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes up the plan where the run begins, and watches the optimizers from here on."""
        self._trained = True
        if self._schedulers != _schedulers(trainer):  # a callback has brought others since
            self._plans = _plans(trainer)
        self._unchecked, self._base = _why_unchecked(trainer), rates_from_elsewhere(trainer)
        self._optimizers = [*trainer.optimizers]
        self._begun, self._epoch = trainer.global_step, trainer.current_epoch
        self._begun_batches = trainer.fit_loop.total_batch_idx + 1
        done, planned = self._begun_batches if self._manual else self._begun, stepping_batches(trainer)
        # Where epochs have another length than until now, what is done counts for another number of steps.
        self._planned = done + planned - steps_reached(trainer) if 0 < planned < math.inf else math.inf
        for plan in self._plans:
            # In a second fit of one trainer torch's schedulers begin anew.
            plan.start_at(*((done, self._epoch) if self._has_checkpoint else (0, 0)), trainer)

            def check(plan: _ByFormula | _ByReplay = plan) -> None:
                if not leaves_out_its_step(trainer.optimizers[plan.number]):
                    self._check(trainer, plan)

            # Not a hook of Lightning's: this one also knows the steps that AMP leaves out, and what training_step
            # changed.
            self._handles += around_steps(trainer.optimizers[plan.number], after=check)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Moves on the plans that follow a metric, which the module may log as late as the epoch ends."""
        while self._epoch < trainer.current_epoch:
            self._check_losses(trainer)
            for plan in self._plans:
                if plan.follows_metric:
                    plan.after_epoch(self._epoch, trainer.callback_metrics)
            self._epoch += 1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Moves the plan on after a step, or with manual optimization after each batch, as the trainer has just done.

        A scheduler may ask which step it is: for that the optimizer's hooks come too early.
        """
        self._outputs = outputs
        self._batches += 1
        for plan in self._plans if self._manual or self._stepped else ():
            plan.after_step(batch_idx)
        self._stepped = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Moves the plan on after an epoch, while that is still the present one: a scheduler may ask for it."""
        for plan in self._plans:
            if not plan.follows_metric:
                plan.after_epoch(self._epoch, {})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops watching, and checks that the weights are finite."""
        let_go(self._handles)
        if any(one not in self._optimizers for one in trainer.optimizers):
            self._unchecked = (
                f"another optimizer took the place of the first after {self.followed + self.departed} steps"
            )
        self._check_losses(trainer)
        weights = [name for name, weight in pl_module.named_parameters() if not _is_finite(weight)]
        if weights:
            shown = ", ".join(weights[:3]) + (", ..." if len(weights) > 3 else "")
            found = f"at the end of training these weights are not finite: {shown}"
            self.broke_down = f"{self.broke_down}; {found}" if self.broke_down else found

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stops watching."""
        let_go(self._handles)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says how it went, or that nothing was left to train, which the trainer does not say."""
        if not trainer.is_global_zero:
            return
        if self._batches > 0:
            if text := self.text():
                print(text)
        elif not self._trained and trainer.global_step > 0:
            print(
                f"Nothing is left to train: the run is at its end, after {trainer.global_step} steps. "
                "To train for longer, raise trainer.max_epochs or trainer.max_steps."
            )
        elif not self._trained:
            print("Nothing was trained: there are no epochs, no steps or no batches to train.")

    def text(self) -> str:
        """Returns how it went: a line on the learning rate, after one on training if that broke down."""
        fix = "lower the learning rate, or look for nan in the data"
        broken = f"training broke down: {self.broke_down}: {fix}" if self.broke_down else ""
        return "\n".join(filter(None, [broken, self._of_rates()]))

    def _of_rates(self) -> str:
        untried = [plan.untried for plan in self._plans if plan.untried]
        if reason := self._unchecked or "".join(untried[:1]):
            return f"learning rate was not checked against a plan: {reason}"
        steps = self.followed + self.departed
        if steps == 0 and not self._batches:
            return ""
        if steps == 0:
            names = " and ".join(type(self._optimizers[plan.number]).__name__ for plan in self._plans)
            return f"learning rate was not checked against a plan: the step of {names} was not called" if names else ""
        since = f" from step {self._begun}" if self._begun else ""
        base = f"; the base rate is {self._base}" if self._base else ""
        if self.first:
            at = self.first
            return (
                f"learning rate left the plan at step {at.step} (epoch {at.epoch}): {at.name} was {at.used:.6g} where "
                f"{at.planned:.6g} was planned: {at.reason} ({self.followed} of {steps} steps{since} followed it{base})"
            )
        done, unit = (self._begun_batches + self._batches, " batches") if self._manual else (self._begun + steps, "")
        short = f"; {self._planned:.0f}{unit} were planned" if done < self._planned < math.inf else ""
        return f"learning rate followed the plan ({steps} of {steps} steps{since}{short}{base})"

    @property
    def _schedulers(self) -> set[LRScheduler]:
        return {scheduler for plan in self._plans for scheduler in plan.schedulers}

    def _check(self, trainer: Trainer, plan: _ByFormula | _ByReplay) -> None:
        for value, planned in plan.values():
            if not value.is_set_to(planned):
                if self.first is None:
                    step, used = self._begun + self.followed, value.read()
                    reason = self._reason(trainer, plan, value)
                    self.first = Departure(step, trainer.current_epoch, value.name, planned, used, reason)
                self.departed += 1
                break
        else:
            self.followed += 1
        self._stepped = True

    def _check_losses(self, trainer: Trainer) -> None:
        """Checks that the losses of an epoch are finite: only once an epoch, since each check waits for the device."""
        if self.broke_down:
            return
        outputs = self._outputs
        losses = {"the training loss": outputs.get("loss") if isinstance(outputs, Mapping) else outputs}
        losses.update((name, value) for name, value in trainer.callback_metrics.items() if "loss" in name)
        for name, value in losses.items():
            if isinstance(value, Tensor) and not _is_finite(value):
                self.broke_down = f"{name} is {float(value.float().mean()):g} in epoch {self._epoch}"
                return

    def _reason(self, trainer: Trainer, plan: _ByFormula | _ByReplay, value: GroupValue) -> str:
        skipped = trainer.global_step - self._begun - self.followed
        if skipped > 0 and not self._manual:
            times = "a step was" if skipped == 1 else f"{skipped} steps were"
            return f"{times} skipped before it, for gradients that overflowed, but the scheduler moved on"
        if _schedulers(trainer) != self._schedulers:
            return f"the scheduler was replaced during training{_suspects(trainer)}"
        if self._begun and not self.followed:
            return f"the resumed run does not continue the configured schedule{plan.changed_on_resume()}"
        rates = [float(rate) for scheduler in plan.schedulers for rate in scheduler.get_last_lr()]
        if value.quantity == "lr" and value.read() not in rates:
            return f"something else than the scheduler set it{_suspects(trainer)}"
        return "the scheduler was not stepped as often as its interval says"


class _ByFormula:
    """What a :class:`~lit_lrsched.ScheduledLR` should have set: its values are worked out afresh at every tick."""

    untried = ""
    follows_metric = False  # a plateau counts as it stands

    def __init__(self, optimizers: Sequence[Optimizer], number: int, config: SchedulerConfig) -> None:
        assert isinstance(config.scheduler, ScheduledLR)
        self.schedulers: list[LRScheduler] = [config.scheduler]
        self._scheduler = config.scheduler
        self._by_step = config.interval == "step"
        self.number, self._optimizers = number, optimizers
        self._groups: list[dict[str, Any]] = []
        self._used: dict[tuple[int, str], GroupValue] = {}
        self._tick = 0
        self._known: tuple[int, PlateauState | None] | None = None
        self._values: list[tuple[GroupValue, float]] = []

    def values(self) -> list[tuple[GroupValue, float]]:
        if self._groups is not self._optimizers[self.number].param_groups:
            self._take_groups()
        # A plateau may have moved within a tick.
        if self._known != (self._tick, self._scheduler.plateau):
            self._known = (self._tick, self._scheduler.plateau)
            self._values = [
                (self._used[number, quantity], value)
                for number, group in enumerate(self._scheduler.planned(self._tick))
                for quantity, value in group.items()
            ]
        return self._values

    def start_at(self, step: int, epoch: int, trainer: Trainer) -> None:
        # Not before: a checkpoint puts new groups into the optimizer.
        self._take_groups()
        # What the checkpoint says: a changed horizon changes the count, and steps that AMP left out are not in it.
        self._tick = self._scheduler.last_epoch

    def _take_groups(self) -> None:
        """Takes the param groups as they are now: an optimizer that loads a state has others from then on."""
        self._groups, self._known = self._optimizers[self.number].param_groups, None
        own = (value for value in group_values(self._optimizers) if value.optimizer == self.number)
        self._used = {(value.group_number, value.quantity): value for value in own}

    def after_step(self, batch: int) -> None:
        self._tick += self._by_step

    def after_epoch(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        self._tick += not self._by_step

    def changed_on_resume(self) -> str:
        return ""


class _ByReplay:
    """What torch's schedulers should have set: copies of them are stepped beside them.

    Somebody's scheduler may train well and let itself be neither copied nor stepped without its module: ``untried``
    says so then, and nothing is planned.
    """

    def __init__(self, optimizers: Sequence[Optimizer], number: int, configs: Sequence[SchedulerConfig]) -> None:
        self.schedulers = [one.scheduler for one in configs]
        self._configs = configs
        self.number, self._optimizers = number, optimizers
        self.follows_metric = any(map(_is_plateau, self.schedulers))
        self.untried = ""
        self._quantities: tuple[str, ...] = ()
        self._groups: list[dict[str, Any]] = []
        self._used: list[GroupValue] = []
        self._copies: list[GroupValue] = []
        self._values: list[tuple[GroupValue, float]] = []
        self._try(self._copy)

    def _try(self, play: Callable[[], None]) -> None:
        if self.untried:
            return
        try:
            play()
        except Exception as error:
            names = " + ".join(type(scheduler).__name__ for scheduler in self.schedulers)
            self.untried = f"{names} cannot be tried out beside the run: {described(error)}"

    def _copy(self) -> None:
        self._replay = Replay([self._optimizers[self.number]], self._configs)

    def _refresh(self) -> None:
        self._values = [(used, planned.read()) for used, planned in zip(self._used, self._copies, strict=True)]

    def values(self) -> list[tuple[GroupValue, float]]:
        if self.untried:
            return []
        if self._groups is not self._optimizers[self.number].param_groups:
            self._take_groups()
            self._refresh()
        return self._values

    def start_at(self, step: int, epoch: int, trainer: Trainer) -> None:
        self._try(lambda: self._start_at(step, epoch, trainer))

    def _start_at(self, step: int, epoch: int, trainer: Trainer) -> None:
        cycles = any(getattr(scheduler, "cycle_momentum", False) for scheduler in self.schedulers)
        self._quantities = ("lr", "momentum") if cycles else ("lr",)
        if self.follows_metric:
            self._copy()  # with what it knows of the metric so far
        else:
            self._catch_up(step, epoch, trainer)
        self._copies = group_values(self._replay.optimizers, self._quantities)
        self._take_groups()
        self._refresh()

    def _take_groups(self) -> None:
        """Takes the param groups that are replayed as they are now: see :class:`_ByFormula`."""
        self._groups = self._optimizers[self.number].param_groups
        known = {(copy.quantity, copy.group_number) for copy in self._copies}
        own = (value for value in group_values(self._optimizers, self._quantities) if value.optimizer == self.number)
        self._used = [value for value in own if (value.quantity, value.group_number) in known]

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
        self._try(lambda: self._after_step(batch))

    def _after_step(self, batch: int) -> None:
        if self._replay.by_step:
            self._replay.after_step(batch)
            self._refresh()

    def after_epoch(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        self._try(lambda: self._after_epoch(epoch, metrics))

    def _after_epoch(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        monitor = next((one.monitor for one in self._configs if one.monitor), "")
        self._replay.after_epoch(epoch, float(metrics[monitor]) if monitor in metrics else None)
        self._refresh()

    def changed_on_resume(self) -> str:
        copies = [one.scheduler for one in self._replay.configs]
        changes = [
            f"{name} is {vars(own)[name]} and not {value}"
            for own, planned in zip(sorted(self.schedulers, key=_is_plateau), copies, strict=True)
            for name, value in vars(planned).items()
            if not name.startswith("_") and isinstance(value, (int, float, str)) and vars(own).get(name) != value
        ]
        return f": from the checkpoint, {', '.join(changes)}" if changes else ""


def _plans(trainer: Trainer) -> list[_ByFormula | _ByReplay]:
    """Returns a plan for each optimizer; none where they cannot be checked."""
    if _why_unchecked(trainer):
        return []
    configs = [scheduler_config(config) for config in trainer.lr_scheduler_configs]
    plans: list[_ByFormula | _ByReplay] = []
    for number, optimizer in enumerate(trainer.optimizers):
        if not group_values([optimizer], ["lr"]):  # such as Lightning's own, in a module that has none
            continue
        own = [one for one in configs if one.scheduler.optimizer is optimizer]
        if len(own) == 1 and isinstance(own[0].scheduler, ScheduledLR) and own[0].frequency == 1:
            plans.append(_ByFormula(trainer.optimizers, number, own[0]))
        else:
            plans.append(_ByReplay(trainer.optimizers, number, own))
    return plans


def _why_unchecked(trainer: Trainer) -> str:
    """Returns why no plan can foresee the learning rates of a run; empty where one can."""
    schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
    module = trainer.lightning_module
    own = [type(one).__name__ for one in schedulers if not isinstance(one, KeptScheduler)]
    if own and not module.automatic_optimization:
        return f"{type(module).__name__} steps {' and '.join(own)} itself, when it likes (manual optimization)"
    foreign = [type(one).__name__ for one in schedulers if not isinstance(one, LRScheduler)]
    if foreign:
        return f"{' and '.join(foreign)}, no scheduler of torch's, moves on as {type(module).__name__} likes"
    relative = [type(one).__name__ for one in trainer.optimizers if works_out_its_rate(one)]
    if relative:
        return f"{' and '.join(relative)} works it out itself (relative_step=True)"
    if not schedulers and callback_of(trainer, StochasticWeightAveraging):
        return "StochasticWeightAveraging sets it"
    silent = [type(one).__name__ for one in trainer.optimizers if not tells_its_steps(one)]
    if silent:
        return f"{' and '.join(silent)} does not tell of its steps, since it leaves out Optimizer.__init__"
    if any(_is_plateau(config.scheduler) and config.interval == "step" for config in trainer.lr_scheduler_configs):
        return "ReduceLROnPlateau follows its metric within an epoch, where no callback sees it"
    return ""


def _is_finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value.detach()).all())


def _is_plateau(scheduler: LRScheduler) -> bool:
    return isinstance(scheduler, ReduceLROnPlateau)


def _suspects(trainer: Trainer) -> str:
    quiet = ("Checkpoint", "ProgressBar", "Summary", "Monitor", "Timer", "EarlyStopping")
    names = [
        type(callback).__name__
        for callback in callbacks_of(trainer)
        if not type(callback).__module__.startswith("lit_lrsched") and not type(callback).__name__.endswith(quiet)
    ]
    return f" (callbacks: {', '.join(names)})" if names else " (the module itself, perhaps)"


def _schedulers(trainer: Trainer) -> set[LRScheduler]:
    return {kept_by(config.scheduler) for config in trainer.lr_scheduler_configs}
