"""The torch side: one ``LRScheduler`` that carries any schedule."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, get_args

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_lrsched.errors import InputError, shown
from lit_lrsched.optim.clock import Clock, OnHorizonChange
from lit_lrsched.optim.group_schedules import BaseValue, GroupSchedule, check_groups, group_schedules
from lit_lrsched.optim.param_groups import (
    QUANTITIES,
    base_lr_of,
    check_lrs,
    copied_lrs,
    get_value,
    give_own_lrs,
    lr_of,
    set_base,
    set_value,
)
from lit_lrsched.optim.torch_internals import leaves_out_its_step, tells_its_steps
from lit_lrsched.schedules.checks import check_choice
from lit_lrsched.schedules.core import (
    Horizon,
    Interval,
    Schedule,
    ScheduleLike,
    as_schedule,
    check_horizon,
    factor_at,
    stride_of,
)
from lit_lrsched.schedules.plateau import Plateau, PlateauState


class ScheduledLR(LRScheduler):
    """Sets every param group's learning rate to its base rate times ``schedule(step, horizon)``.

    The rate is computed afresh from the tick, never from the rate before, so it cannot drift, and a rate that something
    else has set is replaced, with a warning. Call :meth:`step` after each optimizer step (``interval="step"``) or after
    each epoch (``interval="epoch"``).

    Args:
        optimizer: Any torch optimizer. Its groups' learning rates, momenta and weight decays are the base values; where
            a scheduler has driven one before, the value that it noted, as torch's do with ``initial_lr``.
        schedule: A :class:`~lit_lrsched.Schedule` or a function ``(step, horizon) -> float``. A
            :class:`~lit_lrsched.Plateau` needs :meth:`observe` to be called after each validation.
        horizon: How long training lasts, in optimizer steps.
        interval: What one tick is. With ``"epoch"`` the rate at tick ``e`` is that of step
            ``e * horizon.steps_per_epoch``, which the horizon has to know then.
        groups: Schedules for the rest, by what they drive: ``"momentum"`` or ``"weight_decay"`` of every group, or a
            quantity of one group, such as ``"lr/backbone"`` or ``"weight_decay/group1"``. A group is called by its
            ``name``, or ``group0``, ``group1``, ... The momentum of Adam and its like is their first beta. A group
            whose value is 0 keeps 0, as the one without weight decay.
        on_horizon_change: What to do when a checkpoint was written under another horizon. ``"replan"``: take the new
            curve, from the step reached. ``"keep"``: follow the old curve, then its end. ``"stretch"``: stretch what
            is left of the old curve over what is left of training. ``"error"``: refuse.

    A param group that joins later starts at its own rate and follows the schedule from there. A rate that is set on it
    later becomes its new base. Its momentum and its weight decay are base values like those of the other groups, and
    follow the schedules of every group from the next tick on.

    Raises:
        InputError: When the optimizer has no learning rate; when the schedule does not fit the horizon, or returns
            something that is not a finite number of at least 0; when ``groups`` names what the optimizer does not have.

    >>> import torch
    >>> from lit_lrsched import Horizon, Linear, ScheduledLR
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    >>> scheduler = ScheduledLR(optimizer, Linear(end=0.5), Horizon(steps=4))
    >>> for _ in range(4):
    ...     print(f"{scheduler.get_last_lr()[0]:.4f}")
    ...     optimizer.step()
    ...     scheduler.step()
    0.1000
    0.0875
    0.0750
    0.0625
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: ScheduleLike,
        horizon: Horizon,
        interval: Interval = "step",
        groups: Mapping[str, ScheduleLike] | None = None,
        on_horizon_change: OnHorizonChange = "replan",
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise InputError(f"optimizer={shown(optimizer)} is no torch optimizer: make one, like SGD(weights, lr=0.1)")
        check_lrs(optimizer)
        give_own_lrs(optimizer)
        schedule = as_schedule(schedule)
        check_horizon(horizon)
        check_groups(groups)
        check_choice("on_horizon_change", on_horizon_change, get_args(OnHorizonChange))
        self.schedule = schedule
        self.horizon = horizon
        self.interval = interval
        self.on_horizon_change = on_horizon_change
        self.plateau: PlateauState | None = schedule.start() if isinstance(schedule, Plateau) else None
        self.resumed: str | None = None
        self.steps_reached: Callable[[], int] | None = None
        self._stride = stride_of(interval, horizon)
        self._clock = Clock(horizon)
        self.waits_for_optimizer = False
        self._optimizer_stepped = self._told_of_another_rate = False
        others = {name: as_schedule(other) for name, other in (groups or {}).items()}
        others = {**schedule.companions(), **others}
        self._group_schedules = group_schedules(optimizer, schedule, others)
        self._of_all_groups = {"lr": schedule, **{name: others[name] for name in QUANTITIES if name in others}}
        self._joined: dict[tuple[int, str], float] = {}
        self.taken: dict[int, float] = {}
        self._known_groups = len(optimizer.param_groups)
        self._check()
        super().__init__(optimizer)

    def _check(self) -> None:
        # A schedule that does not fit, or fails at some step, is refused now and not in the middle of a run, or at its
        # end: after the last step comes a tick as after any other.
        steps = self.horizon.steps
        for one in self._group_schedules:
            for step in (*((steps - 1) * percent // 100 for percent in range(101)), steps):
                factor_at(one.schedule, step, self.horizon)

    @property
    def position(self) -> int:
        """The step of the schedule that is in force."""
        return self._clock(self.last_epoch * self._stride)

    @property
    def lr_schedules(self) -> list[Schedule]:
        """The schedule of each param group's learning rate, for the groups that were there from the start."""
        found = {
            value.group: one.schedule for one in self._group_schedules for value in one.values if value.quantity == "lr"
        }
        return [found[group] for group in sorted(found)]

    @property
    def group_schedules(self) -> list[GroupSchedule]:
        """The schedules, each with the values that it multiplies; of param groups that joined later there are none."""
        return list(self._group_schedules)

    @property
    def policy(self) -> Literal["keep", "stretch"] | None:
        """How the curve of a checkpoint of another length goes on here; None where it does not."""
        if self._clock == Clock(self.horizon):
            return None
        return "stretch" if self.on_horizon_change == "stretch" else "keep"

    def planned(self, tick: int) -> list[dict[str, float]]:
        """Returns what each param group is set to at a tick: ``lr``, and ``momentum`` or ``weight_decay`` if scheduled.

        The plateau, which no plan can know, counts as it stands now.
        """
        step, horizon = self._clock(tick * self._stride), self._clock.horizon
        values: list[dict[str, float]] = [{} for _ in range(self._known_groups)]
        for one in self._group_schedules:
            factor = self._factor(one.schedule, step, horizon)
            for index, quantity, base in one.values:
                values[index][quantity] = base * factor
        return values

    def get_lr(self) -> list[float | Tensor]:
        """Returns the learning rate of every param group at the present tick."""
        return [lr_of(values) for values in self.planned(self.last_epoch)]

    def step(self, epoch: int | None = None) -> None:
        """Moves on to the next tick, or to the given one, and sets the values of every param group.

        Warns at the end of training of a :class:`~lit_lrsched.Plateau` that was never shown its metric.

        Raises:
            InputError: When it is given a metric, as torch's ``ReduceLROnPlateau`` is; when the optimizer has lost a
                param group.
        """
        if not (epoch is None or isinstance(epoch, int)):
            raise InputError(
                f"step({shown(epoch)}) takes the number of a tick, no metric: call observe(metric) after each "
                "validation, or return schedule_config(...), which does, in place of reduce_on_plateau"
            )
        if self.waits_for_optimizer and not self._optimizer_stepped and epoch is None:
            return
        self._optimizer_stepped = False
        if (there := len(self.optimizer.param_groups)) < self._known_groups:
            raise InputError(
                f"the optimizer has {there} param groups of the {self._known_groups} that the schedule was made for: "
                "make a new ScheduledLR for those that are left"
            )
        if epoch is None and self.last_epoch >= 0 and self.steps_reached is None:  # where a trainer counts, it looks
            self._warn_of_another_rate()
        if there != self._known_groups:
            self._adopt_late_groups()
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._apply()
        if self.last_epoch * self._stride == self.horizon.steps > (self.horizon.steps_per_epoch or 1):
            self._warn_of_no_metric()

    def _warn_of_no_metric(self) -> None:
        if isinstance(self.schedule, Plateau) and self.plateau == self.schedule.start():
            warnings.warn(
                f"{self.schedule.describe()} was shown no {self.schedule.monitor} in all of training, and changed "
                "nothing: call observe(metric) after each validation, or return schedule_config(...), which does",
                stacklevel=3,
            )

    def observe(self, metric: float) -> None:
        """Shows a :class:`~lit_lrsched.Plateau` the value of its metric: once after each validation.

        Raises:
            InputError: When the schedule follows no metric.
        """
        if not isinstance(self.schedule, Plateau) or self.plateau is None:
            raise InputError(f"{self.schedule.describe()} follows no metric: wrap it, Plateau(schedule=...)")
        self._adopt_late_groups()
        self.plateau = self.schedule.update(self.plateau, metric)
        self._apply()

    def plan_anew(self, horizon: Horizon) -> None:
        """Changes the horizon before the first step: ``BatchSizeFinder`` gives a run another length.

        Raises:
            InputError: When the schedule does not fit it.
        """
        self.horizon = horizon
        self._stride = stride_of(self.interval, horizon)
        self._clock = Clock(horizon)
        self._check()
        self._apply()

    def take_rates(self, found: Collection[float] = ()) -> None:
        """Makes rates that a callback has set before the first step the base rates, and keeps them on resuming.

        Args:
            found: Rates that a callback is known to have tried; base rates among them are kept on resuming as well.
        """
        rates = {}
        for index, group in enumerate(self.optimizer.param_groups[: self._known_groups]):
            now, base = lr_of(group), base_lr_of(group)
            if now != float(self._last_lr[index]):
                rates[index] = now
            elif base in found:
                rates[index] = base
        self._take(rates)

    def changed_rate(self) -> tuple[float, float] | None:
        """Returns a rate that something else has set since the last tick, and the one that was planned.

        A group that joined later has a rate of its own, which whoever added it may go on to set.
        """
        groups = zip(self.optimizer.param_groups[: self._known_groups], self._last_lr, strict=False)
        changed = ((lr_of(group), float(planned)) for group, planned in groups if lr_of(group) != float(planned))
        return next(changed, None)

    def _warn_of_another_rate(self) -> None:
        # Those in tensors are left alone: to read them would wait for their device at every step.
        in_tensors = any(isinstance(rate, Tensor) for rate in self._last_lr)
        if self._told_of_another_rate or in_tensors or not (changed := self.changed_rate()):
            return
        self._told_of_another_rate = True
        warnings.warn(
            f"the learning rate is {changed[0]:.6g} where {self.schedule.describe()} has set {changed[1]:.6g}: "
            "something else sets it as well, and what is set last counts",
            stacklevel=3,
        )

    def _take(self, rates: dict[int, float]) -> None:
        if not rates:
            return
        self.taken = dict(rates)
        for index, rate in rates.items():
            set_base(self.optimizer.param_groups[index], "lr", rate)
        self._group_schedules = [
            GroupSchedule(
                one.schedule,
                [
                    value._replace(base=rates.get(value.group, value.base)) if value.quantity == "lr" else value
                    for value in one.values
                ],
            )
            for one in self._group_schedules
        ]
        self._apply()

    def join(self, tick: int, anew: bool = False) -> None:
        """Enters a run that is under way, at a tick that is in no checkpoint of this scheduler.

        Args:
            tick: The tick.
            anew: Whether the optimizer's present rates are of this scheduler alone, and not what the run has used.
        """
        before = [] if anew else [lr_of(group) for group in self.optimizer.param_groups]
        self._note_bases()
        self.step(tick)
        self._tell(before, self.horizon)

    def wait_for_optimizer(self) -> None:
        """From now on ignores a :meth:`step` that no step of the optimizer came before.

        AMP's ``GradScaler`` leaves out the optimizer's step when gradients overflow; the schedule then waits as well.
        It cannot wait for an optimizer that does not tell of its steps, as Lookahead: each :meth:`step` counts then.
        """
        if not self.waits_for_optimizer and tells_its_steps(self.optimizer):
            self.waits_for_optimizer = True
            self.optimizer.register_step_post_hook(self._note_optimizer_step)

    def _note_optimizer_step(self, *_: Any) -> None:
        self._optimizer_stepped = self._optimizer_stepped or not leaves_out_its_step(self.optimizer)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Lets a copy wait for its optimizer too: the hooks of an optimizer are not copied with it."""
        self.__dict__.update(state)
        if self.waits_for_optimizer:
            self.waits_for_optimizer = False
            self.wait_for_optimizer()

    def _factor(self, schedule: Schedule, step: int, horizon: Horizon) -> float:
        factor = factor_at(schedule, step, horizon)
        return factor * self.plateau.factor if self.plateau is not None and schedule is self.schedule else factor

    def _apply(self) -> None:
        step, horizon, groups = self.position, self._clock.horizon, self.optimizer.param_groups
        for one in self._group_schedules:
            factor = self._factor(one.schedule, step, horizon)
            for index, quantity, base in one.values:
                set_value(groups[index], quantity, base * factor)
        if self._joined:
            factors = {name: self._factor(one, step, horizon) for name, one in self._of_all_groups.items()}
            for (index, quantity), base in self._joined.items():
                if index < len(groups):
                    set_value(groups[index], quantity, base * factors[quantity])
        self._last_lr = copied_lrs(self.optimizer)

    def _adopt_late_groups(self) -> None:
        give_own_lrs(self.optimizer)  # one that joins without a rate is given the tensor of the first
        groups = self.optimizer.param_groups
        factor = self._factor(self.schedule, self.position, self._clock.horizon)
        for index in range(self._known_groups, len(groups)):
            rate = lr_of(groups[index])
            if index >= len(self._last_lr) or rate != float(self._last_lr[index]):
                self._joined[index, "lr"] = rate / factor if factor else rate
            # A group is given a rate of its own for the moment; the rest it has from the optimizer's defaults, which
            # are the base values of the other groups too.
            for quantity in self._of_all_groups:
                value = get_value(groups[index], quantity)
                if value and (index, quantity) not in self._joined:
                    self._joined[index, quantity] = value
        for (index, quantity), base in self._joined.items():
            if index < len(groups):
                set_base(groups[index], quantity, base)  # for a scheduler that is made anew

    def state_dict(self) -> dict[str, Any]:
        """Returns what cannot be recomputed from the configuration, as numbers, lists and dicts.

        Horizon, interval, metric and rates are kept to notice a change; the clock, because an earlier change may have
        bent it.
        """
        driven = [value for one in self._group_schedules for value in one.values]
        driven += [BaseValue(index, quantity, base) for (index, quantity), base in self._joined.items()]
        state: dict[str, Any] = {
            "last_epoch": self.last_epoch,
            "interval": self.interval,
            "horizon": [self.horizon.steps, self.horizon.steps_per_epoch],
            "clock": self._clock.as_list(),
            "rates": [float(rate) for rate in self._last_lr],
            "driven": [list(value) for value in driven if value.quantity != "lr"],
            "joined": {index: base for (index, quantity), base in self._joined.items() if quantity == "lr"},
        }
        if self.taken:
            state["taken"] = dict(self.taken)
        if isinstance(self.schedule, Plateau) and self.plateau is not None:
            state["plateau"] = dataclasses.asdict(self.plateau)
            state["metric"] = self.schedule.metric
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on at the checkpoint's tick with the present configuration, and sets the values of that tick.

        The state of another scheduler is ignored, for its ticks may have been of any length: see :meth:`join`.

        Raises:
            InputError: When the horizon has changed and ``on_horizon_change="error"``.
        """
        if "clock" not in state_dict:
            return
        recorded = Horizon(*state_dict["horizon"])
        old = self._with_known_epochs(recorded)
        self.last_epoch = state_dict["last_epoch"]
        clock = Clock.from_list(state_dict["clock"])
        self._clock = dataclasses.replace(clock, horizon=self._with_known_epochs(clock.horizon))
        if isinstance(self.schedule, Plateau) and "plateau" in state_dict:
            self.plateau, metric = PlateauState(**state_dict["plateau"]), self.schedule.metric
            if state_dict.get("metric", metric) != metric:  # what was best of another says nothing
                self.plateau = dataclasses.replace(self.schedule.start(), factor=self.plateau.factor)
        # JSON makes text of the numbers of groups.
        joined, taken = (
            {int(index): rate for index, rate in state_dict.get(name, {}).items()} for name in ("joined", "taken")
        )
        self._take_joined(joined, state_dict["driven"])
        self._take(taken)
        if (old, self.interval) != (self.horizon, state_dict["interval"]):
            self._change(old, self.last_epoch * stride_of(state_dict["interval"], recorded), state_dict["interval"])
        self._release(state_dict["driven"])
        self._note_bases()
        self._apply()
        self._tell(state_dict["rates"], old)

    def _with_known_epochs(self, horizon: Horizon) -> Horizon:
        """Returns the horizon of a checkpoint, with epochs of the present length where one of the two knows none.

        That alone is no change: the steps are the same. (Once 1 or all of training stood for the length not known.)
        """
        if None in (horizon.steps_per_epoch, self.horizon.steps_per_epoch):
            return dataclasses.replace(horizon, steps_per_epoch=self.horizon.steps_per_epoch)
        return horizon

    def _take_joined(self, joined: dict[int, float], driven: list[tuple[int, str, float]]) -> None:
        # The groups that joined late may be there already as this scheduler is made; they keep their base values.
        self._joined = {(index, "lr"): base for index, base in joined.items()}
        for index, quantity, base in driven:
            if index in joined and quantity in self._of_all_groups:
                self._joined[index, quantity] = base
        self._known_groups = min([self._known_groups, *joined])
        self._group_schedules = [
            GroupSchedule(one.schedule, [value for value in one.values if value.group < self._known_groups])
            for one in self._group_schedules
        ]

    def _note_bases(self) -> None:
        """Notes the base values of the present configuration where the optimizer has taken up those of a checkpoint."""
        for one in self._group_schedules:
            for index, quantity, base in one.values:
                set_base(self.optimizer.param_groups[index], quantity, base)

    def _release(self, driven: list[tuple[int, str, float]]) -> None:
        """Sets values back to their bases that a schedule drove in the checkpoint and none drives now."""
        now = {value[:2] for one in self._group_schedules for value in one.values} | self._joined.keys()
        for index, quantity, base in driven:
            if (index, quantity) not in now:
                set_value(self.optimizer.param_groups[index], quantity, base)

    def _change(self, old: Horizon, done: int, interval: Interval) -> None:
        """Finds the tick to go on at after ``done`` steps of a run, or with ticks, of another length."""
        if self.on_horizon_change == "error" and old != self.horizon:
            raise InputError(
                f"the checkpoint planned {old} and this run plans {self.horizon}: choose on_horizon_change='replan', "
                "'keep' or 'stretch'"
            )
        # With epochs of another length (batch size, devices) the same progress is another number of steps: epochs are
        # what counts then. When max_steps ends the run, steps are what counts.
        ratio, before, now = 1.0, old.steps_per_epoch, self.horizon.steps_per_epoch
        if before and now and (self.interval == "epoch" or self.horizon.steps % now == 0):
            ratio = before / now
        if interval != self.interval or (self.interval == "step" and ratio != 1):
            reached = self.steps_reached() if self.steps_reached else round(done / ratio)
            self.last_epoch = reached // self._stride
        if old != self.horizon:
            self._clock = self._bent(self._clock, done, self.last_epoch * self._stride, ratio)

    def _bent(self, clock: Clock, done: int, now: int, ratio: float) -> Clock:
        if self.on_horizon_change == "replan":
            return Clock(self.horizon)
        if self.on_horizon_change == "keep":
            return Clock(clock.horizon, now, clock(done), clock.rate * ratio)
        left = self.horizon.steps - now
        rate = (clock.horizon.steps - clock(done)) / left if left > 0 else 0.0
        return Clock(clock.horizon, now, clock(done), rate)

    def _tell(self, before: list[float], old: Horizon) -> None:
        after = [lr_of(group) for group in self.optimizer.param_groups]
        moves = [f"{a:.6g} -> {b:.6g}" for a, b in zip(before, after, strict=False)]
        shown = ", ".join(dict.fromkeys(moves or [f"{rate:.6g}" for rate in after]))
        where = f"step {self.last_epoch * self._stride} of {self.horizon.steps}"
        self.resumed = f"Resumed at {where}: learning rate {shown}"
        if old != self.horizon:
            self.resumed += f" ({self.on_horizon_change}: the checkpoint planned {old.steps} steps)"
        if any(abs(b - a) > 0.01 * abs(a) for a, b in zip(before, after, strict=False)):
            warnings.warn(f"{self.resumed}: a jump of more than 1 %", stacklevel=3)
