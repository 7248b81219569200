"""The one idea: a schedule is a pure function ``factor = schedule(step, horizon)``."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import Field, dataclass, fields, is_dataclass
from html import escape
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, Union

from lit_lrsched.class_paths import WrittenAs, import_from, import_path, without_partial
from lit_lrsched.errors import InputError, described, shown
from lit_lrsched.schedules import drawing
from lit_lrsched.schedules.checks import check_choice
from lit_lrsched.schedules.spans import Span

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Interval = Literal["step", "epoch"]


@dataclass(frozen=True)
class Horizon:
    """How long training, or the enclosing phase, lasts.

    Args:
        steps: Number of optimizer steps, at least 1. Training uses steps 0 to ``steps - 1``.
        steps_per_epoch: Number of optimizer steps in an epoch, at least 1. None: the length of an epoch is unknown,
            and whatever is counted in epochs is refused.

    Raises:
        InputError: When either is not a positive whole number.

    >>> Horizon(550, steps_per_epoch=11).epochs
    50.0
    >>> Horizon(550).epochs
    Traceback (most recent call last):
    lit_lrsched.schedules.core.NoEpochs: epochs needs to know how many steps an epoch has: give Horizon(steps=..., ...
    """

    steps: int
    steps_per_epoch: int | None = None

    def __post_init__(self) -> None:
        given: dict[str, Any] = {"steps": self.steps}
        if self.steps_per_epoch is not None:
            given["steps_per_epoch"] = self.steps_per_epoch
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise InputError(f"a horizon needs {name} to be a whole number of at least 1, got {value!r}")
            object.__setattr__(self, name, int(value))  # NumPy's are whole numbers too

    def __str__(self) -> str:
        """Returns the length in words, such as ``550 steps (11 an epoch)``."""
        return f"{self.steps} steps" + (f" ({self.steps_per_epoch} an epoch)" if self.steps_per_epoch else "")

    @property
    def epochs(self) -> float:
        """The length in epochs, a fraction when the last epoch is cut short.

        Raises:
            NoEpochs: When ``steps_per_epoch`` is None.
        """
        return self.steps / epoch_length("epochs", self)

    def epoch(self, step: int) -> float:
        """Returns the epochs done at a step, a fraction within an epoch.

        Raises:
            NoEpochs: When ``steps_per_epoch`` is None.

        >>> Horizon(550, steps_per_epoch=11).epoch(22)
        2.0
        """
        return step / epoch_length("epoch", self)


def check_horizon(horizon: object) -> None:
    """Refuses what is not a horizon, such as a bare number of steps.

    Raises:
        InputError: When it is not.
    """
    if not isinstance(horizon, Horizon):
        raise InputError(f"horizon={shown(horizon)} is not a horizon: give one, like Horizon(steps=1000)")


class NoEpochs(InputError):
    """Something is counted in epochs, and the horizon does not say how long they are."""


def epoch_length(wanted: str, horizon: Horizon) -> int:
    """Returns how many optimizer steps an epoch has.

    Args:
        wanted: What needs to know it, for the message.
        horizon: The horizon.

    Raises:
        NoEpochs: When the horizon does not say.
    """
    if horizon.steps_per_epoch is None:
        raise NoEpochs(
            f"{wanted} needs to know how many steps an epoch has: give Horizon(steps=..., steps_per_epoch=...)"
        )
    return horizon.steps_per_epoch


class Schedule(ABC):
    """A pure function from the optimizer step to the factor that multiplies the base value.

    Subclass it as a frozen dataclass: one class, one formula in closed form, nothing accumulated. A plain function
    ``(step, horizon) -> float`` is accepted wherever a ``Schedule`` is.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Halving(Schedule):
    ...     every: int = 10
    ...     def __call__(self, step, horizon):
    ...         return 0.5 ** (step // self.every)
    >>> table(Halving(every=2), Horizon(5))
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    # Whether the factor also depends on a metric, so that whoever trains has to keep a state. Without an annotation,
    # which jsonargparse would look up in the modules of subclasses.
    driven_by_metric = False

    @abstractmethod
    def __call__(self, step: int, horizon: Horizon) -> float:
        """Returns the factor at a step.

        Args:
            step: 0-based count of optimizer steps taken so far. Once training is over, this is ``horizon.steps``, which
                has to have a factor too.
            horizon: How long training, or the enclosing phase, lasts.

        Returns:
            The multiplier of the base value: finite and not negative.
        """

    def spans(self, horizon: Horizon) -> list[Span]:
        """Returns the named stretches of the schedule, in order, from step 0 to the end of the horizon.

        Plots and tables show them. By default the whole horizon is one span.
        """
        return [Span(self.describe(), 0, horizon.steps)]

    def companions(self) -> dict[str, Schedule]:
        """Returns schedules for other values, by name, that go with this one: ``"momentum"``, say. By default none."""
        return {}

    def describe(self) -> str:
        """Returns the name for plots and messages: the class's."""
        return type(self).__name__

    def __mul__(self, other: ScheduleLike | float) -> Schedule:
        """Returns the :class:`Product` with another schedule, a function or a number.

        >>> from lit_lrsched import Horizon, Linear, table
        >>> table(Linear() * 0.5, Horizon(4))
        [0.5, 0.375, 0.25, 0.125]
        """
        return _product(self, other)

    def __rmul__(self, other: ScheduleLike | float) -> Schedule:
        return _product(other, self)

    def plot(self, horizon: Horizon, ax: Axes | None = None) -> tuple[Figure, Axes]:
        """Draws the factor that multiplies the learning rate, over epochs where the horizon knows them, else steps.

        Args:
            horizon: How long training lasts.
            ax: Where to draw, beside what is there; None for a figure of its own, which pyplot does not hold.

        Returns:
            The figure and its axes.

        Raises:
            InputError: When the schedule does not fit the horizon.

        >>> from lit_lrsched import Horizon, Linear
        >>> figure, axes = Linear().plot(Horizon(100))
        >>> axes.get_xlabel(), axes.get_ylabel()
        ('step', 'factor of the learning rate')
        """
        check_horizon(horizon)
        return drawing.plot(_drawn(self, horizon, most=4000), ax)

    def _repr_html_(self) -> str:
        """Returns the arguments and the curve, as a notebook shows them."""
        text = f"<code>{escape(repr(self))}</code>"
        for steps in _SAMPLE_LENGTHS:
            with suppress(InputError):  # longer phases than this, or a function that fails: a view must not
                horizon = Horizon(steps, steps_per_epoch=10)
                picture = drawing.svg(_drawn(self, horizon, most=420))
                return f"<div>{text}<br>{picture}<br><small>for example, over {horizon}</small></div>"
        return f"<div>{text}</div>"


# A schedule by itself has no horizon. A notebook shows it over the first of these that its phases fit into.
_SAMPLE_LENGTHS = (1_000, 10_000, 100_000, 1_000_000)


def _drawn(schedule: Schedule, horizon: Horizon, most: int) -> drawing.Drawn:
    spans = schedule.spans(horizon)
    steps = drawing.steps_to_draw(horizon.steps, spans, most)
    factors = [factor_at(schedule, step, horizon) for step in steps]
    return drawing.Drawn(title_of(schedule), steps, factors, spans, horizon.steps, horizon.steps_per_epoch)


def _product(*factors: Any) -> Schedule:
    """Returns the product of schedules, functions and numbers, where one of a product counts as its factors."""
    # By name: both are schedules themselves, made of the class above.
    constant, product = (import_from(f"lit_lrsched.{name}") for name in ("Constant", "Product"))
    parts: list[Any] = []
    for factor in factors:
        if isinstance(factor, product):
            parts += factor.schedules
        else:
            is_number = isinstance(factor, Real) and not isinstance(factor, bool)
            parts.append(constant(float(factor)) if is_number else factor)
    found: Schedule = product(parts)
    return found


def title_of(schedule: Schedule) -> str:
    """Returns the class and the arguments that differ from their defaults, or the class alone when that is long.

    >>> from lit_lrsched import Constant, Plateau
    >>> title_of(Plateau(patience=1_234_567)), title_of(Constant())
    ('Plateau(patience=1234567)', 'Constant')
    """
    name = schedule.describe()
    own: tuple[Field[object], ...] = fields(schedule) if is_dataclass(schedule) else ()
    given = [
        f"{field.name}={format(value, 'g') if isinstance(value, float) else value}"
        for field in own
        if isinstance(value := getattr(schedule, field.name), (int, float, str)) and value != field.default
    ]
    title = f"{name}({', '.join(given)})"
    return title if given and len(title) <= 60 else name


# What the public functions and classes accept; as_schedule makes a Schedule of it.
ScheduleLike = Union[Schedule, Callable[[int, Horizon], float]]


@dataclass(frozen=True)
class _Function(Schedule, WrittenAs):
    """A plain function as a schedule. It is private so that the command line does not offer it: Custom is there."""

    function: Callable[[int, Horizon], float]

    def __call__(self, step: int, horizon: Horizon) -> float:
        return self.function(step, horizon)

    def describe(self) -> str:
        return name_of(self.function)

    def written_as(self) -> object:
        """Returns a ``Custom`` of the function's path, or the callable itself when it is more than a function."""
        if not inspect.isfunction(self.function):
            return self.function
        return {"class_path": "lit_lrsched.Custom", "init_args": {"function": import_path(self.function)}}


def as_schedule(schedule: ScheduleLike, name: str = "schedule") -> Schedule:
    """Returns a schedule as it is, and a plain function wrapped into one.

    Every public function and class calls it once on what it is given; behind them everything is a :class:`Schedule`.

    Args:
        schedule: A :class:`Schedule` or a function ``(step, horizon) -> float``.
        name: The parameter's name, for the message.

    Raises:
        InputError: When it is neither.

    >>> as_schedule("Linear", name="shape")
    Traceback (most recent call last):
    lit_lrsched.errors.InputError: shape='Linear' is not a schedule: write Linear(...), say, or a function ...
    """
    if isinstance(schedule, Schedule):
        return schedule
    given: object = schedule
    kind = without_partial(given)
    if isinstance(kind, type) or not callable(given):
        hint = f"{kind.__name__}(...), with its arguments" if isinstance(kind, type) else "Linear(...), say"
        if type(given).__module__.startswith("omegaconf"):
            hint = "_convert_: all beside the _target_ around it, so that Hydra leaves it as it is"
        raise InputError(
            f"{name}={shown(given)} is not a schedule: write {hint}, or a function (step, horizon) -> float"
        )
    return _Function(schedule)


def wraps_function(schedule: Schedule) -> bool:
    """Tells a plain function that :func:`as_schedule` wrapped."""
    return isinstance(schedule, _Function)


def name_of(function: object) -> str:
    """Returns a short name for messages: a function's own, the class's of any other object."""
    function = without_partial(function)
    return getattr(function, "__name__", type(function).__name__)


def factor_at(schedule: Schedule, step: int, horizon: Horizon) -> float:
    """Returns ``schedule(step, horizon)``, refused when it cannot multiply a learning rate.

    Raises:
        InputError: When the schedule fails, or the factor is not a number, not finite or negative.
        NoEpochs: When the schedule calculates with ``steps_per_epoch`` and that is None.
    """
    try:
        factor = schedule(step, horizon)
    except InputError:
        raise
    except Exception as error:
        if horizon.steps_per_epoch is None and "NoneType" in str(error):
            epoch_length(f"{schedule.describe()} ({error})", horizon)
        raise InputError(
            f"{schedule.describe()} fails at step {step} of {horizon.steps} with {described(error)}: "
            "correct it so that it holds at every step"
        ) from error
    value = factor if type(factor) is float else _as_float(factor)
    if not 0.0 <= value < math.inf:
        raise InputError(
            f"{schedule.describe()} returned {shown(factor)} at step {step} of {horizon.steps}: "
            "a factor must be a finite number of at least 0"
        )
    return value


def _as_float(factor: object) -> float:
    """Returns one real number, also a 0-dimensional array or tensor, as a float; anything else as nan."""
    if isinstance(factor, str) or getattr(factor, "ndim", None):
        return math.nan
    try:
        return float(factor)  # type: ignore[arg-type]
    except Exception:  # a foreign type may raise anything
        return math.nan


def table(schedule: ScheduleLike, horizon: Horizon, interval: Interval = "step") -> list[float]:
    """Tabulates a schedule: one factor a tick, without running anything.

    Args:
        schedule: A :class:`Schedule` or a function ``(step, horizon) -> float``.
        horizon: How long training lasts.
        interval: ``"step"``: a tick is an optimizer step. ``"epoch"``: a tick is an epoch, whose factor is the one
            at its first step and is held until the next.

    Returns:
        Factors for ticks 0, 1, ...: ``horizon.steps`` of them, or one for every epoch that training begins.

    Raises:
        InputError: When an argument is of the wrong type, a factor is not finite or is negative, or the schedule does
            not fit the horizon.

    >>> from lit_lrsched.schedules import Linear
    >>> table(Linear(end=0.5), Horizon(4))
    [1.0, 0.875, 0.75, 0.625]
    >>> table(Linear(end=0.5), Horizon(4, steps_per_epoch=2), interval="epoch")
    [1.0, 0.75]
    """
    schedule = as_schedule(schedule)
    check_horizon(horizon)
    return [factor_at(schedule, step, horizon) for step in range(0, horizon.steps, stride_of(interval, horizon))]


def stride_of(interval: Interval, horizon: Horizon) -> int:
    """Returns how many optimizer steps a tick lasts.

    Raises:
        InputError: When the interval is neither ``"step"`` nor ``"epoch"``.
        NoEpochs: When it is ``"epoch"`` and the horizon does not say how long an epoch is.
    """
    check_choice("interval", interval, ("step", "epoch"))
    return 1 if interval == "step" else epoch_length("interval='epoch'", horizon)
