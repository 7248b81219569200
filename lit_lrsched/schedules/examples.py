"""Every schedule with arguments that show what it does, for pictures and lists."""

from __future__ import annotations

from lit_lrsched.schedules.compose import Chain, Phase, Product, Repeat
from lit_lrsched.schedules.core import Horizon, Schedule
from lit_lrsched.schedules.decays import Cosine, Linear, OneMinusSqrt, Polynomial, Rex
from lit_lrsched.schedules.formula import Formula
from lit_lrsched.schedules.plateau import Plateau
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
    Exponential,
    InverseSqrt,
    InverseTime,
    MultiStep,
    Piecewise,
    Step,
    Triangle,
)

HORIZON = Horizon(1050, steps_per_epoch=10)
LOSS = [1 / (1 + min(epoch, 30)) - 0.002 * (min(epoch, 60) > 55) for epoch in range(100)]  # stalls, recovers, stalls

EXAMPLES: dict[str, Schedule] = {
    "Constant": Constant(),
    "Linear": Linear(),
    "Cosine": Cosine(),
    "Polynomial": Polynomial(power=2.0),
    "OneMinusSqrt": OneMinusSqrt(),
    "Rex": Rex(),
    "Exponential": Exponential(gamma=0.97),
    "InverseTime": InverseTime(alpha=0.1),
    "InverseSqrt": InverseSqrt(every="2ep"),
    "Step": Step(every="20ep", gamma=0.5),
    "MultiStep": MultiStep(["30ep", "60ep", "90ep"], gamma=0.3),
    "Triangle": Triangle(period="25ep", shrink=0.7),
    "Piecewise": Piecewise([("0st", 0.1), ("15%", 1.0), ("50%", 0.6), ("100%", 0.05)]),
    "Formula": Formula("exp(-3 * progress) * (1 + 0.3 * cos(40 * progress)) / 1.3"),
    "Chain": Chain([Phase(Linear(0.1, 1.0), "10ep", "warmup"), Phase(Cosine(1.0, 0.4), "40ep"), Phase(Linear(0.4))]),
    "Product": Product([Cosine(), Step(every="25ep", gamma=0.6)]),
    "Repeat": Repeat(Polynomial(power=2.0), every="20ep", shrink=0.75),
    "Plateau": Plateau(WarmupLinear("10%", end=1.0), factor=0.5, patience=8),
    "WarmupLinear": WarmupLinear(warmup="10%"),
    "WarmupCosine": WarmupCosine(warmup="10%"),
    "WarmupInverseSqrt": WarmupInverseSqrt(warmup="10%"),
    "WarmupStableDecay": WarmupStableDecay(warmup="10%", decay="20%"),
    "OneCycle": OneCycle(),
    "CosineRestarts": CosineRestarts(period="15ep", multiplier=2),
}
