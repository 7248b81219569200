"""The options that this package adds to LightningCLI's, and their types."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, Optional, Union

import torch
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings
from jsonargparse.typing import register_type
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_lrsched.cli.assumed_class import AssumedClass
from lit_lrsched.cli.comma_lists import CommaLists
from lit_lrsched.cli.jsonargparse_internals import WritesText
from lit_lrsched.cli.lightning_cli_package import LRSchedulerTypeTuple
from lit_lrsched.cli.offered_names import OfferedNames
from lit_lrsched.cli.parse_errors import OneLineErrors
from lit_lrsched.cli.short_names import TorchShortNames
from lit_lrsched.errors import InputError
from lit_lrsched.optim.clock import OnHorizonChange
from lit_lrsched.optim.from_torch import FromTorch  # noqa: F401  # as of load_all
from lit_lrsched.schedules import load_all
from lit_lrsched.schedules.core import Interval, Schedule
from lit_lrsched.trainer.callbacks.start_audit import AuditLevel

# Without this jsonargparse takes a dataclass for one closed type and offers no subclasses.
set_parsing_settings(subclasses_enabled=[Schedule])
# StochasticWeightAveraging has one by default, which a saved configuration could not hold.
register_type(torch.device, fail_already_registered=False)
# Only a class that is loaded can be given by its short name.
load_all()

OptimizerOption = Callable[[Iterable], Optimizer]  # type: ignore[type-arg]  # as jsonargparse knows it
LRSchedulerOption = Union[Schedule, Callable[[Optimizer], LRScheduler], None]
SchedulesOption = Optional[Union[dict[str, LRSchedulerOption], list[LRSchedulerOption]]]


class ScheduleParser(TorchShortNames, OfferedNames, CommaLists, OneLineErrors, WritesText, AssumedClass):
    """Lightning's parser, which takes lists typed with commas and answers a mistake with one line and exit status 2."""

    def add_optimizer_args(
        self, optimizer_class: Any = (Optimizer,), nested_key: str = "optimizer", link_to: str = "AUTOMATIC"
    ) -> None:
        """Adds arguments of an optimizer, under another name than that of the option that is there.

        Raises:
            InputError: When the option has this name, or nothing would use the arguments.
        """
        _check_is_another(nested_key, link_to)
        super().add_optimizer_args(optimizer_class, nested_key, link_to)

    def add_lr_scheduler_args(
        self,
        lr_scheduler_class: Any = LRSchedulerTypeTuple,
        nested_key: str = "lr_scheduler",
        link_to: str = "AUTOMATIC",
    ) -> None:
        """Adds arguments of a scheduler, under another name than that of the option that is there.

        Raises:
            InputError: When the option has this name, or nothing would use the arguments.
        """
        _check_is_another(nested_key, link_to)
        super().add_lr_scheduler_args(lr_scheduler_class, nested_key, link_to)


def _check_is_another(option: str, link_to: str) -> None:
    if option in ("optimizer", "lr_scheduler"):
        raise InputError(
            f"--{option} is there already: leave out add_{option}_args and auto_configure_optimizers=True, and give a "
            f"default by set_defaults({{{option!r}: {{'class_path': ..., 'init_args': {{...}}}}}})"
        )
    if link_to == "AUTOMATIC":  # where LightningCLI would configure the optimizer of the model with them
        raise InputError(f"--{option} would not be used: give link_to, the model's parameter that takes it")


@dataclass(frozen=True)
class ScheduleOptions:
    """The optimizer and the schedule that the command line gives, and how it is used; each None by default."""

    optimizer: Optional[OptimizerOption] = None
    lr_scheduler: LRSchedulerOption = None
    lr_interval: Optional[Interval] = None
    lr_monitor: Optional[str] = None
    lr_groups: Optional[dict[str, Schedule]] = None
    on_horizon_change: Optional[OnHorizonChange] = None

    @classmethod
    def of(cls, config: Namespace) -> ScheduleOptions:
        """Takes them out of a configuration whose classes are instantiated.

        Raises:
            InputError: When the optimizer refuses its arguments.
        """
        options = cls(**{field.name: config.get(field.name) for field in fields(cls)})
        if options.optimizer is not None:
            try:
                options.optimizer([torch.nn.Parameter(torch.zeros(1, 1))])  # of two dimensions: Muon takes no other
            except (ValueError, RuntimeError) as error:  # of torch's, RuntimeError for switches that exclude each other
                reason = str(error).rstrip(".")
                raise InputError(f"optimizer: it refuses its arguments: {reason}: correct them") from error
        return options

    @staticmethod
    def given(config: Namespace) -> dict[str, Any]:
        """Returns those that a configuration gives, as plain values."""
        return {
            field.name: config[field.name] for field in fields(ScheduleOptions) if config.get(field.name) is not None
        }

    def of_schedule(self) -> dict[str, Any]:
        """Returns how the schedule is used, in the words of :class:`~lit_lrsched.ApplySchedule`."""
        names = {field.name: field.name.removeprefix("lr_") for field in fields(self)}
        del names["optimizer"], names["lr_scheduler"]
        return {short: value for name, short in names.items() if (value := getattr(self, name)) is not None}


def add_schedule_arguments(parser: ArgumentParser) -> None:
    """Adds the options of :class:`ScheduleOptions`, ``--audit`` and ``--run_name``."""
    parser.add_argument("--optimizer", type=Optional[OptimizerOption], help="The optimizer: its class and arguments.")
    parser.add_argument(
        "--lr_scheduler",
        type=LRSchedulerOption,
        help="The learning-rate schedule: one of lit_lrsched, or any class of torch.optim.lr_scheduler.",
    )
    parser.add_argument(
        "--lr_interval",
        type=Optional[Interval],
        help="When to step the schedule. Default: 'epoch' for torch's classes, 'step' for lit_lrsched's.",
    )
    parser.add_argument("--lr_monitor", type=Optional[str], help="The metric that a metric-driven schedule follows.")
    parser.add_argument(
        "--lr_groups",
        type=Optional[dict[str, Schedule]],
        help="Schedules for the rest, by what they drive: momentum, weight_decay, or one group's: "
        "--lr_groups.lr/backbone Linear.",
    )
    parser.add_argument(
        "--on_horizon_change",
        type=Optional[OnHorizonChange],
        help="What a resumed run does when its length has changed. Default: 'replan'.",
    )
    parser.add_argument(
        "--audit",
        type=AuditLevel,
        default="error",
        help="What fit does when preview would report a failure: refuse to train (error), warn, or not look (off). "
        "With fast_dev_run there is no audit.",
    )
    parser.add_argument(
        "--run_name",
        type=Optional[str],
        help="What loggers call the run, with a number where it is taken. Default: its schedule and peak rate, such as "
        "lightning_logs/Cosine-0.1; a resumed run keeps its own.",
    )
