"""The folder that ``fit`` wrote: its log, and the schedule in its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lit_lrsched.class_paths import from_plain
from lit_lrsched.errors import InputError
from lit_lrsched.forecasting.log_columns import Log, logged_path, read_csv, read_events, run_from
from lit_lrsched.forecasting.logged_run import LoggedRun
from lit_lrsched.forecasting.rate_path import RatePath
from lit_lrsched.forecasting.schedule_paths import path_of
from lit_lrsched.schedules.core import Horizon, Schedule


def read_fit(folder: Path, loss: str | None) -> tuple[LoggedRun, str, str | None]:
    """Returns the run in a folder of ``fit``, the name of its loss, and what has to be said of it.

    Raises:
        InputError: When there is no log in the folder, or none of the loss or the rate.
    """
    name = str(folder)
    if (folder / "metrics.csv").exists():
        log = read_csv(folder / "metrics.csv", name)
    elif any(folder.glob("events.out.tfevents.*")):
        log = read_events(folder, name)
    else:
        raise InputError(
            f"{name} has neither metrics.csv nor TensorBoard's event files nor a race: give a folder of fit or compare"
        )
    used = log.loss(loss)
    config = _config(folder)
    logged = log.rate()
    per_epoch = _steps_per_epoch(log, used)
    length = _length(config, log, used, per_epoch)
    try:
        planned = _planned(config, length, per_epoch)
    except InputError as error:
        planned, why = None, str(error)
    else:
        why = "its configuration has no schedule"
    if planned is not None and _agrees(planned, logged_path(logged)):
        return (*run_from(log, used, planned, offset=1), None)
    if planned is not None:
        why = "the logged rates are not those of the schedule in its configuration"
    # What is logged at step s is the loss of that step, so s + 1 steps are done.
    note = f"{name}: {why}, so the rates are those logged, interpolated."
    return (*run_from(log, used, logged_path(logged, length), offset=1), note)


def _config(folder: Path) -> Mapping[str, Any]:
    import yaml  # type: ignore[import-untyped]

    path = folder / "config.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
    return content if isinstance(content, Mapping) else {}


def _option(config: Mapping[str, Any], name: str) -> Any:
    """Returns an option of the command, or of the model that took it."""
    model = config.get("model")
    given = model.get("init_args") if isinstance(model, Mapping) else None
    return config.get(name) or (given.get(name) if isinstance(given, Mapping) else None)


def _steps_per_epoch(log: Log, used: str) -> int | None:
    """Returns how many optimizer steps an epoch has, by the rates that are logged when each begins."""
    begun = np.unique(log.rate().steps)
    if len(begun) > 1:
        return int(begun[1] - begun[0]) or None
    steps = log.columns[used].steps
    return int(steps[0]) + 1 if len(steps) else None


def _length(config: Mapping[str, Any], log: Log, used: str, per_epoch: int | None) -> int:
    """Returns how many steps the run was to have: that is the schedule's horizon."""
    logged = int(max(np.nanmax(log.columns[used].steps), np.nanmax(log.rate().steps))) + 1
    trainer = config.get("trainer") or {}
    steps, epochs = trainer.get("max_steps") or -1, trainer.get("max_epochs") or -1
    limits = [steps] if steps > 0 else []
    limits += [epochs * per_epoch] if epochs > 0 and per_epoch else []
    return max(min(limits, default=logged), logged)


def _planned(config: Mapping[str, Any], length: int, per_epoch: int | None) -> RatePath | None:
    """Returns the rates that the schedule of a configuration gives; None where there is no schedule or no rate."""
    plain, optimizer = _option(config, "lr_scheduler"), _option(config, "optimizer")
    rate = (optimizer.get("init_args") or {}).get("lr") if isinstance(optimizer, Mapping) else None
    if plain is None or not isinstance(rate, (int, float)):
        return None
    schedule = from_plain(plain)
    interval = config.get("lr_interval") or _option(config, "lr_interval")
    if not isinstance(schedule, Schedule):
        from lit_lrsched.optim.from_torch import FromTorch

        schedule = FromTorch(schedule, every="1st" if interval == "step" else "1ep")
        interval = "step"
    if schedule.driven_by_metric:
        return None
    return path_of(schedule, Horizon(length, per_epoch), float(rate), interval or "step")


def _agrees(planned: RatePath, logged: RatePath) -> bool:
    """Tells rates that are those of the schedule, to a hundredth of the peak, where they were logged."""
    inside = logged.steps[logged.steps < planned.length]
    return bool(np.allclose(planned.rate_at(inside), logged.rate_at(inside), rtol=0, atol=0.01 * planned.peak))
