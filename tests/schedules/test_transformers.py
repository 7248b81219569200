"""Differential tests against transformers' schedules, at 1e-9.

The convention differs at the warmup's first step. Theirs counts a warmup of W' steps as 0, 1/W', 2/W', ... and so
trains its first step at rate 0; ours counts one of W steps as 1/(W+1), 2/(W+1), ... and leaves that step out. So theirs
with W' = W + 1 in T' = T + 1 steps, read from its step 1 on, is ours. With ``start=0.0`` ours is theirs, unshifted.
"""

import math
import random
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers.optimization import (
    get_cosine_schedule_with_warmup,
    get_inverse_sqrt_schedule,
    get_linear_schedule_with_warmup,
    get_polynomial_decay_schedule_with_warmup,
    get_wsd_schedule,
)

from lit_lrsched.schedules.core import Horizon, Schedule
from lit_lrsched.schedules.decays import Cosine, Linear, OneMinusSqrt, Polynomial
from lit_lrsched.schedules.recipes import WarmupCosine, WarmupInverseSqrt, WarmupLinear, WarmupStableDecay

Make = Callable[[torch.optim.Optimizer], LambdaLR]
RUNS = 200
DECAYS = {"linear": Linear, "cosine": Cosine, "1-sqrt": OneMinusSqrt}


def close(ours: Schedule, horizon: Horizon, make: Make, shift: int) -> None:
    # The function inside is compared, at base rate 1, so that long runs cost no optimizer steps.
    theirs = make(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)).lr_lambdas[0]
    for t in range(horizon.steps + 1):
        expected, found = theirs(t + shift), ours(t, horizon)
        assert math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-15), (ours, t, found, expected)


def lengths(rng: random.Random) -> tuple[int, int]:
    total = rng.randint(3, 400)
    return rng.randint(1, total - 2), total


@pytest.mark.parametrize("zero", [False, True], ids=["shifted", "from zero"])
def test_linear(zero: bool) -> None:
    rng = random.Random("linear")
    for _ in range(RUNS):
        (warmup, total), shift = lengths(rng), 0 if zero else 1
        ours = WarmupLinear(f"{warmup}st", start=0.0 if zero else None)
        make = partial(
            get_linear_schedule_with_warmup, num_warmup_steps=warmup + shift, num_training_steps=total + shift
        )
        close(ours, Horizon(total), make, shift)


@pytest.mark.parametrize("zero", [False, True], ids=["shifted", "from zero"])
def test_cosine(zero: bool) -> None:
    rng = random.Random("cosine")
    for _ in range(RUNS):
        (warmup, total), shift = lengths(rng), 0 if zero else 1
        ours = WarmupCosine(f"{warmup}st", start=0.0 if zero else None)
        make = partial(
            get_cosine_schedule_with_warmup, num_warmup_steps=warmup + shift, num_training_steps=total + shift
        )
        close(ours, Horizon(total), make, shift)


def test_inverse_sqrt() -> None:
    rng = random.Random("inverse_sqrt")
    for _ in range(RUNS):
        warmup, total = lengths(rng)
        close(
            WarmupInverseSqrt(f"{warmup}st"),
            Horizon(total),
            partial(get_inverse_sqrt_schedule, num_warmup_steps=warmup + 1),
            shift=1,
        )
        # with a time scale of one's own, in steps
        scale = rng.randint(1, 500)
        close(
            WarmupInverseSqrt(f"{warmup}st", every=f"{scale}st"),
            Horizon(total),
            partial(get_inverse_sqrt_schedule, num_warmup_steps=warmup + 1, timescale=scale),
            shift=1,
        )


def test_polynomial() -> None:
    rng = random.Random("polynomial")
    for _ in range(RUNS):
        warmup, total = lengths(rng)
        power, end = rng.uniform(0.3, 4), rng.choice([1e-7, rng.uniform(0, 0.9)])
        # a warmup and then Polynomial: no stable stretch in between
        ours = WarmupStableDecay(f"{warmup}st", f"{total - warmup}st", shape=Polynomial(power, end=end))
        make = partial(
            get_polynomial_decay_schedule_with_warmup,
            num_warmup_steps=warmup + 1,
            num_training_steps=total + 1,
            lr_end=end,
            power=power,
        )
        close(ours, Horizon(total), make, shift=1)


@pytest.mark.parametrize("decay_type", DECAYS)
def test_warmup_stable_decay(decay_type: str) -> None:
    rng = random.Random(decay_type)
    for _ in range(RUNS):
        warmup, total = lengths(rng)
        decay = rng.randint(1, total - warmup)
        ours = WarmupStableDecay(f"{warmup}st", f"{decay}st", shape=DECAYS[decay_type]())
        make = partial(get_wsd_schedule, num_decay_steps=decay, decay_type=decay_type)
        close(ours, Horizon(total), partial(make, num_warmup_steps=warmup + 1, num_training_steps=total + 1), shift=1)
        # with a floor their warmup starts there and not at 0, so nothing has to be left out
        floor = rng.uniform(0.01, 0.9)
        ours = WarmupStableDecay(f"{warmup}st", f"{decay}st", shape=DECAYS[decay_type](end=floor), start=floor)
        make = partial(make, num_warmup_steps=warmup, num_training_steps=total, min_lr_ratio=floor)
        close(ours, Horizon(total), make, shift=0)
