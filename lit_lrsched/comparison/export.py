"""The winning configuration, ready for ``lit-lrsched fit --config``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lit_lrsched.class_paths import import_from, to_plain
from lit_lrsched.comparison.evidence.summary import Summary
from lit_lrsched.comparison.evidence.verdict import verdict
from lit_lrsched.errors import InputError
from lit_lrsched.optim.param_groups import momentum_argument
from lit_lrsched.schedules.core import as_schedule
from lit_lrsched.trainer.schedule_config import is_schedule


def export_best(
    path: Path,
    summary: Summary,
    schedules: Mapping[str, Any],
    optimizer: Callable[..., Any],
    epochs: int,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Writes the schedule with the best mean, at the setting that was chosen for it, as YAML.

    Args:
        path: The file.
        summary: What the race says.
        schedules: The schedules that raced, by name: of this package, functions, or callables that take an optimizer
            and return a torch scheduler.
        optimizer: The optimizer's class, or a ``functools.partial`` of it.
        epochs: How many epochs a run lasted.
        config: The rest of the configuration, as plain values by option: the model, the data, ``lr_interval``, ...

    Raises:
        InputError: When every run diverged, or the schedule is a function that no import path leads to.
    """
    import yaml  # type: ignore[import-untyped]

    if summary.best is None:
        raise InputError("every run diverged, so there is no best configuration to export: lower the peak rates")
    best = summary.schedules[0]
    # Where no momentum raced, the records say 0 for the optimizer's own.
    momentum = best.momentum if any(setting.momentum for setting in summary.settings) else None
    content = {
        **(config or {}),
        "optimizer": _plain_optimizer(optimizer, best.lr, momentum),
        "lr_scheduler": _plain_schedule(schedules[best.schedule]),
        "trainer": {**(config or {}).get("trainer", {}), "max_epochs": epochs},
    }
    comment = "".join(f"# {sentence}\n" for sentence in verdict(summary))
    path.write_text(comment + yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _plain_optimizer(optimizer: Callable[..., Any], lr: float, momentum: float | None) -> dict[str, Any]:
    plain: dict[str, Any] = to_plain(optimizer)
    arguments = {**plain.get("init_args", {}), "lr": lr}
    if momentum is not None:
        parameters = inspect.signature(import_from(plain["class_path"])).parameters
        defaults = {name: parameter.default for name, parameter in parameters.items()}
        arguments.update(momentum_argument({**defaults, **arguments}, momentum))
    return {"class_path": plain["class_path"], "init_args": arguments}


def _plain_schedule(schedule: Any) -> Any:
    # A bare function's path would be taken for a torch scheduler on the command line.
    return to_plain(as_schedule(schedule) if is_schedule(schedule) else schedule)
