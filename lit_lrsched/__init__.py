"""Learning-rate schedules for PyTorch Lightning: see them, put them on any module, prove them, trust them."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from lit_lrsched import schedules

if TYPE_CHECKING:
    from lit_lrsched.cli.schedule_cli import ScheduleCLI as ScheduleCLI
    from lit_lrsched.comparison.race import compare as compare
    from lit_lrsched.csv_data.module import CSVDataModule as CSVDataModule
    from lit_lrsched.errors import InputError as InputError
    from lit_lrsched.forecasting.forecast import forecast as forecast
    from lit_lrsched.forecasting.logged_run import LoggedRun as LoggedRun
    from lit_lrsched.ionosphere.data import IonosphereDataModule as IonosphereDataModule
    from lit_lrsched.ionosphere.model import IonosphereClassifier as IonosphereClassifier
    from lit_lrsched.optim.from_torch import FromTorch as FromTorch
    from lit_lrsched.optim.scheduled_lr import ScheduledLR as ScheduledLR
    from lit_lrsched.plans.preview import preview as preview
    from lit_lrsched.schedules import *  # noqa: F403
    from lit_lrsched.search.find import find_lr as find_lr
    from lit_lrsched.trainer.callbacks.apply_schedule import ApplySchedule as ApplySchedule
    from lit_lrsched.trainer.callbacks.learning_rate_logger import LearningRateLogger as LearningRateLogger
    from lit_lrsched.trainer.callbacks.schedule_report import ScheduleReport as ScheduleReport
    from lit_lrsched.trainer.schedule_config import schedule_config as schedule_config

__version__ = "0.2.0"

# Where each public name lives, besides the schedules. Names resolve on first use (PEP 562), so that importing the
# package costs next to nothing and loads neither torch nor Lightning until a name needs them.
_HOME_OF = {
    **dict.fromkeys(schedules.__all__, "schedules"),
    "ApplySchedule": "trainer.callbacks.apply_schedule",
    "CSVDataModule": "csv_data.module",
    "FromTorch": "optim.from_torch",
    "InputError": "errors",
    "IonosphereClassifier": "ionosphere.model",
    "IonosphereDataModule": "ionosphere.data",
    "LearningRateLogger": "trainer.callbacks.learning_rate_logger",
    "LoggedRun": "forecasting.logged_run",
    "ScheduleCLI": "cli.schedule_cli",
    "ScheduleReport": "trainer.callbacks.schedule_report",
    "ScheduledLR": "optim.scheduled_lr",
    "compare": "comparison.race",
    "find_lr": "search.find",
    "forecast": "forecasting.forecast",
    "preview": "plans.preview",
    "schedule_config": "trainer.schedule_config",
}

# Modules of version 0.1 by whose paths files may name a public class, such as `lit_lrsched.callbacks.ApplySchedule`.
_EARLIER_MODULES = ("callbacks", "configure", "from_torch", "scheduled_lr")

__all__ = [
    "ApplySchedule",
    "CSVDataModule",
    "FromTorch",
    "InputError",
    "IonosphereClassifier",
    "IonosphereDataModule",
    "LearningRateLogger",
    "LoggedRun",
    "ScheduleCLI",
    "ScheduleReport",
    "ScheduledLR",
    "compare",
    "find_lr",
    "forecast",
    "preview",
    "schedule_config",
]
__all__ += schedules.__all__


def __getattr__(name: str) -> object:
    if name in _EARLIER_MODULES:
        return sys.modules[__name__]
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__") and name != "__all__")])
