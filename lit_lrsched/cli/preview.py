"""The subcommand ``preview``: the learning rate that ``fit`` would use."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Optional

from jsonargparse import ArgumentParser

from lit_lrsched.cli.arguments import ScheduleOptions, SchedulesOption
from lit_lrsched.cli.json_document import add_json, print_json
from lit_lrsched.errors import InputError
from lit_lrsched.optim.param_groups import decoupled_decay_of
from lit_lrsched.plans.audit import Finding
from lit_lrsched.plans.picture import look_of
from lit_lrsched.plans.preview import Preview, by_name, show
from lit_lrsched.plans.theory import theory as of_plans
from lit_lrsched.plans.view import View
from lit_lrsched.trainer.fit_plan import Configured, DoesNotFit, configure, plans_of, view_fit
from lit_lrsched.trainer.lightning_package import LightningDataModule, LightningModule, Trainer

SUMMARY = "Show the learning rate that fit would use, without training."


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
    theory: bool = False,
    log: bool = False,
    title: Optional[str] = None,
    size: Optional[list[float]] = None,
    json: bool = False,
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
        metric: A run's folder, or a file with a recorded metric for a metric-driven schedule to follow: one number a
            line, or a CSV with a column of the metric's name.
        png: File for the picture: PNG, PDF or SVG, as its name ends.
        csv: File for every tick of the schedule.
        epochs: With steps_per_epoch: previews the schedule alone, at once, without model and data.
        steps_per_epoch: Optimizer steps in an epoch.
        lr: The base learning rate for that. By default factors are shown.
        theory: Whether to add what theory says without training: best peak, bound, which updates the weights keep.
        log: Whether the picture has a logarithmic scale.
        title: The picture's title; empty for none. Default: the names of the schedules.
        size: Width and height of the picture in inches.
        json: Prints the answer as one JSON document, and everything else on standard error.
        of_fit: What else ``fit`` takes.

    Raises:
        InputError: When a file cannot be read or written.
    """
    if epochs or steps_per_epoch:
        raise InputError("epochs and steps_per_epoch are for lit-lrsched preview, typed both: give both there, or none")
    views: dict[str, View] = {}
    refused: list[Finding] = []
    try:
        run = configure(trainer, model, datamodule, of_fit.get("ckpt_path"), of_fit.get("weights_only"))
        if schedules:
            plans, refused = plans_of(trainer, run, by_name(schedules), metric, **options.of_schedule())
            views = {name: View.of(plan) for name, plan in plans.items()}
        else:
            views[""] = view_fit(trainer, run, metric)
    except DoesNotFit as error:
        refused.append(Finding("failure", str(error)))
    in_theory = of_plans(views, _decay(run, views)) if theory and views else None
    shown = Preview(views, refused, in_theory)
    status = show(shown, png, csv, look_of(title, log, size))
    if json and trainer.is_global_zero:
        print_json(shown.as_dict())
    if status:
        sys.exit(status)


def add_arguments(parser: ArgumentParser) -> list[str]:
    """Adds the options of :func:`preview` to a parser, and returns their names."""
    given = {"trainer", "model", "datamodule", "options"}  # by the command, not by options
    added: list[str] = parser.add_function_arguments(preview, skip={*given, "theory", "log", "json"})
    about = {
        "theory": "Adds what theory says without training: best peak, bound, and which updates the weights keep.",
        "log": "Draws the picture on a logarithmic scale.",
    }
    for name, text in about.items():
        parser.add_argument(f"--{name}", type=bool, nargs="?", const=True, default=False, help=text)
    add_json(parser)
    return [*added, *about, "json"]


def _decay(run: Configured, views: Mapping[str, View]) -> float | None:
    """Returns the weight decay, where it is constant and acts on the weights themselves."""
    is_scheduled = any(name.startswith("weight_decay") for view in views.values() for name in view.curve.values)
    return None if is_scheduled or not run.optimizers else decoupled_decay_of(run.optimizers[0])
