"""The winning configuration, ready for ``lit-lrsched fit --config``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lit_lrsched.class_paths import import_from, to_plain
from lit_lrsched.comparison.evidence.summary import ScheduleSummary, Summary
from lit_lrsched.comparison.evidence.verdict import verdict
from lit_lrsched.comparison.grid import Grid
from lit_lrsched.comparison.own_schedule import OwnSchedule
from lit_lrsched.comparison.racing_optimizer import RacingOptimizer
from lit_lrsched.errors import InputError
from lit_lrsched.optim.param_groups import momentum_argument
from lit_lrsched.schedules.core import as_schedule
from lit_lrsched.trainer.schedule_config import is_schedule


def export_best(
    path: Path,
    summary: Summary,
    schedules: Mapping[str, Any],
    optimizer: Callable[..., Any] | RacingOptimizer,
    epochs: int,
    config: Mapping[str, Any] | None = None,
    model_at: Callable[[float], dict[str, Any]] | None = None,
) -> None:
    """Writes the schedule with the best mean, at the setting that was chosen for it, as YAML.

    Args:
        path: The file.
        summary: What the race says.
        schedules: The schedules that raced, by name: of this package, functions, callables that take an optimizer
            and return a torch scheduler, or the module's own.
        optimizer: The optimizer that raced, its class, or a ``functools.partial`` of it.
        epochs: How many epochs a run lasted.
        config: The rest of the configuration, as plain values by option: the model, the data, ``lr_interval``, ...
        model_at: Returns the configuration of the model at another rate, where its own schedule races.

    Raises:
        InputError: When every run diverged, the schedule is a function that no import path leads to, or no
            configuration says what won: param groups of a module's optimizer, or its schedule at another rate.
    """
    import yaml  # type: ignore[import-untyped]

    if summary.best is None:
        raise InputError("every run diverged, so there is no best configuration to export: lower the peak rates")
    best = summary.schedules[0]
    content = {
        **(config or {}),
        **_winner(best, summary, schedules[best.schedule], optimizer, model_at),
        "trainer": {**(config or {}).get("trainer", {}), "max_epochs": epochs},
    }
    if isinstance(schedules[best.schedule], OwnSchedule):
        content = without_schedule_options(content)
    comment = "".join(f"# {sentence}\n" for sentence in verdict(summary))
    path.write_text(comment + yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def options_of(grid: Grid) -> dict[str, Any]:
    """Returns the options of ``fit`` that a race had besides its optimizer and schedules, as plain values."""
    groups = {name: to_plain(as_schedule(schedule)) for name, schedule in (grid.groups or {}).items()}
    options = {"lr_interval": grid.interval, "lr_monitor": grid.monitor, "lr_groups": groups or None}
    return {
        "trainer": grid.regime.options(),
        **{name: value for name, value in options.items() if value is not None},
    }


def without_schedule_options(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a configuration without the options that ``fit`` refuses where no ``lr_scheduler`` is given."""
    return {name: value for name, value in content.items() if name not in ("lr_interval", "lr_monitor", "lr_groups")}


def _winner(
    best: ScheduleSummary,
    summary: Summary,
    schedule: Any,
    optimizer: Callable[..., Any] | RacingOptimizer,
    model_at: Callable[[float], dict[str, Any]] | None,
) -> dict[str, Any]:
    """Returns optimizer and schedule of the winner; nothing for what the module does by itself."""
    momenta = {setting.momentum for setting in summary.settings}
    decays = {setting.weight_decay for setting in summary.settings}
    if isinstance(optimizer, RacingOptimizer):
        # Where no momentum or weight decay raced, the records name the optimizer's own.
        momentum = None if momenta == {optimizer.momentum} else best.momentum
        decay = None if decays == {optimizer.weight_decay} else best.weight_decay
        if isinstance(schedule, OwnSchedule):
            if (momentum, decay) != (None, None):
                raise InputError(
                    f"the best is {optimizer.module}'s own schedule at another momentum or weight decay, which no "
                    "configuration says, so there is nothing to export: set them in configure_optimizers"
                )
            if best.lr == optimizer.lr:
                return {}
            assert model_at is not None
            return {"model": model_at(best.lr)}
        plain = plain_racing(optimizer, best.lr, momentum, decay)
    else:
        plain = plain_optimizer(optimizer, best.lr, best.momentum if any(momenta) else None)
    return {"optimizer": plain, "lr_scheduler": plain_schedule(schedule)}


def plain_racing(
    optimizer: RacingOptimizer, lr: float, momentum: float | None = None, weight_decay: float | None = None
) -> dict[str, Any]:
    """Returns the optimizer of a race as ``--optimizer`` takes it, at a rate of the first group; None leaves a value.

    Raises:
        InputError: When no arguments set up the param groups of the module's own.
    """
    if optimizer.make is not None and not optimizer.keeps_groups:
        return plain_optimizer(optimizer.make, lr, momentum, weight_decay)
    arguments = optimizer.written(lr, momentum, weight_decay)
    return {"class_path": to_plain(optimizer.func)["class_path"], "init_args": arguments}


def plain_optimizer(
    optimizer: Callable[..., Any], lr: float, momentum: float | None = None, weight_decay: float | None = None
) -> dict[str, Any]:
    """Returns an optimizer as ``--optimizer`` takes it, at a rate, and at a momentum and a weight decay if given."""
    plain: dict[str, Any] = to_plain(optimizer)
    arguments = {**plain.get("init_args", {}), "lr": lr}
    if momentum is not None:
        parameters = inspect.signature(import_from(plain["class_path"])).parameters
        defaults = {name: parameter.default for name, parameter in parameters.items()}
        arguments.update(momentum_argument({**defaults, **arguments}, momentum))
    if weight_decay is not None:
        arguments["weight_decay"] = weight_decay
    return {"class_path": plain["class_path"], "init_args": arguments}


def plain_schedule(schedule: Any) -> Any:
    """Returns a schedule as ``--lr_scheduler`` takes it."""
    # A bare function's path would be taken for a torch scheduler on the command line.
    return to_plain(as_schedule(schedule) if is_schedule(schedule) else schedule)
