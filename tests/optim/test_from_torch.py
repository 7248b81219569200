"""torch's own schedulers as schedules: the very rates that torch sets, at any step and under any trainer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import SGD, Adam, Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from lit_lrsched import Chain, FromTorch, Horizon, Phase, Plateau, ScheduledLR, table
from lit_lrsched.errors import InputError
from tests.training import Numbers, Small, Used, Validated, scheduled, sgd, small, used_by

STEPS = 12

# Every class of torch but ReduceLROnPlateau: its arguments as configuration, and the same by hand, where the base rate
# is 0.1. Rates among the arguments are multiples of the base rate for us, and rates for torch.
Make = Callable[[Optimizer], LRScheduler]
CLASSES: dict[str, tuple[dict[str, Any], Make]] = {
    "LambdaLR": ({"lr_lambda": math.cos}, lambda o: lr_scheduler.LambdaLR(o, math.cos)),
    "MultiplicativeLR": (
        {"lr_lambda": lambda n: 1 - n / 100},
        lambda o: lr_scheduler.MultiplicativeLR(o, lambda n: 1 - n / 100),
    ),
    "StepLR": ({"step_size": 5, "gamma": 0.3}, lambda o: lr_scheduler.StepLR(o, 5, 0.3)),
    "MultiStepLR": ({"milestones": [2, 7]}, lambda o: lr_scheduler.MultiStepLR(o, [2, 7])),
    "ConstantLR": ({"factor": 0.2}, lambda o: lr_scheduler.ConstantLR(o, 0.2, STEPS)),
    "LinearLR": ({"start_factor": 0.3, "end_factor": 0.8}, lambda o: lr_scheduler.LinearLR(o, 0.3, 0.8, STEPS)),
    "ExponentialLR": ({"gamma": 0.9}, lambda o: lr_scheduler.ExponentialLR(o, 0.9)),
    "PolynomialLR": ({"power": 2.0}, lambda o: lr_scheduler.PolynomialLR(o, STEPS, 2.0)),
    "CosineAnnealingLR": ({"eta_min": 0.1}, lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS, 0.01)),
    "CosineAnnealingWarmRestarts": ({"T_0": 5}, lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5)),
    "CyclicLR": (
        {"base_lr": 0.01, "step_size_up": 4, "mode": "exp_range", "gamma": 0.9},
        lambda o: lr_scheduler.CyclicLR(o, 0.001, 0.1, 4, mode="exp_range", gamma=0.9),
    ),
    "OneCycleLR": ({"pct_start": 0.4}, lambda o: lr_scheduler.OneCycleLR(o, 0.1, STEPS, pct_start=0.4)),
    "SequentialLR": (
        {
            "schedulers": [
                {
                    "class_path": "torch.optim.lr_scheduler.LinearLR",
                    "init_args": {"start_factor": 0.1, "total_iters": 3},
                },
                {"class_path": "CosineAnnealingLR", "init_args": {"T_max": 9}},
            ],
            "milestones": [3],
        },
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, 0.1, total_iters=3), lr_scheduler.CosineAnnealingLR(o, 9)], [3]
        ),
    ),
    "ChainedScheduler": (
        {
            "schedulers": [
                {"class_path": "ConstantLR", "init_args": {"factor": 0.1, "total_iters": 4}},
                {"class_path": "ExponentialLR", "init_args": {"gamma": 0.8}},
            ]
        },
        lambda o: lr_scheduler.ChainedScheduler(
            [lr_scheduler.ConstantLR(o, 0.1, 4), lr_scheduler.ExponentialLR(o, 0.8)], o
        ),
    ),
}
NOT_SCHEDULES = {"LRScheduler", "ReduceLROnPlateau"}


def test_no_class_of_torch_is_left_out():
    assert set(CLASSES) == set(lr_scheduler.__all__) - NOT_SCHEDULES


@pytest.fixture(params=CLASSES)
def pair(request: pytest.FixtureRequest) -> tuple[FromTorch, Make]:
    arguments, make = CLASSES[request.param]
    # cos is not always positive, and a factor has to be
    if request.param == "LambdaLR":
        arguments, make = {"lr_lambda": abs_cos}, lambda o: lr_scheduler.LambdaLR(o, abs_cos)
    return FromTorch(request.param, arguments), make


def abs_cos(n: int) -> float:
    return abs(math.cos(n))


@pytest.mark.sampled(14)
@pytest.mark.filterwarnings("ignore:The epoch parameter in")  # torch's composites, of themselves
@pytest.mark.filterwarnings("ignore:A `OneCycleLR` scheduler is using 'interval'")
@pytest.mark.parametrize("every", ["step", "epoch"])
def test_the_rates_of_a_stock_run(pair, every):
    ours, make = pair

    def stock(module: Small) -> Any:
        optimizer = sgd(module)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": make(optimizer), "interval": every}}

    epochs = 3 if every == "step" else STEPS
    if every == "epoch":
        ours = FromTorch(ours.scheduler, ours.arguments, every="1ep")
    options = {"max_epochs": epochs, "data": Numbers(STEPS // epochs)}
    mine, theirs = used_by(small(ours), **options), used_by(Small(stock), **options)
    assert len(theirs.rates) == STEPS
    assert mine.first_rates == pytest.approx(theirs.first_rates, rel=1e-9, abs=1e-17)
    # Momentum relative to what it starts from: torch sets that itself, ours is the optimizer's.
    start = theirs.momenta[0][0]
    assert [m[0] / 0.9 for m in mine.momenta] == pytest.approx([m[0] / start for m in theirs.momenta], rel=1e-9)


def test_any_step_can_be_asked_for_in_any_order(pair):
    ours, horizon = pair[0], Horizon(STEPS, 4)
    inorder = table(ours, horizon)
    fresh = FromTorch(ours.scheduler, ours.arguments)
    assert [fresh(step, horizon) for step in reversed(range(STEPS))] == inorder[::-1]
    assert fresh(STEPS, horizon) == fresh(10 * STEPS, horizon) == inorder[-1]  # what follows is held


def test_lengths_can_be_written_as_durations():
    steps = FromTorch(
        "SequentialLR",
        {
            "schedulers": [
                {"class_path": "LinearLR", "init_args": {"start_factor": 0.1, "total_iters": 5}},
                {"class_path": "StepLR", "init_args": {"step_size": 10, "gamma": 0.5}},
            ],
            "milestones": [5],
        },
    )
    durations = FromTorch(
        "SequentialLR",
        {
            "schedulers": [
                {"class_path": "LinearLR", "init_args": {"start_factor": 0.1, "total_iters": "10%"}},
                {"class_path": "StepLR", "init_args": {"step_size": "2ep", "gamma": 0.5}},
            ],
            "milestones": ["5st"],
        },
    )
    assert table(durations, Horizon(50, 5)) == table(steps, Horizon(50, 5))
    assert table(durations, Horizon(100, 5)) != table(steps, Horizon(100, 5))


@pytest.mark.parametrize("optimizer", [SGD, Adam])
@pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR"])
def test_momentum_is_cycled(name, optimizer):
    arguments = {"OneCycleLR": {}, "CyclicLR": {"base_lr": 0.1, "step_size_up": 4}}[name]
    options = {"momentum": 0.8} if optimizer is SGD else {"betas": (0.8, 0.99)}

    def make(module: Small) -> Optimizer:
        return optimizer(module.parameters(), lr=0.1, **options)

    used = used_by(small(FromTorch(name, arguments), make_optimizer=make))
    # OneCycleLR goes from 0.95 to 0.85 and back, CyclicLR from 0.9 to 0.8: here in the same proportion, from 0.8.
    low = 0.8 * (0.85 / 0.95 if name == "OneCycleLR" else 0.8 / 0.9)
    assert used.momenta[0] == [0.8]
    assert min(used.momenta)[0] == pytest.approx(low, rel=0.01)
    assert max(used.momenta)[0] == pytest.approx(0.8)


@pytest.mark.parametrize(
    "scheduler",
    [
        FromTorch("OneCycleLR", {"cycle_momentum": False}),
        FromTorch("CyclicLR", {"base_lr": 0.1, "cycle_momentum": False}),
        FromTorch("CosineAnnealingLR"),
    ],
)
def test_an_optimizer_without_momentum_needs_none(scheduler):
    used = used_by(small(scheduler, make_optimizer=lambda module: SGD(module.parameters(), lr=0.1)))
    assert used.momenta == [[0.0]] * 12


def test_momentum_that_begins_to_cycle_late_is_found():
    late = FromTorch(
        "SequentialLR",
        {
            "schedulers": [
                {"class_path": "ConstantLR", "init_args": {"factor": 1.0, "total_iters": 0}},
                {"class_path": "CyclicLR", "init_args": {"base_lr": 0.1, "max_lr": 1.0, "step_size_up": 50}},
            ],
            "milestones": [500],
        },
    )
    momentum = late.companions()["momentum"]
    horizon = Horizon(600)
    assert momentum(499, horizon) == 1.0
    assert momentum(550, horizon) == pytest.approx(0.8 / 0.9)


@pytest.mark.parametrize("every", ["1st", "2st", "1ep", "25%"])
def test_how_long_a_tick_lasts(every):
    ticks = {"1st": 1, "2st": 2, "1ep": 4, "25%": 3}[every]
    expected = [0.5 ** (n // ticks) for n in range(12)]
    assert table(FromTorch("ExponentialLR", {"gamma": 0.5}, every=every), Horizon(12, 4)) == expected


def test_as_part_of_a_chain():
    chain = Chain([Phase(FromTorch("LinearLR", {"start_factor": 0.5}), "4st"), Phase(FromTorch("CosineAnnealingLR"))])
    factors = table(chain, Horizon(12))
    # total_iters and T_max are the phase's own length
    assert factors[:4] == pytest.approx([0.5, 0.625, 0.75, 0.875])
    assert factors[4:] == pytest.approx([(1 + math.cos(math.pi * n / 8)) / 2 for n in range(8)])


def test_under_a_plateau():
    class Stalls(Validated):
        val_losses = (1.0,)

    plateau = Plateau(FromTorch("ExponentialLR", {"gamma": 0.5}, every="1ep"), patience=0, factor=0.1)
    used: Used = used_by(Stalls(scheduled(plateau)), val=Numbers(1))
    assert used.epochs() == pytest.approx([0.1, 0.05, 0.0025])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ReduceLROnPlateau",), "'ReduceLROnPlateau' follows a metric: use Plateau, which wraps any schedule"),
        (("CosineAnealingLR",), r"'CosineAnealingLR' is no torch scheduler \(did you mean 'CosineAnnealingLR'\?\)"),
        (("SGD",), "scheduler='SGD' is no torch scheduler"),
        (("torch.optim.SGD",), "scheduler='torch.optim.SGD' is no torch scheduler"),
        (("no.such.module.X",), "'no.such.module.X': there is no module 'no': correct the path"),
        ((lambda optimizer: None, {"gamma": 1}), "arguments belong to a scheduler given by name"),
        (("StepLR", {"step_size": 1}, "3"), "every='3' has no unit"),
        (
            ("StepLR", {"step_size": 1, "gama": 1}),
            r"StepLR refuses .* no 'gama' \(did you mean 'gamma'\?\): use step_size",
        ),
        (("StepLR", 3), "arguments=3 are not arguments by name: write them as a dict"),
        (("StepLR", ["gamma"]), r"arguments=\['gamma'\] are not arguments by name"),
        (("StepLR", None), "arguments=None are not arguments by name"),
        (("StepLR", {3: 3}), "arguments={3: 3} are not arguments by name"),
        ((None,), "scheduler=None is no torch scheduler: give the name of one"),
        ((3,), "scheduler=3 is no torch scheduler"),
        (("",), "scheduler='' is no torch scheduler"),
    ],
)
def test_mistakes_that_show_at_once(arguments, message):
    with pytest.raises(InputError, match=message):
        FromTorch(*arguments)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (FromTorch("StepLR"), "StepLR refuses its arguments: .*step_size"),
        (FromTorch("StepLR", {"step_size": 0}), "StepLR fails at tick 1 with ZeroDivisionError"),
        (FromTorch("StepLR", {"step_size": "abc"}), "StepLR fails at tick 1 with TypeError"),
        (FromTorch("MultiStepLR", {"milestones": 3}), "MultiStepLR refuses its arguments"),
        (FromTorch("CosineAnnealingLR", {"eta_min": "x"}), "CosineAnnealingLR fails at tick 1 with TypeError"),
        (FromTorch("ExponentialLR", {"gamma": None}), "ExponentialLR fails at tick 1 with TypeError"),
        (FromTorch("SequentialLR", {"schedulers": 3, "milestones": 3}), "SequentialLR refuses its arguments"),
        (FromTorch("SequentialLR", {"schedulers": [{"class_path": 3}], "milestones": []}), "scheduler=3 is no torch"),
        (FromTorch(lambda optimizer: None), "scheduler returned None, which is no torch scheduler"),
        (FromTorch(lambda optimizer: 1 / 0), "the scheduler cannot be made: ZeroDivisionError: division by zero"),
        (FromTorch("OneCycleLR", {"total_steps": 5}), "OneCycleLR is too short for training: Tried to step 6 times"),
        (FromTorch("OneCycleLR", {"epochs": 2, "steps_per_epoch": 3}), "OneCycleLR is too short for training"),
        (FromTorch("LambdaLR", {"lr_lambda": lambda n: -1.0}), "FromTorch returned -1.0 at step 0 of 12"),
        (
            FromTorch("SequentialLR", {"schedulers": [{"class_path": "LinerLR"}], "milestones": []}),
            r"'LinerLR' is no torch scheduler \(did you mean 'LinearLR'\?\)",
        ),
    ],
)
def test_mistakes_that_show_when_the_horizon_is_known(scheduler, message):
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    with pytest.raises(InputError, match=message):
        ScheduledLR(optimizer, scheduler, Horizon(12, 4))


def test_two_schedules_with_the_same_arguments_are_equal():
    assert FromTorch("StepLR", {"step_size": 2}) == FromTorch("StepLR", {"step_size": 2})
    assert FromTorch("StepLR", {"step_size": 2}) != FromTorch("StepLR", {"step_size": 3})
    assert hash(FromTorch("StepLR", {"step_size": 2})) == hash(FromTorch("StepLR", {"step_size": 2}))
