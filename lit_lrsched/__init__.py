"""Learning-rate schedules for PyTorch Lightning: see them, put them on any module, prove them, trust them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lit_lrsched.callbacks import ApplySchedule as ApplySchedule
    from lit_lrsched.callbacks import LearningRateLogger as LearningRateLogger
    from lit_lrsched.comparison.race import compare as compare
    from lit_lrsched.configure import schedule_config as schedule_config
    from lit_lrsched.from_torch import FromTorch as FromTorch
    from lit_lrsched.ionosphere import CSVDataModule as CSVDataModule
    from lit_lrsched.ionosphere import IonosphereClassifier as IonosphereClassifier
    from lit_lrsched.ionosphere import IonosphereDataModule as IonosphereDataModule
    from lit_lrsched.scheduled_lr import ScheduledLR as ScheduledLR
    from lit_lrsched.schedules import Chain as Chain
    from lit_lrsched.schedules import Constant as Constant
    from lit_lrsched.schedules import Cosine as Cosine
    from lit_lrsched.schedules import CosineRestarts as CosineRestarts
    from lit_lrsched.schedules import Custom as Custom
    from lit_lrsched.schedules import Exponential as Exponential
    from lit_lrsched.schedules import Formula as Formula
    from lit_lrsched.schedules import Horizon as Horizon
    from lit_lrsched.schedules import InverseSqrt as InverseSqrt
    from lit_lrsched.schedules import InverseTime as InverseTime
    from lit_lrsched.schedules import Linear as Linear
    from lit_lrsched.schedules import MultiStep as MultiStep
    from lit_lrsched.schedules import OneCycle as OneCycle
    from lit_lrsched.schedules import OneMinusSqrt as OneMinusSqrt
    from lit_lrsched.schedules import Phase as Phase
    from lit_lrsched.schedules import Piecewise as Piecewise
    from lit_lrsched.schedules import Plateau as Plateau
    from lit_lrsched.schedules import Polynomial as Polynomial
    from lit_lrsched.schedules import Product as Product
    from lit_lrsched.schedules import Repeat as Repeat
    from lit_lrsched.schedules import Rex as Rex
    from lit_lrsched.schedules import Schedule as Schedule
    from lit_lrsched.schedules import Step as Step
    from lit_lrsched.schedules import Triangle as Triangle
    from lit_lrsched.schedules import WarmupCosine as WarmupCosine
    from lit_lrsched.schedules import WarmupInverseSqrt as WarmupInverseSqrt
    from lit_lrsched.schedules import WarmupLinear as WarmupLinear
    from lit_lrsched.schedules import WarmupStableDecay as WarmupStableDecay
    from lit_lrsched.schedules import table as table

__version__ = "0.1.0"

# Where each public name lives. Names resolve on first use (PEP 562), so that importing the package costs next to
# nothing and loads neither torch nor Lightning until a name needs them.
_HOMES = {
    "lit_lrsched.schedules": (
        "Chain Constant Cosine CosineRestarts Custom Exponential Formula Horizon InverseSqrt InverseTime "
        "Linear MultiStep OneCycle OneMinusSqrt Phase Piecewise Plateau Polynomial Product Repeat Rex "
        "Schedule Step Triangle WarmupCosine WarmupInverseSqrt WarmupLinear WarmupStableDecay table"
    ),
    "lit_lrsched.scheduled_lr": "ScheduledLR",
    "lit_lrsched.from_torch": "FromTorch",
    "lit_lrsched.configure": "schedule_config",
    "lit_lrsched.callbacks": "ApplySchedule LearningRateLogger",
    "lit_lrsched.comparison.race": "compare",
    "lit_lrsched.ionosphere": "CSVDataModule IonosphereClassifier IonosphereDataModule",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
