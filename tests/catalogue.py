"""One schedule of every class, and some nestings: valid on any horizon from 20 steps, with 4 to 11 steps an epoch."""

from lit_lrsched.schedules.compose import Chain, Phase, Product, Repeat
from lit_lrsched.schedules.core import Schedule
from lit_lrsched.schedules.custom import Custom, halve_every_epoch
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

CATALOGUE: dict[str, Schedule] = {
    "Constant": Constant(0.5),
    "Linear": Linear(end=0.1),
    "Linear over": Linear(start=0.2, end=1.0, over="2ep"),
    "Cosine": Cosine(),
    "Cosine over": Cosine(end=0.05, over="60%"),
    "Polynomial": Polynomial(power=1.5, end=0.01),
    "OneMinusSqrt": OneMinusSqrt(),
    "Exponential": Exponential(gamma=0.9),
    "Step": Step(every="7st", gamma=0.5),
    "MultiStep": MultiStep(["40%", "80%"]),
    "InverseTime": InverseTime(alpha=0.5),
    "InverseSqrt": InverseSqrt(every="3st"),
    "Rex": Rex(),
    "Triangle": Triangle(period="10st", shrink=0.8),
    "Piecewise": Piecewise([("0st", 0.1), ("1ep", 1.0), ("100%", 0.2)]),
    "Formula": Formula("max(0.1, 1 - progress) / (1 + 0.1 * floor(epoch))"),
    "Custom": Custom("lit_lrsched.schedules.custom.halve_every_epoch"),
    "Chain": Chain([Phase(Linear(0.1, 1.0), "5st"), Phase(Cosine())]),
    "Chain ending early": Chain([Phase(Linear(0.1, 1.0), "30%", "warmup"), Phase(Cosine(end=0.2), "50%")]),
    "Product": Product([WarmupLinear("10%"), Step(every="2ep", gamma=0.5)]),
    "Repeat": Repeat(Linear(end=0.1), every="6st", shrink=0.7),
    "WarmupLinear": WarmupLinear(warmup="1ep"),
    "WarmupCosine": WarmupCosine(warmup="10%", end=0.01),
    "WarmupInverseSqrt": WarmupInverseSqrt(warmup="5st"),
    "WarmupStableDecay": WarmupStableDecay(warmup="10%", decay="20%"),
    "WarmupStableDecay Rex": WarmupStableDecay(warmup="3st", decay="1ep", shape=Rex(end=0.1), start=0.0),
    "OneCycle": OneCycle(),
    "OneCycle three phases": OneCycle(up="40%", down="40%", shape="linear", momentum=0.85 / 0.95),
    "CosineRestarts": CosineRestarts(period="6st", multiplier=2),
    "Plateau": Plateau(factor=0.5, patience=1),
    "Plateau after warmup": Plateau(WarmupLinear("1ep", end=1.0), monitor="val_acc", mode="max", patience=2),
    "nested chains": Chain(
        [
            Phase(WarmupStableDecay(warmup="20%", decay="30%"), "50%"),
            Phase(Repeat(Chain([Phase(Linear(0.5, 1.0), "2st"), Phase(halve_every_epoch)]), every="1ep")),
        ]
    ),
}
