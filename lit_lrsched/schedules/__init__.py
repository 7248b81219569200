"""Learning-rate schedules as pure functions of the step. Needs the standard library alone."""

from lit_lrsched.schedules.compose import Chain, Phase, Product, Repeat, companions, spans
from lit_lrsched.schedules.core import Duration, Horizon, Interval, Schedule, ScheduleLike, Span, table
from lit_lrsched.schedules.custom import Custom
from lit_lrsched.schedules.formula import Formula
from lit_lrsched.schedules.plateau import Plateau, PlateauState
from lit_lrsched.schedules.recipes import (
    CosineRestarts,
    OneCycle,
    WarmupCosine,
    WarmupInverseSqrt,
    WarmupLinear,
    WarmupStableDecay,
)
from lit_lrsched.schedules.shapes import (
    Constant,
    Cosine,
    Exponential,
    InverseSqrt,
    InverseTime,
    Linear,
    MultiStep,
    OneMinusSqrt,
    Piecewise,
    Polynomial,
    Rex,
    Step,
    Triangle,
)

__all__ = [
    "Chain",
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Custom",
    "Duration",
    "Exponential",
    "Formula",
    "Horizon",
    "Interval",
    "InverseSqrt",
    "InverseTime",
    "Linear",
    "MultiStep",
    "OneCycle",
    "OneMinusSqrt",
    "Phase",
    "Piecewise",
    "Plateau",
    "PlateauState",
    "Polynomial",
    "Product",
    "Repeat",
    "Rex",
    "Schedule",
    "ScheduleLike",
    "Span",
    "Step",
    "Triangle",
    "WarmupCosine",
    "WarmupInverseSqrt",
    "WarmupLinear",
    "WarmupStableDecay",
    "companions",
    "spans",
    "table",
]
