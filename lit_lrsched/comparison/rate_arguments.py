"""The arguments of a module that set its learning rates: found by their names, and tried out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any, Union

import numpy as np

from lit_lrsched.class_paths import from_plain
from lit_lrsched.comparison.builds import untouched
from lit_lrsched.comparison.engine.regime import Regime
from lit_lrsched.comparison.engine.setting_up import Build
from lit_lrsched.comparison.engine.training import FloatArray
from lit_lrsched.comparison.own_optimizer import ask_with_schedule
from lit_lrsched.comparison.racing_optimizer import RacingOptimizer
from lit_lrsched.errors import InputError
from lit_lrsched.trainer.lightning_package import LightningDataModule, LightningModule

Place = tuple[Union[str, int], ...]
"""Where a value stands among nested arguments: ``("optim", "lr")``."""

Remake = Callable[[Mapping[str, Any], Callable[[Any], None]], tuple[LightningModule, LightningDataModule]]
"""Makes module and data from a configuration, after something has changed what it says of the model."""

_RATES = frozenset(["lr", "lrs", "rate", "rates", "eta"])
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_NEARLY = 0.01  # of the peak; a floor that does not follow, like eta_min=1e-6, is less


def remake_from(build: Build) -> Remake:
    """Returns what makes the module that a configuration names, with the data of a race or a search."""

    def remake(config: Mapping[str, Any], change: Callable[[Any], None]) -> tuple[LightningModule, LightningDataModule]:
        model = deepcopy(dict(config["model"]))
        change(model)
        return from_plain(model)(), build(0)[1]

    return remake


def model_at(
    config: Mapping[str, Any],
    lr: float,
    own: RacingOptimizer,
    remake: Remake,
    *,
    regime: Regime,
    epochs: int,
    steps: int | None = None,
) -> dict[str, Any]:
    """Returns the configuration of a model whose optimizer and schedule are its own, at another rate.

    Args:
        config: The configuration.
        lr: The rate of the first param group, to which all other rates keep their ratio at every step.
        own: The optimizer and the schedule.
        remake: Makes the model anew.
        regime: Which batches train, and how their gradients make steps.
        epochs: Epochs of a run.
        steps: Optimizer steps of a run, where it ends within the last of its epochs.

    Raises:
        InputError: When no arguments set all rates.
    """

    def multiply(model: Any, places: Iterable[Place], factor: float) -> None:
        for place in places:
            held = _arguments_in(model)
            for key in place[:-1]:
                held = held[key]
            held[place[-1]] = float(f"{values[place] * factor:.12g}")  # 0.3 rather than 0.30000000000000004

    def rates(*places: Place) -> FloatArray | None:
        """Returns the rates at each step, ``[steps, groups]``, with some arguments doubled; None where that fails."""
        try:
            with untouched():
                module, data = remake(config, lambda model: multiply(model, places, 2.0))
                schedule = ask_with_schedule(module, data, regime, epochs, steps).schedule
        except Exception:  # an argument that bears no other value is none that is looked for
            return None
        return schedule.rates if schedule is not None and schedule.rates.shape == before.shape else None

    assert own.schedule is not None
    before = own.schedule.rates
    model: dict[str, Any] = deepcopy(dict(config.get("model") or {}))
    values = dict(_learning_rates(_arguments_in(model)))
    found = {place: rates(place) for place in values}
    chosen = next(([place] for place, after in found.items() if _is_twice(after, before)), None)
    if chosen is None:
        chosen = [place for place, after in found.items() if _rises(after, before)]
        if len(chosen) < 2 or not _is_twice(rates(*chosen), before):
            raise InputError(
                f"{own.module} sets the rate {own.lr:g} and a schedule of its own in configure_optimizers, and "
                f"{_why_not(model, values)}"
            )
    multiply(model, chosen, lr / own.lr)
    return model


def _why_not(model: Any, values: Mapping[Place, float]) -> str:
    if not model:
        return (
            "config does not say how it is made, so there is nothing to export: give "
            "config={'model': {'class_path': ..., 'init_args': {...}}}"
        )
    names = ", ".join(".".join(map(str, place)) for place in values)
    tried = f"{names} does not set them all in proportion" if names else "none of its arguments is a learning rate"
    return f"{tried}, so there is nothing to export: give it an argument lr that sets them"


def _arguments_in(model: Any) -> Any:
    return model.get("init_args", model)


def _learning_rates(value: Any, place: Place = ()) -> Iterator[tuple[Place, float]]:
    """Yields numbers above 0 that stand under the name of a learning rate."""
    if isinstance(value, (Mapping, list)):
        for key, held in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _learning_rates(held, (*place, key))
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
        words = {word.lower() for name in place for word in _WORD.findall(str(name))}
        if words & _RATES:
            yield place, value


def _is_twice(after: FloatArray | None, before: FloatArray) -> bool:
    return after is not None and bool((abs(after - 2 * before) <= _NEARLY * 2 * before.max(axis=0)).all())


def _rises(after: FloatArray | None, before: FloatArray) -> bool:
    """Tells whether rates rise, each at most to twice its value."""
    if after is None or np.array_equal(after, before):
        return False
    slack = 1e-9 * before.max()
    return bool(((after >= before - slack) & (after <= 2 * before + slack)).all())
