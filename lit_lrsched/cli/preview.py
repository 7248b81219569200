"""The subcommand ``preview``: the learning rate that ``fit`` would use."""

from __future__ import annotations

import sys
from typing import Any, Optional

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from lit_lrsched.cli.arguments import ScheduleOptions, SchedulesOption
from lit_lrsched.errors import InputError
from lit_lrsched.plans.audit import Finding
from lit_lrsched.plans.preview import by_name, show
from lit_lrsched.plans.view import View
from lit_lrsched.trainer.fit_plan import DoesNotFit, configure, plans_of, view_fit

SUMMARY = "Show the learning rate that fit would use, without training."
GIVEN = ("trainer", "model", "datamodule", "options")  # by the command, not by options


def preview(
    trainer: Trainer,
    model: LightningModule,
    datamodule: Optional[LightningDataModule],
    options: ScheduleOptions,
    *,
    schedules: SchedulesOption = None,
    metric: Optional[str] = None,
    png: Optional[str] = "preview.png",
    csv: Optional[str] = None,
    epochs: Optional[int] = None,
    steps_per_epoch: Optional[int] = None,
    lr: Optional[float] = None,
    **of_fit: Any,
) -> None:
    """Shows the learning rate that ``fit`` would use with the same options: a table, a picture and warnings.

    Nothing is trained. Exits with status 1 when it finds a failure.

    Args:
        trainer: The trainer that would train.
        model: The module to train.
        datamodule: The data to train it on.
        options: The schedule options of the command line.
        schedules: Schedules to set side by side in place of the module's own, by name or as a list.
        metric: File with a recorded metric for a metric-driven schedule to follow: one number a line, or a CSV
            with a column of the metric's name.
        png: File for the picture.
        csv: File for every tick of the schedule.
        epochs: With steps_per_epoch: previews the schedule alone, at once, without model and data.
        steps_per_epoch: Optimizer steps in an epoch.
        lr: The base learning rate for that. By default factors are shown.
        of_fit: What else ``fit`` takes.

    Raises:
        InputError: When a file cannot be read or written.
    """
    if epochs or steps_per_epoch:
        raise InputError("epochs and steps_per_epoch belong together: give both as options of the command")
    views: dict[str, View] = {}
    refused: list[Finding] = []
    try:
        run = configure(trainer, model, datamodule, of_fit.get("ckpt_path"), of_fit.get("weights_only"))
        if schedules:
            plans, refused = plans_of(
                trainer, run, by_name(schedules), interval=options.lr_interval, monitor=options.lr_monitor
            )
            views = {name: View.of(plan) for name, plan in plans.items()}
        else:
            views[""] = view_fit(trainer, run, metric)
    except DoesNotFit as error:
        refused.append(Finding("failure", str(error)))
    if status := show(views, refused, png, csv):
        sys.exit(status)
