"""What races when nothing is asked for: the tutorial's four schedules and six from the catalogue."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, LinearLR

from lit_lrsched.ionosphere.article import inverse_time
from lit_lrsched.schedules import Constant, Cosine, Linear, OneCycle, Plateau, WarmupCosine, WarmupStableDecay

SCHEDULES: dict[str, Any] = {
    "constant": Constant(),
    "article linear": partial(LinearLR, start_factor=1.0, end_factor=0.5, total_iters=30),
    "article exponential": partial(ExponentialLR, gamma=0.99),
    "article custom": partial(LambdaLR, lr_lambda=inverse_time),
    "linear to 0": Linear(),
    "cosine": Cosine(),
    "warmup cosine": WarmupCosine("10%"),
    "warmup stable decay": WarmupStableDecay("10%", "20%"),
    "one cycle": OneCycle(),
    "plateau": Plateau(monitor="val_acc", factor=0.5, patience=5),
}
LRS = (0.03, 0.1, 0.3, 1.0, 3.0)
MOMENTA = (0.0, 0.9)
SEEDS = 20
