from __future__ import annotations

import pytest
import torch
from torch.optim import SGD, Optimizer
from torch.optim import lr_scheduler as torch_schedulers

from lit_lrsched import Exponential, Horizon, InverseTime, Linear, ScheduledLR, table
from lit_lrsched.errors import InputError


def make_optimizer(lr: float = 0.1) -> Optimizer:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def rates(scheduler: torch_schedulers.LRScheduler, ticks: int) -> list[float]:
    used = []
    for _ in range(ticks):
        used.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return used


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Linear(1.0, 0.5, over="30ep"), lambda o: torch_schedulers.LinearLR(o, 1.0, 0.5, total_iters=30)),
        (Exponential(0.99), lambda o: torch_schedulers.ExponentialLR(o, 0.99)),
        (InverseTime(0.01), lambda o: torch_schedulers.LambdaLR(o, lambda n: 1 / (1 + 0.01 * n))),
    ],
    ids=["linear", "exponential", "inverse time"],
)
def test_each_epoch_as_torch(ours, theirs):
    horizon = Horizon(550, steps_per_epoch=11)
    mine = rates(ScheduledLR(make_optimizer(), ours, horizon, "epoch"), 50)
    assert mine == pytest.approx(rates(theirs(make_optimizer()), 50), rel=1e-12)
    assert mine == [0.1 * factor for factor in table(ours, horizon, "epoch")]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.1, None, "0.5"])
def test_a_factor_that_is_no_factor_is_refused_before_training(bad):
    def breaks_down(step: int, horizon: Horizon) -> float:
        return bad if step > 90 else 1.0

    with pytest.raises(InputError, match=r"breaks_down returned .* at step 9\d of 100"):
        ScheduledLR(make_optimizer(), breaks_down, Horizon(100))


def test_a_factor_that_is_missing_at_the_end_is_refused_before_training():
    factors = [1.0] * 100
    with pytest.raises(InputError, match="fails at step 100 of 100 with IndexError"):
        ScheduledLR(make_optimizer(), lambda step, horizon: factors[step], Horizon(100))


def test_a_factor_that_breaks_down_in_between_is_refused_when_it_comes():
    def one_bad_step(step: int, horizon: Horizon) -> float:
        return float("nan") if step == 777 else 1.0

    scheduler = ScheduledLR(make_optimizer(), one_bad_step, Horizon(10_000))
    with pytest.raises(InputError, match="step 777"):
        rates(scheduler, 1000)
