"""``lit-lrsched preview`` with the horizon given by hand: loads no Lightning, and torch only for a torch scheduler."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

from jsonargparse import Namespace, set_parsing_settings

from lit_lrsched.cli.config_file import ConfigFile
from lit_lrsched.cli.json_document import check_typed, print_json
from lit_lrsched.cli.quick_parser import QuickParser
from lit_lrsched.errors import InputError
from lit_lrsched.plans.audit import Finding
from lit_lrsched.plans.metric_file import recorded
from lit_lrsched.plans.picture import look_of
from lit_lrsched.plans.plan import Plan, plan_of
from lit_lrsched.plans.preview import Preview, by_name, show
from lit_lrsched.plans.theory import theory
from lit_lrsched.plans.view import View
from lit_lrsched.schedules import load_all
from lit_lrsched.schedules.checks import check_positive
from lit_lrsched.schedules.core import Horizon, Interval, Schedule, name_of
from lit_lrsched.schedules.plateau import Plateau, following

# What else `fit` takes: ignored once the horizon is given.
_OF_THE_RUN = (
    "trainer",
    "model",
    "data",
    "optimizer",
    "on_horizon_change",
    "audit",
    "run_name",
    "seed_everything",
    "lr_logger",
    "ckpt_path",
    "weights_only",
    "test",
)

# What of that has the base rate: it counts. A typed optimizer takes the place of a file's, its arguments included.
_WITH_RATE = {"optimizer": "typed_optimizer", "optimizer.lr": "lr", "optimizer.init_args.lr": "lr"}


def run() -> None:
    """Runs the command with the arguments of the process.

    Raises:
        InputError: For a mistake that shows after parsing, such as a file that cannot be read.
    """
    set_parsing_settings(subclasses_enabled=[Schedule])
    load_all()
    arguments = _of_the_schedule(sys.argv[2:])
    config = _parsed(arguments)
    if config.lr_scheduler is None and not config.schedules:
        config = _parsed([*arguments, *_of_the_model(config.model)])
    check_typed(config.json)
    sys.exit(_show(config))


def _parsed(arguments: list[str]) -> Namespace:
    try:
        return _parser(Optional[Schedule], exit_on_error=False).options(arguments)
    except Exception:  # a torch scheduler, or a mistake, which the full parser tells best
        full = _parser(_any_schedule(), exit_on_error=True, kind=_kind_with_torch())
    return full.options(arguments)


def _kind_with_torch() -> type[QuickParser]:
    from lit_lrsched.cli.short_names import TorchShortNames

    class ParserWithTorch(TorchShortNames, QuickParser):
        """Takes short names of torch's schedulers for torch's."""

    return ParserWithTorch


def _of_the_model(model: Any) -> list[str]:
    """Returns as options what a configuration says to the model alone, as one saved by ``fit`` does."""
    given = model.get("init_args") if isinstance(model, Mapping) else None
    given = given if isinstance(given, Mapping) else {}
    options = {name: given[name] for name in ("optimizer", "lr_scheduler", "lr_interval") if given.get(name)}
    return [f"--{name}={json.dumps(value)}" for name, value in options.items()]


def _of_the_schedule(arguments: list[str]) -> list[str]:
    """Leaves out the options of ``fit`` that do not matter, and their values."""
    kept: list[str] = []
    skipped = False
    for argument in arguments:
        if argument.startswith("-c"):
            skipped = False
        elif argument.startswith("--"):
            option = argument[2:].partition("=")[0]
            skipped = option.partition(".")[0].rstrip("+") in _OF_THE_RUN and option not in _WITH_RATE
            argument = f"--{_WITH_RATE.get(option, option)}{argument[2 + len(option) :]}"
        if not skipped:
            kept.append(argument)
    return kept


def _any_schedule() -> Any:
    from collections.abc import Callable

    import torch
    from jsonargparse import register_unresolvable_import_paths
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from lit_lrsched.optim.from_torch import FromTorch  # noqa: F401  (only a class that is loaded can be given by its short name)

    register_unresolvable_import_paths(torch)
    return Union[Schedule, Callable[[Optimizer], LRScheduler], None]


def _parser(schedule: Any, exit_on_error: bool, kind: type[QuickParser] = QuickParser) -> QuickParser:
    parser = kind(prog="lit-lrsched preview", exit_on_error=exit_on_error)
    parser.add_argument("-c", "--config", action=ConfigFile)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--steps_per_epoch", type=int)
    parser.add_argument("--lr", type=Optional[float])
    parser.add_argument("--typed_optimizer", type=Union[str, dict, None])
    parser.add_argument("--lr_scheduler", type=schedule)
    parser.add_argument("--lr_groups", type=Optional[dict[str, Schedule]])
    parser.add_argument("--lr_interval", type=Optional[Interval])
    parser.add_argument("--lr_monitor", type=Optional[str])
    parser.add_argument("--schedules", type=Optional[Union[dict[str, schedule], list[schedule]]])
    parser.add_argument("--metric", type=Optional[str])
    parser.add_argument("--png", type=Optional[str], default="preview.png")
    parser.add_argument("--csv", type=Optional[str])
    for flag in ("theory", "log", "json"):
        parser.add_argument(f"--{flag}", type=bool, nargs="?", const=True, default=False)
    parser.add_argument("--title", type=Optional[str])
    parser.add_argument("--size", type=Optional[list[float]])
    for option in _OF_THE_RUN:  # in a YAML file made for `fit`; as plain values, so that no class is loaded
        parser.add_argument(f"--{option}", type=Union[bool, int, float, str, dict, None])
    return parser


def _show(config: Namespace) -> int:
    horizon = _horizon(config.epochs, config.steps_per_epoch)
    schedules = by_name(config.schedules) if config.schedules else {"": config.lr_scheduler}
    if None in schedules.values():
        raise InputError("there is no schedule to preview: give --lr_scheduler, such as --lr_scheduler Cosine")
    lr = config.lr if config.lr is not None else _lr_of(config.typed_optimizer or config.optimizer)
    if lr is not None:
        check_positive("lr", lr, example=0.1)
    monitors = {config.lr_monitor or name for name in map(_followed, schedules.values()) if name}
    metric = recorded(config.metric, monitors)
    views, refused = {}, []
    for name, schedule in schedules.items():
        try:
            views[name] = View.of(_plan(schedule, horizon, lr, metric, config))
        except InputError as error:
            refused.append(Finding("failure", f"{name}: {error}" if name else str(error)))
    shown = Preview(views, refused, theory(views) if config.theory and views else None)
    status = show(shown, config.png, config.csv, look_of(config.title, config.log, config.size))
    if config.json:
        print_json(shown.as_dict())
    return status


def _horizon(epochs: int, steps_per_epoch: int) -> Horizon:
    for name, value in {"epochs": epochs, "steps_per_epoch": steps_per_epoch}.items():
        if value < 1:
            raise InputError(f"{name}={value} has to be at least 1")
    return Horizon(epochs * steps_per_epoch, steps_per_epoch)


def _lr_of(optimizer: Any) -> float | None:
    arguments = optimizer.get("init_args") if isinstance(optimizer, Mapping) else None
    rate = arguments.get("lr") if isinstance(arguments, Mapping) else None
    return rate if isinstance(rate, (int, float)) else None


def _followed(schedule: Any) -> str | None:
    """Returns the name of the metric that a schedule follows, if it follows one: torch's knows no name."""
    if isinstance(schedule, Schedule):
        return schedule.monitor if isinstance(schedule, Plateau) else None
    from lit_lrsched.optim.from_torch import follows_metric

    return "metric" if follows_metric(schedule) else None


def _plan(schedule: Any, horizon: Horizon, lr: float | None, metric: Sequence[float], config: Namespace) -> Plan:
    if isinstance(schedule, Schedule):
        schedule = following(schedule, config.lr_monitor)
        return plan_of(schedule, horizon, config.lr_interval or "step", lr, config.lr_groups, metric)
    if config.lr_groups:
        raise InputError(f"groups go with lit_lrsched's schedules: wrap it, FromTorch({name_of(schedule)!r})")
    from lit_lrsched.optim.run_plan import plan_of_torch

    return plan_of_torch(schedule, horizon, config.lr_interval or "epoch", lr, metric, config.lr_monitor)
