"""Any torch scheduler as a pure function of the step."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from torch.optim import Optimizer
from torch.optim import lr_scheduler as torch_schedulers
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lit_lrsched.class_paths import import_from, without_partial
from lit_lrsched.errors import InputError, described, did_you_mean, shown
from lit_lrsched.optim.dummy_optimizer import DummyOptimizer, check_replayable
from lit_lrsched.optim.param_groups import copied_lrs, get_value, lr_of
from lit_lrsched.optim.torch_internals import parts_of
from lit_lrsched.schedules.core import Horizon, Schedule
from lit_lrsched.schedules.durations import Duration, check_duration, parse_instant, steps_in
from lit_lrsched.schedules.per_horizon import per_horizon

# Arguments that mean the horizon, and those that mean the peak, where the base rate counts as 1.
_HORIZON_ARGUMENTS = ("total_steps", "total_iters", "T_max")
_PEAK_ARGUMENTS = ("max_lr",)


@dataclass(frozen=True)
class FromTorch(Schedule):
    """The factors that a torch scheduler gives to a base rate of 1, replayed on an optimizer that trains nothing.

    Absolute rates among the arguments (``max_lr``, ``base_lr``, ``eta_min``) are therefore multiples of the base rate.
    Momentum that the scheduler cycles follows along, relative to the momentum it starts from.

    Use it to compose, preview, resume or race one of torch's own like any other schedule.

    Args:
        scheduler: Name of a class in ``torch.optim.lr_scheduler``, import path of any other, or a callable that takes
            an optimizer and returns a scheduler.
        arguments: Arguments of a named class, without the optimizer. ``total_steps``, ``total_iters`` and ``T_max``,
            when left out, are the horizon; ``max_lr`` is 1. A duration such as ``"10ep"`` or ``"30%"`` becomes the
            number of ticks that it lasts. Schedulers inside are written as ``{class_path, init_args}``.
        every: How long one tick of the scheduler lasts: ``"1st"``, an optimizer step, or ``"1ep"``, an epoch.

    Raises:
        InputError: For an unknown name, arguments that the class refuses, or a scheduler that follows a metric
            (:class:`~lit_lrsched.Plateau` does that).

    >>> from lit_lrsched import Horizon, table
    >>> [round(f, 3) for f in table(FromTorch("OneCycleLR", {"cycle_momentum": False}), Horizon(5))]
    [0.04, 0.95, 0.611, 0.188, 0.0]
    >>> halves = FromTorch("StepLR", {"step_size": "50%", "gamma": 0.5})
    >>> table(halves, Horizon(4))
    [1.0, 1.0, 0.5, 0.5]
    """

    scheduler: Union[str, Callable[[Optimizer], LRScheduler]]
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    every: Duration = "1st"

    def __post_init__(self) -> None:
        check_duration("every", self.every)
        if isinstance(self.scheduler, str):
            if _find(self.scheduler) is ReduceLROnPlateau:
                raise InputError(
                    "scheduler='ReduceLROnPlateau' follows a metric: use Plateau, which wraps any schedule"
                )
            if not isinstance(self.arguments, Mapping) or not all(isinstance(name, str) for name in self.arguments):
                raise InputError(
                    f"arguments={shown(self.arguments)} are not arguments by name: write them as a dict, "
                    "like {'gamma': 0.9}"
                )
            _check_names(self.scheduler, self.arguments)
        elif not callable(self.scheduler):
            raise InputError(
                f"scheduler={shown(self.scheduler)} is no torch scheduler: give the name of one, like 'StepLR', or a "
                "callable that takes an optimizer"
            )
        elif self.arguments:
            raise InputError("arguments belong to a scheduler given by name: put them into the callable")

    def __call__(self, step: int, horizon: Horizon) -> float:
        """Returns the factor at a step; past the horizon the last one."""
        return self._replay(horizon).at(step // self._ticks(horizon)[1])[0]

    def companions(self) -> dict[str, Schedule]:
        """Returns the momentum's schedule when the scheduler cycles it."""
        horizon = Horizon(100, steps_per_epoch=10)  # which one does not matter: only whether the momentum ever moves
        try:
            replay = self._replay(horizon)
            cycles = replay.cycles_momentum or any(replay.at(tick)[1] != 1.0 for tick in range(self._ticks(horizon)[0]))
        except InputError:  # it does not fit this horizon; it may fit the real one
            cycles = False
        return {"momentum": _Momentum(self)} if cycles else {}

    @per_horizon
    def _ticks(self, horizon: Horizon) -> tuple[int, int]:
        stride = max(1, steps_in(self.every, horizon))
        return math.ceil(horizon.steps / stride), stride

    @per_horizon
    def _replay(self, horizon: Horizon) -> _Replay:
        ticks, stride = self._ticks(horizon)
        return _replay(self.scheduler, _in_ticks(self.arguments, horizon, stride), ticks)


def made_scheduler(name: str, make: Callable[[Optimizer], LRScheduler], optimizer: Optimizer) -> LRScheduler:
    """Returns the torch scheduler that a callable makes.

    Args:
        name: The parameter's name, for the message.
        make: The callable.
        optimizer: What it is given.

    Raises:
        InputError: When it refuses its arguments, or makes something else.
    """
    try:
        scheduler: object = make(optimizer)
    except InputError:
        raise
    except Exception as error:  # of any kind: torch checks few arguments
        raise InputError(f"the scheduler cannot be made: {described(error)}: correct its arguments") from error
    if not isinstance(scheduler, LRScheduler):
        raise InputError(f"{name} returned {shown(scheduler)}, which is no torch scheduler: return one")
    return scheduler


def follows_metric(scheduler: Any) -> bool:
    """Tells a ``ReduceLROnPlateau``, or a callable that makes one, from what is a function of the step."""
    target = without_partial(scheduler)
    return isinstance(target, type) and issubclass(target, ReduceLROnPlateau)


@dataclass(frozen=True)
class _Momentum(Schedule):
    """What a torch scheduler does to the momentum, relative to the momentum it starts from."""

    source: FromTorch

    def __call__(self, step: int, horizon: Horizon) -> float:
        return self.source._replay(horizon).at(step // self.source._ticks(horizon)[1])[1]


class _Replay:
    """A scheduler on an optimizer that trains nothing, stepped as far as it is asked for, and the factors it set."""

    def __init__(self, make: Callable[[Optimizer], LRScheduler], ticks: int) -> None:
        values = {"lr": 1.0, "momentum": 0.9}
        optimizer = DummyOptimizer([values], values)
        self._scheduler = made_scheduler("scheduler", make, optimizer)
        self._group = optimizer.param_groups[0]
        self._ticks = ticks
        self._momentum = get_value(self._group, "momentum")
        check_replayable(type(self._scheduler).__name__, ticks)
        self._seen: list[tuple[float, float]] = []
        self._record()

    @property
    def cycles_momentum(self) -> bool:
        return _cycles_momentum(self._scheduler)

    def at(self, tick: int) -> tuple[float, float]:
        tick = min(tick, self._ticks - 1)
        while len(self._seen) <= tick:
            with warnings.catch_warnings():
                # There is no optimizer step to come first, and composites step their parts in a way torch deprecates.
                warnings.simplefilter("ignore", UserWarning)
                try:
                    self._scheduler.step()
                except Exception as error:
                    name = type(self._scheduler).__name__
                    if isinstance(error, ValueError) and "total steps" in str(error):
                        raise InputError(f"{name} is too short for training: {error}") from error
                    raise InputError(f"{name} fails at tick {len(self._seen)} with {described(error)}") from error
            self._record()
        return self._seen[tick]

    def _record(self) -> None:
        try:
            self._seen.append((lr_of(self._group), get_value(self._group, "momentum") / self._momentum))
        except (TypeError, ValueError, OverflowError) as error:
            name, rate = type(self._scheduler).__name__, shown(copied_lrs(self._scheduler.optimizer)[0])
            raise InputError(f"{name} sets the learning rate to {rate}: correct its arguments") from error


def _cycles_momentum(scheduler: LRScheduler) -> bool:
    return bool(getattr(scheduler, "cycle_momentum", False)) or any(map(_cycles_momentum, parts_of(scheduler)))


def _replay(
    scheduler: Union[str, Callable[[Optimizer], LRScheduler]], arguments: Mapping[str, Any], ticks: int
) -> _Replay:
    if not isinstance(scheduler, str):
        return _Replay(scheduler, ticks)
    return _Replay(lambda optimizer: _build(scheduler, arguments, optimizer, ticks), ticks)


def _build(name: str, arguments: Mapping[str, Any], optimizer: Optimizer, ticks: int) -> LRScheduler:
    target = _find(name)
    parameters = inspect.signature(target).parameters
    arguments = {key: _build_inner(value, optimizer, ticks) for key, value in arguments.items()}
    for key, value in {**dict.fromkeys(_HORIZON_ARGUMENTS, ticks), **dict.fromkeys(_PEAK_ARGUMENTS, 1.0)}.items():
        if key in parameters and not (key == "total_steps" and "epochs" in arguments):
            arguments.setdefault(key, value)
    try:
        scheduler: LRScheduler = target(optimizer=optimizer, **arguments)
    except Exception as error:  # of any kind: torch checks few arguments
        raise InputError(f"{name} refuses its arguments: {str(error) or type(error).__name__}") from error
    return scheduler


def _build_inner(value: Any, optimizer: Optimizer, ticks: int) -> Any:
    if isinstance(value, (list, tuple)):
        return [_build_inner(item, optimizer, ticks) for item in value]
    if isinstance(value, Mapping) and "class_path" in value:
        return _build(value["class_path"], value.get("init_args") or {}, optimizer, ticks)
    return value


def _find(name: Any) -> type[LRScheduler]:
    text = name if isinstance(name, str) else ""
    found = import_from(text) if "." in text else getattr(torch_schedulers, text, None)
    if not (isinstance(found, type) and issubclass(found, LRScheduler)):
        known = [word for word in torch_schedulers.__all__ if word != "LRScheduler"]
        raise InputError(
            f"scheduler={shown(name)} is no torch scheduler{did_you_mean(text, known)}: give one of its classes"
        )
    return found


def _check_names(name: str, arguments: Mapping[str, Any]) -> None:
    """Refuses names that the class does not know."""
    parameters = inspect.signature(_find(name)).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    known = [known for known in parameters if known != "optimizer"]
    for given in arguments:
        if given not in known:
            raise InputError(
                f"{name} refuses its arguments: it has no {given!r}{did_you_mean(given, known)}: use {' '.join(known)}"
            )


def _in_ticks(value: Any, horizon: Horizon, stride: int) -> Any:
    """Turns every duration inside the arguments into the number of ticks that it lasts."""
    if isinstance(value, Mapping):
        return {key: _in_ticks(item, horizon, stride) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_in_ticks(item, horizon, stride) for item in value]
    if isinstance(value, str) and _is_duration(value):
        return max(1, round(steps_in(value, horizon) / stride))
    return value


def _is_duration(text: str) -> bool:
    try:
        parse_instant("duration", text)
    except InputError:
        return False
    return True
