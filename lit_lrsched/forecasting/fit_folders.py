"""The folder that ``fit`` wrote: its log, and the schedule in its configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lit_lrsched.class_paths import from_plain
from lit_lrsched.errors import InputError
from lit_lrsched.forecasting.log_columns import Column, Log, logged_path, read_csv, read_events
from lit_lrsched.forecasting.rate_path import RatePath
from lit_lrsched.forecasting.runs_of_logs import RunOfLog, run_of
from lit_lrsched.forecasting.schedule_paths import path_of
from lit_lrsched.schedules.core import Horizon, NoEpochs, Schedule


def read_fit(folder: Path, loss: str | None) -> RunOfLog:
    """Returns the run in a folder of ``fit``.

    Raises:
        InputError: When there is no log in the folder, or none of the loss or the rate, or its configuration cannot be
            read.
    """
    name = str(folder)
    if (folder / "metrics.csv").exists():
        log = read_csv(folder / "metrics.csv", name)
    elif any(folder.glob("events.out.tfevents.*")):
        log = read_events(folder, name)
    else:
        inside = [*folder.glob("*/metrics.csv"), *folder.glob("*/events.out.tfevents.*")]
        hint = f", like {min(inside).parent}" if inside else ""
        raise InputError(
            f"{name} has neither metrics.csv nor TensorBoard's event files nor a race: give a folder of fit or "
            f"compare{hint}"
        )
    used = log.loss(loss)
    config = _config(folder)
    logged = log.rate()
    per_epoch = _steps_per_epoch(log)
    length = _length(config, log, used, per_epoch)
    try:
        planned = _planned(config, length, per_epoch, logged)
    except NoEpochs:
        planned, why = None, "its schedule counts in epochs, and its log does not say how long they are"
    except InputError as error:
        planned, why = None, str(error)
    else:
        why = f"its {'configuration' if config else 'folder'} has no schedule that is a function of the step"
    # What is logged at step s is the loss of that step, so s + 1 steps are done.
    first = int(logged.steps[logged.known].min())
    if planned is not None and _agrees(planned, logged_path(logged), first):
        read = run_of(log, loss, planned, offset=1)
        late = f"{name}: its log begins at step {first:,}; until there its schedule tells the rates."
        return read._replace(notes=[*([late] if first > 1 else []), *read.notes])
    if planned is not None:
        why = "the logged rates are not those of the schedule in its configuration"
    (rate, *_) = log.rates()
    if rate.startswith("lr/"):
        log = log._replace(columns={**log.columns, rate: _held(logged, length)})
    read = run_of(log, loss, length=length, offset=1)
    return read._replace(notes=[f"{name}: {why}, so the rates are those logged.", *read.notes])


def _config(folder: Path) -> Mapping[str, Any]:
    import yaml  # type: ignore[import-untyped]

    path = folder / "config.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            f"{path} cannot be read as YAML: correct it, or take it away, then the rates are those logged"
        ) from error
    return content if isinstance(content, Mapping) else {}


def _option(config: Mapping[str, Any], name: str) -> Any:
    """Returns an option of the command, or of the model that took it."""
    model = config.get("model")
    given = model.get("init_args") if isinstance(model, Mapping) else None
    return config.get(name) or (given.get(name) if isinstance(given, Mapping) else None)


def _steps_per_epoch(log: Log) -> int | None:
    """Returns how many optimizer steps an epoch has: as it is written, or by the epochs that Lightning logs."""
    if "steps_per_epoch" in log.hyperparameters:
        return int(log.hyperparameters["steps_per_epoch"])
    if "epoch" not in log.columns:
        return None
    steps, epochs = log.columns["epoch"]
    known = np.isfinite(steps) & np.isfinite(epochs)
    # Step s of epoch e is below (e + 1) times the answer; the last step of an epoch is just below.
    return int((steps[known] // (epochs[known] + 1)).max(initial=0)) + 1


def _length(config: Mapping[str, Any], log: Log, used: str, per_epoch: int | None) -> int:
    """Returns how many steps the run was to have: that is the schedule's horizon."""
    logged = log.last_step(used) + 1
    steps, epochs = _limit(config, "max_steps"), _limit(config, "max_epochs")
    limits = [steps] if steps > 0 else []
    limits += [epochs * per_epoch] if epochs > 0 and per_epoch else []
    return max(min(limits, default=logged), logged)


def _limit(config: Mapping[str, Any], name: str) -> int:
    """Returns a limit of the trainer; -1 for none, and for what other tools write there, such as a reference."""
    trainer = config.get("trainer")
    value = trainer.get(name) if isinstance(trainer, Mapping) else None
    return value if isinstance(value, int) else -1


def _planned(config: Mapping[str, Any], length: int, per_epoch: int | None, logged: Column) -> RatePath | None:
    """Returns the rates that the schedule of a configuration gives; None where there is none.

    The base rate is the one that the logged rates have to the factors: the optimizer may be the model's own, and each
    of its param groups may have a rate of its own.
    """
    plain = _option(config, "lr_scheduler")
    if plain is None:
        return None
    schedule = from_plain(plain)
    interval = _option(config, "lr_interval")
    if not isinstance(schedule, Schedule):
        from lit_lrsched.optim.from_torch import FromTorch, follows_metric

        if follows_metric(schedule):
            return None
        schedule = FromTorch(schedule, every="1st" if interval == "step" else "1ep")
        interval = "step"
    if schedule.driven_by_metric:
        return None
    unit = path_of(schedule, Horizon(length, per_epoch), 1.0, interval or "step")
    known = np.isfinite(logged.steps) & np.isfinite(logged.values) & (logged.steps < length)
    factors, rates = unit.rate_at(logged.steps[known]), logged.values[known]
    if not (factors > 0).any():
        return None
    base = float(f"{factors @ rates / (factors @ factors):.6g}")  # TensorBoard keeps 7 digits
    return RatePath(unit.steps, base * unit.rates, unit.length)


def _held(rate: Column, length: int) -> Column:
    """Returns rates with the step before each change, up to which they are held.

    ``fit`` logs a rate when it changes, and in a long run no more often than every thousandth of it.
    """
    steps, values = rate.by_step
    late = np.flatnonzero(np.diff(steps) > math.ceil(length / 1000)) + 1
    return Column(np.append(steps, steps[late] - 1).astype(float), np.append(values, values[late - 1]))


def _agrees(planned: RatePath, logged: RatePath, first: int) -> bool:
    """Tells rates that are those of the schedule, to a hundredth of the peak, where they were logged."""
    inside = logged.steps[(logged.steps >= first) & (logged.steps < planned.length)]
    return bool(np.allclose(planned.rate_at(inside), logged.rate_at(inside), rtol=0, atol=0.01 * planned.peak))
