"""The winning configuration, ready for ``lit-lrsched fit --config``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lit_lrsched.class_paths import to_plain
from lit_lrsched.comparison.evidence.summary import ScheduleSummary, Summary
from lit_lrsched.comparison.evidence.verdict import verdict
from lit_lrsched.comparison.grid import Grid
from lit_lrsched.comparison.own_schedule import OwnSchedule
from lit_lrsched.comparison.racing_optimizer import RacingOptimizer
from lit_lrsched.comparison.rate_arguments import Remake, model_at
from lit_lrsched.errors import InputError
from lit_lrsched.optim.param_groups import momentum_argument
from lit_lrsched.schedules.core import as_schedule
from lit_lrsched.trainer.schedule_config import is_schedule


def export_best(
    path: Path, summary: Summary, grid: Grid, epochs: int, config: Mapping[str, Any], remake: Remake
) -> None:
    """Writes the schedule with the best mean, at the setting that was chosen for it, as YAML.

    Args:
        path: The file.
        summary: What the race says.
        grid: What raced.
        epochs: How many epochs a run lasted.
        config: The rest of the configuration, as plain values by option: the model, the data, ...
        remake: Makes the module anew, other arguments given.

    Raises:
        InputError: When every run diverged, the schedule is a function that no import path leads to, or no
            configuration says what won: param groups of a module's optimizer, or its schedule at another rate.
    """
    if summary.best is None:
        raise InputError("every run diverged, so there is no best configuration to export: lower the peak rates")
    best, options = summary.schedules[0], options_of(grid)
    trainer = {**options.pop("trainer"), **config.get("trainer", {}), "max_epochs": epochs}
    content = {**config, **options, **_winner(best, grid, epochs, config, remake), "trainer": trainer}
    if isinstance(grid.schedules[best.schedule], OwnSchedule):
        content = without_schedule_options(content)
    write(path, content, verdict(summary))


def write(path: Path, content: Mapping[str, Any], comments: Iterable[str]) -> None:
    """Writes a configuration as YAML, below comments of a line each."""
    import yaml  # type: ignore[import-untyped]

    text = "".join(f"# {sentence}\n" for sentence in comments)
    path.write_text(text + yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True), encoding="utf-8")


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
    best: ScheduleSummary, grid: Grid, epochs: int, config: Mapping[str, Any], remake: Remake
) -> dict[str, Any]:
    """Returns optimizer and schedule of the winner; nothing for what the module does by itself."""
    own, schedule = grid.optimizer, grid.schedules[best.schedule]
    momentum, decay = grid.axes(best.momentum, best.weight_decay)
    if not isinstance(schedule, OwnSchedule):
        return {"optimizer": plain_racing(own, best.lr, momentum, decay), "lr_scheduler": plain_schedule(schedule)}
    if (momentum, decay) != (None, None):
        raise InputError(
            f"the best is {own.module}'s own schedule at another momentum or weight decay, which no configuration "
            "says, so there is nothing to export: set them in configure_optimizers"
        )
    if best.lr == own.lr:
        return {}
    return {"model": model_at(config, best.lr, own, remake, regime=grid.regime, epochs=epochs)}


def plain_racing(
    optimizer: RacingOptimizer, lr: float, momentum: float | None = None, weight_decay: float | None = None
) -> dict[str, Any]:
    """Returns the optimizer of a race as ``--optimizer`` takes it, at a rate of the first group; None leaves a value.

    Raises:
        InputError: When no arguments set up the param groups of the module's own.
    """
    if optimizer.keeps_groups:
        arguments = optimizer.written(lr, momentum, weight_decay)
        return {"class_path": to_plain(optimizer.func)["class_path"], "init_args": arguments}
    plain: dict[str, Any] = to_plain(optimizer.make)
    arguments = {**plain.get("init_args", {}), "lr": lr}
    if momentum is not None:
        arguments.update(momentum_argument({**optimizer.defaults, **arguments}, momentum))
    if weight_decay is not None:
        arguments["weight_decay"] = weight_decay
    return {"class_path": plain["class_path"], "init_args": arguments}


def plain_schedule(schedule: Any) -> Any:
    """Returns a schedule as ``--lr_scheduler`` takes it."""
    # A bare function's path would be taken for a torch scheduler on the command line.
    return to_plain(as_schedule(schedule) if is_schedule(schedule) else schedule)
