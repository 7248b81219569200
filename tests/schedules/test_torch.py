"""Differential tests against the rates that torch's own schedulers set, over seeded random parameters, to 1e-12."""

import math
import random
from collections.abc import Callable, Iterator

import pytest
import torch
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from lit_lrsched.schedules.compose import Chain, Phase
from lit_lrsched.schedules.core import Horizon, Schedule, table
from lit_lrsched.schedules.decays import Cosine, Linear, Polynomial
from lit_lrsched.schedules.recipes import CosineRestarts, OneCycle
from lit_lrsched.schedules.shapes import Constant, Exponential, MultiStep, Step, Triangle

Make = Callable[[torch.optim.Optimizer], LRScheduler]
Case = tuple[Schedule, Horizon, Make]
RUNS = 200


def constant(rng: random.Random) -> Case:
    factor, total = rng.uniform(0, 1), rng.randint(1, 60)
    ours = Chain([Phase(Constant(factor), f"{total}st"), Phase(Constant())])
    return ours, Horizon(total + 5), lambda opt: lr_scheduler.ConstantLR(opt, factor, total)


def linear(rng: random.Random) -> Case:
    start, end, total = rng.uniform(0.01, 1), rng.uniform(0, 1), rng.randint(1, 100)
    return (
        Linear(start, end, over=f"{total}st"),
        Horizon(total + 5),
        lambda opt: lr_scheduler.LinearLR(opt, start, end, total),
    )


def exponential(rng: random.Random) -> Case:
    gamma = rng.uniform(0.5, 1.01)
    return Exponential(gamma), Horizon(rng.randint(1, 100), 1), lambda opt: lr_scheduler.ExponentialLR(opt, gamma)


def step(rng: random.Random) -> Case:
    every, gamma = rng.randint(1, 20), rng.uniform(0.05, 1.1)
    return Step(f"{every}st", gamma), Horizon(rng.randint(1, 100)), lambda opt: lr_scheduler.StepLR(opt, every, gamma)


def multi_step(rng: random.Random) -> Case:
    milestones, gamma = sorted(rng.sample(range(1, 100), rng.randint(1, 6))), rng.uniform(0.05, 1.1)
    ours = MultiStep([f"{milestone}st" for milestone in milestones], gamma)
    return ours, Horizon(rng.randint(1, 120)), lambda opt: lr_scheduler.MultiStepLR(opt, milestones, gamma)


def cosine(rng: random.Random) -> Case:
    # up to T_max: from there torch climbs again, ours stays
    end, total = rng.choice([0.0, rng.uniform(0, 1)]), rng.randint(1, 100)
    ours = Cosine(end=end, over=f"{total}st")
    return ours, Horizon(total + 1), lambda opt: lr_scheduler.CosineAnnealingLR(opt, total, end)


def polynomial(rng: random.Random) -> Case:
    power, total = rng.uniform(0.2, 5), rng.randint(1, 100)
    ours = Polynomial(power, over=f"{total}st")
    return ours, Horizon(total + 5), lambda opt: lr_scheduler.PolynomialLR(opt, total, power)


def restarts(rng: random.Random) -> Case:
    period, multiplier, end = rng.randint(1, 30), rng.randint(1, 4), rng.uniform(0, 1)
    ours = CosineRestarts(f"{period}st", multiplier, end)
    return (
        ours,
        Horizon(rng.randint(1, 200)),
        lambda opt: lr_scheduler.CosineAnnealingWarmRestarts(opt, period, multiplier, end),
    )


def cyclic(rng: random.Random) -> Case:
    half, low, shrink = rng.randint(1, 20), rng.uniform(0.001, 0.9), rng.uniform(0.3, 1)
    mode = rng.choice(["triangular", "triangular2", "own"])
    ours = Triangle(f"{2 * half}st", low, 1.0, {"triangular": 1.0, "triangular2": 0.5, "own": shrink}[mode])
    scale = {"scale_fn": lambda cycle: shrink ** (cycle - 1)} if mode == "own" else {"mode": mode}
    return (
        ours,
        Horizon(rng.randint(1, 150)),
        lambda opt: lr_scheduler.CyclicLR(opt, low, 1.0, half, cycle_momentum=False, **scale),
    )


def one_cycle(rng: random.Random) -> Case:
    # torch reaches its minimum at step total - 1, and its peak at step pct * total - 1
    total, three_phase = rng.randint(8, 200), rng.random() < 0.5
    up = rng.randint(1, (total - 2) // 2 if three_phase else total - 2)
    divide, divide_more, shape = rng.uniform(2, 50), rng.uniform(2, 1e4), rng.choice(["cosine", "linear"])
    ours = OneCycle(
        f"{up}st",
        f"{up}st" if three_phase else None,
        low=1 / divide,
        end=1 / divide / divide_more,
        shape=shape,  # type: ignore[arg-type]
        momentum=0.85 / 0.95,
    )
    return (
        ours,
        Horizon(total - 1),
        lambda opt: lr_scheduler.OneCycleLR(
            opt,
            max_lr=1.0,
            total_steps=total,
            pct_start=(up + 1) / total,
            anneal_strategy="cos" if shape == "cosine" else "linear",
            div_factor=divide,
            final_div_factor=divide_more,
            three_phase=three_phase,
        ),
    )


CASES = [constant, linear, exponential, step, multi_step, cosine, polynomial, restarts, cyclic, one_cycle]


def follow(make: Make, steps: int) -> Iterator[torch.optim.Optimizer]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.95)
    scheduler = make(optimizer)
    for _ in range(steps):
        yield optimizer
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_equal_to_torch(case: Callable[[random.Random], Case]) -> None:
    # At its last step torch's OneCycleLR has start + (end - start) * 1, which is end up to a rounding of start.
    rounding = 1e-15 if case is one_cycle else 0.0
    rng = random.Random(case.__name__)
    for run in range(RUNS):
        ours, horizon, make = case(rng)
        factors = table(ours, horizon)
        if case is one_cycle:
            factors.append(ours(horizon.steps, horizon))  # torch trains at its end, ours reaches it when training ends
        for t, optimizer in enumerate(follow(make, len(factors))):
            theirs = optimizer.param_groups[0]["lr"]
            assert math.isclose(factors[t], theirs, rel_tol=1e-12, abs_tol=rounding), (run, ours, t, factors[t], theirs)


def test_one_cycle_momentum_is_equal_to_torch() -> None:
    rng = random.Random("momentum")
    for _ in range(RUNS):
        ours, horizon, make = one_cycle(rng)
        momentum = ours.companions()["momentum"]  # type: ignore[attr-defined]
        for t, optimizer in enumerate(follow(make, horizon.steps + 1)):
            theirs = optimizer.param_groups[0]["momentum"]
            assert math.isclose(0.95 * momentum(t, horizon), theirs, rel_tol=1e-12)


def test_a_table_of_epochs_is_torch_stepped_once_an_epoch() -> None:
    horizon = Horizon(33, steps_per_epoch=10)  # the last epoch is cut short
    ours = table(Exponential(0.9), horizon, interval="epoch")
    theirs = [optimizer.param_groups[0]["lr"] for optimizer in follow(lambda o: lr_scheduler.ExponentialLR(o, 0.9), 4)]
    assert ours == pytest.approx(theirs, rel=1e-12)
