from __future__ import annotations

import pytest
import torch
from torch.optim import SGD, Adam, Optimizer
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


def test_every_group_keeps_its_base_rate():
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = SGD([{"params": weights[:1], "lr": 0.01}, {"params": weights[1:]}], lr=0.1)
    scheduler = ScheduledLR(optimizer, Linear(), Horizon(4))
    optimizer.step()
    scheduler.step()
    assert scheduler.get_last_lr() == [0.01 * 0.75, 0.1 * 0.75]


def test_a_rate_in_a_tensor_stays_the_same_tensor():
    rate = torch.tensor(0.1, dtype=torch.float64)
    optimizer = Adam([torch.nn.Parameter(torch.zeros(1))], lr=rate, capturable=True)
    scheduler = ScheduledLR(optimizer, Linear(), Horizon(4))
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == pytest.approx(0.075, rel=1e-12)


def test_resumes_exactly_from_any_step():
    schedule, horizon = Exponential(0.9), Horizon(20, 1)
    whole = rates(ScheduledLR(make_optimizer(), schedule, horizon), 20)
    for stop in range(20):
        first = ScheduledLR(make_optimizer(), schedule, horizon)
        rates(first, stop)
        second = ScheduledLR(make_optimizer(), schedule, horizon)
        second.load_state_dict(first.state_dict())
        assert rates(second, 20 - stop) == whole[stop:]


def test_the_new_configuration_wins_over_the_checkpoint():
    first = ScheduledLR(make_optimizer(), Linear(), Horizon(10))
    rates(first, 5)
    longer = ScheduledLR(make_optimizer(), Linear(), Horizon(20))
    # from 0.1 * (1 - 5/10) = 0.05, at the end of step 5, to 0.075
    with pytest.warns(UserWarning, match=r"Resumed at step 5 of 20: learning rate 0\.05 -> 0\.075 \(replan"):
        longer.load_state_dict(first.state_dict())
    # 5 of 20 steps are done: 0.1 * (1 - 5/20)
    assert longer.optimizer.param_groups[0]["lr"] == pytest.approx(0.075, rel=1e-12)


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
