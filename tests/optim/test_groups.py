"""Schedules for momentum, weight decay and single param groups, on the optimizers that there are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, NAdam, Optimizer, RMSprop

from lit_lrsched import (
    ApplySchedule,
    Constant,
    Cosine,
    FromTorch,
    Horizon,
    Linear,
    OneCycle,
    Plateau,
    Schedule,
    ScheduledLR,
    table,
)
from lit_lrsched.errors import InputError
from lit_lrsched.optim.param_groups import values_of
from tests.training import SaveAt, Small, sgd, small, used_by

HORIZON = Horizon(4)


def weights(count: int) -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(2)) for _ in range(count)]


def follow(scheduler: ScheduledLR, read: Callable[[dict[str, Any]], Any], group: int = 0) -> list[float]:
    """What one value of one group is at each of the four steps."""
    values = []
    for _ in range(HORIZON.steps):
        values.append(read(scheduler.optimizer.param_groups[group]))
        scheduler.optimizer.step()
        scheduler.step()
    return values


# name of the quantity, optimizer, how to read it, and what it is to begin with
DRIVEN = {
    "momentum of SGD": ("momentum", lambda p: SGD(p, 0.1, momentum=0.9), lambda g: g["momentum"], 0.9),
    "momentum of RMSprop": ("momentum", lambda p: RMSprop(p, 0.1, momentum=0.5), lambda g: g["momentum"], 0.5),
    "first beta of Adam": ("momentum", lambda p: Adam(p, 0.1, betas=(0.8, 0.99)), lambda g: g["betas"][0], 0.8),
    "first beta of NAdam": ("momentum", lambda p: NAdam(p, 0.1), lambda g: g["betas"][0], 0.9),
    "weight decay of SGD": (
        "weight_decay",
        lambda p: SGD(p, 0.1, weight_decay=0.02),
        lambda g: g["weight_decay"],
        0.02,
    ),
    "weight decay of AdamW": ("weight_decay", lambda p: AdamW(p, 0.1), lambda g: g["weight_decay"], 0.01),
}


@pytest.mark.parametrize("case", DRIVEN)
def test_other_quantities(case):
    quantity, make, read, base = DRIVEN[case]
    scheduler = ScheduledLR(make(weights(1)), Cosine(), HORIZON, groups={quantity: Linear(end=0.5)})
    # 1, 7/8, 6/8, 5/8 of what it is
    assert follow(scheduler, read) == pytest.approx([base * factor for factor in (1, 0.875, 0.75, 0.625)])
    scheduler = ScheduledLR(make(weights(1)), Cosine(), HORIZON, groups={quantity: Linear(end=0.5)})
    assert follow(scheduler, lambda group: group["lr"]) == [0.1 * factor for factor in table(Cosine(), HORIZON)]


def test_the_second_beta_is_left_alone():
    optimizer = Adam(weights(1), 0.1, betas=(0.8, 0.95))
    follow(ScheduledLR(optimizer, Cosine(), HORIZON, groups={"momentum": Linear()}), lambda group: None)
    assert optimizer.param_groups[0]["betas"] == (0.0, 0.95)


def three_groups() -> Optimizer:
    first, second, third = weights(3)
    return SGD(
        [
            {"params": [first], "name": "backbone", "lr": 0.01},
            {"params": [second]},
            {"params": [third], "name": "head", "momentum": 0.5, "weight_decay": 0.3},
        ],
        lr=0.1,
        momentum=0.9,
        weight_decay=0.1,
    )


def test_one_groups_own_schedule_goes_before_the_one_for_all():
    for order in (1, -1):
        groups = {
            "momentum": Linear(),
            "lr/head": Constant(3.0),
            "momentum/head": Constant(),
            "weight_decay/group1": Linear(),
        }
        scheduler = ScheduledLR(three_groups(), Cosine(), HORIZON, groups=dict([*groups.items()][::order]))
        scheduler.step(2)  # half way: Cosine and Linear are at a half
        backbone, middle, head = scheduler.optimizer.param_groups
        assert [group["lr"] for group in (backbone, middle)] == pytest.approx([0.005, 0.05])
        assert head["lr"] == pytest.approx(0.3)
        assert [group["momentum"] for group in (backbone, middle, head)] == pytest.approx([0.45, 0.45, 0.5])
        assert [group["weight_decay"] for group in (backbone, middle, head)] == pytest.approx([0.1, 0.05, 0.3])


def test_planned_is_what_will_be_set():
    groups = {"momentum": Linear(), "lr/head": Constant(0.5), "weight_decay/group1": Linear()}
    scheduler = ScheduledLR(three_groups(), Cosine(), HORIZON, groups=groups)
    planned = [scheduler.planned(tick) for tick in range(4)]
    for tick in range(4):
        for group, values in zip(scheduler.optimizer.param_groups, planned[tick], strict=True):
            assert {name: group[name] for name in values} == values
        scheduler.step()


def test_groups_are_called_by_their_names_if_those_tell_them_apart():
    first, second, third = weights(3)
    groups = [{"params": [first], "name": "a"}, {"params": [second], "name": "a"}, {"params": [third], "name": "b"}]
    optimizer = SGD(groups, lr=0.1)
    assert list(values_of([optimizer], ["lr"])) == ["lr/group0", "lr/group1", "lr/b"]
    scheduler = ScheduledLR(optimizer, Constant(), HORIZON, groups={"lr/group1": Constant(2.0)})
    assert scheduler.get_last_lr() == [0.1, 0.2, 0.1]


def test_a_group_that_is_named_like_the_number_of_another_is_told_apart_by_its_own():
    first, second = weights(2)
    optimizer = SGD([{"params": [first], "name": "group1", "lr": 0.2}, {"params": [second]}], lr=0.1)
    assert values_of([optimizer], ["lr"]) == {"lr/group0": 0.2, "lr/group1": 0.1}


def test_a_schedule_that_brings_its_own_momentum_can_be_overruled():
    one_cycle = OneCycle(momentum=0.85 / 0.95)
    own = ScheduledLR(SGD(weights(1), 0.1, momentum=0.95), one_cycle, HORIZON)
    assert min(follow(own, lambda group: group["momentum"])) < 0.9
    overruled = ScheduledLR(SGD(weights(1), 0.1, momentum=0.95), one_cycle, HORIZON, groups={"momentum": Constant()})
    assert follow(overruled, lambda group: group["momentum"]) == [0.95] * 4


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            {"momentun": Linear()},
            r"groups: unknown key 'momentun' \(did you mean 'momentum'\?\): write one of momentum",
        ),
        ({"lr/bakbone": Linear()}, r"\(did you mean 'lr/backbone'\?\)"),
        ({"lr/group0": Linear()}, r"groups: unknown key 'lr/group0'"),  # its name is backbone
        ({"lr": Linear()}, r"groups: unknown key 'lr'"),
        ({"momentum": Plateau()}, "groups: 'momentum' cannot follow a metric: only the schedule of all learning rates"),
        ({"weight_decay/head": lambda step, horizon: -1.0}, "returned -1.0 at step 0 of 4: a factor must be"),
    ],
)
def test_mistakes(groups, message):
    with pytest.raises(InputError, match=message) as caught:
        ScheduledLR(three_groups(), Cosine(), HORIZON, groups=groups)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "schedule", "groups"),
    [
        (lambda p: SGD(p, 0.1), Cosine(), {"momentum": Linear()}),
        (lambda p: SGD(p, 0.1), OneCycle(momentum=0.9), {}),
        (lambda p: SGD(p, 0.1), FromTorch("OneCycleLR"), {}),
        (lambda p: torch.optim.Adagrad(p, 0.1), Cosine(), {"momentum": Linear()}),
    ],
)
def test_nothing_to_drive(make, schedule, groups):
    with pytest.raises(InputError, match=r"has no momentum to schedule, it is 0: give it one, like momentum=0\.9"):
        ScheduledLR(make(weights(1)), schedule, HORIZON, groups=groups)


@pytest.mark.parametrize(
    "options", [{"fused": True}, {"foreach": True}, {"foreach": False}, {"amsgrad": True}], ids=str
)
@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_every_implementation_of_an_optimizer(kind, options):
    def train(rate: float | torch.Tensor) -> tuple[list[float], torch.Tensor]:
        (weight,) = weights(1)
        optimizer = kind([weight], lr=rate, **options)
        scheduler = ScheduledLR(optimizer, Linear(end=0.5), HORIZON, groups={"momentum": Linear(end=0.9)})
        rates = []
        for _ in range(4):
            rates.append(float(scheduler.get_last_lr()[0]))
            optimizer.zero_grad()
            (weight**2).sum().backward()
            optimizer.step()
            scheduler.step()
        return rates, weight.detach()

    expected = [0.1 * factor for factor in (1, 0.875, 0.75, 0.625)]
    rates, weight = train(0.1)
    assert rates == pytest.approx(expected)
    if options.get("foreach") is not True:  # which takes no rate in a tensor, says torch
        with_tensor, same = train(torch.tensor(0.1))
        assert with_tensor == pytest.approx(expected, rel=1e-6)
        assert torch.allclose(weight, same, rtol=1e-5)


def test_a_rate_in_a_tensor_is_set_in_place_and_forgets_nothing():
    rate = torch.tensor(0.1, dtype=torch.float64)
    optimizer = Adam(weights(1), lr=rate, capturable=True)
    scheduler = ScheduledLR(optimizer, Linear(), HORIZON)
    scheduler.step()
    shown = scheduler.get_last_lr()[0]
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == pytest.approx(0.05)
    assert float(shown) == pytest.approx(0.075)  # what was shown does not change afterwards
    # and a scheduler that comes after it starts from the base rate again
    assert ScheduledLR(optimizer, Constant(), HORIZON).get_last_lr() == pytest.approx([0.1])


def test_a_rate_in_a_tensor_that_groups_share_is_one_for_each():
    first, second = weights(2)
    optimizer = Adam([{"params": [first]}, {"params": [second]}], lr=torch.tensor(0.1))
    ScheduledLR(optimizer, Linear(), HORIZON, groups={"lr/group1": Constant()}).step()
    assert [float(group["lr"]) for group in optimizer.param_groups] == pytest.approx([0.075, 0.1])


def test_a_rate_in_a_tensor_under_a_trainer(tmp_path):
    def make(module: Small) -> Optimizer:
        return Adam(module.parameters(), lr=torch.tensor(0.1, dtype=torch.float64), fused=True)

    saver = SaveAt(tmp_path)
    whole = used_by(Small(make), saver, ApplySchedule(Linear()))
    assert whole.first_rates == pytest.approx([0.1 * (1 - n / 12) for n in range(12)])
    assert used_by(Small(make), ApplySchedule(Linear()), ckpt=saver.paths[4]).rates == whole.rates[5:]


def test_the_same_optimizer_in_a_second_fit_starts_from_its_own_values():
    optimizers: list[Optimizer] = []

    def make(module: Small) -> Optimizer:
        if not optimizers:
            optimizers.append(sgd(module))
        return optimizers[0]

    module = Small(make)
    for _ in range(2):
        used = used_by(module, ApplySchedule(Linear(), groups={"weight_decay": Linear()}))
        assert used.first_rates[:12] == pytest.approx([0.1 * (1 - n / 12) for n in range(12)])
        assert [decays[0] for decays in used.decays] == pytest.approx([0.01 * (1 - n / 12) for n in range(12)])


def test_groups_by_callback_and_by_configure_optimizers_are_the_same():
    groups = {"momentum": Linear(end=0.5), "weight_decay/group0": Cosine()}
    by_callback = used_by(Small(), ApplySchedule(Linear(), groups=groups))
    in_module = used_by(small(Linear(), groups=groups))
    for used in (by_callback, in_module):
        assert [momenta[0] for momenta in used.momenta] == pytest.approx([0.9 * (1 - n / 24) for n in range(12)])
        decays = [0.01 * (1 + math.cos(math.pi * n / 12)) / 2 for n in range(12)]
        assert [one[0] for one in used.decays] == pytest.approx(decays)


def test_groups_alone_leave_the_rate_as_it_is():
    used = used_by(small(None, groups={"momentum": Linear()}))
    assert used.first_rates == [0.1] * 12
    assert used.momenta[6] == pytest.approx([0.45])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"groups": {"momentum": Linear()}}, "groups go"),
        ({"on_horizon_change": "keep"}, "on_horizon_change='keep' goes"),
    ],
)
def test_what_goes_with_our_schedules_alone_is_refused_beside_torchs(given, told):
    def stock(optimizer: Optimizer) -> torch.optim.lr_scheduler.StepLR:
        return torch.optim.lr_scheduler.StepLR(optimizer, 1)

    with pytest.raises(InputError, match=rf"{told} with lit_lrsched's schedules: wrap it, FromTorch\('StepLR'\)"):
        used_by(small(stock, **given))


def test_a_group_that_joins_follows_from_where_it_starts():
    optimizer = SGD(weights(1), lr=0.1)
    scheduler = ScheduledLR(optimizer, Linear(), HORIZON)
    scheduler.step()
    optimizer.add_param_group({"params": weights(1), "lr": 0.03})
    assert optimizer.param_groups[1]["lr"] == 0.03
    scheduler.step()  # from 3/4 to 2/4
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.02])
    optimizer.param_groups[1]["lr"] = 0.004  # another hand
    scheduler.step()  # from 2/4 to 1/4
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.025, 0.002])


def test_a_group_that_joins_with_its_rate_in_a_tensor_does_not_drift():
    optimizer = Adam(weights(1), lr=torch.tensor(0.1), foreach=False)
    scheduler = ScheduledLR(optimizer, Linear(end=0.5), Horizon(1000))
    scheduler.step()
    optimizer.add_param_group({"params": weights(1), "lr": torch.tensor(0.05)})
    scheduler.step()
    (base,) = scheduler.state_dict()["joined"].values()
    for _ in range(900):
        scheduler.step()
    assert scheduler.state_dict()["joined"] == {1: base}


def test_a_group_that_joins_without_a_rate_leaves_that_of_the_first_alone():
    optimizer = Adam([{"params": weights(1)}], lr=torch.tensor(0.1), foreach=False)
    scheduler = ScheduledLR(optimizer, Linear(), HORIZON, groups={"lr/group0": Constant()})
    scheduler.step()
    optimizer.add_param_group({"params": weights(1)})  # with the tensor of the first
    scheduler.step()
    assert [float(group["lr"]) for group in optimizer.param_groups] == pytest.approx([0.1, 0.1 * 2 / 3])


def test_a_group_that_joins_follows_what_drives_the_momentum_of_all():
    def made(groups: dict[str, Schedule]) -> tuple[SGD, ScheduledLR]:
        optimizer = SGD(weights(1), lr=0.1, momentum=0.8)
        return optimizer, ScheduledLR(optimizer, Linear(), HORIZON, groups=groups)

    def momenta(optimizer: SGD) -> list[float]:
        return [group["momentum"] for group in optimizer.param_groups]

    optimizer, scheduler = made({"momentum": Linear(), "momentum/group0": Linear(end=0.5)})
    scheduler.step()
    optimizer.add_param_group({"params": weights(1), "momentum": 0.4})
    optimizer.add_param_group({"params": weights(1), "momentum": 0.0})
    scheduler.step()
    assert momenta(optimizer) == pytest.approx([0.8 * 3 / 4, 0.4 * 2 / 4, 0.0])

    states = optimizer.state_dict(), scheduler.state_dict()
    optimizer, scheduler = made({})  # no schedule drives it any more
    for _ in range(2):
        optimizer.add_param_group({"params": weights(1)})
    optimizer.load_state_dict(states[0])
    scheduler.load_state_dict(states[1])
    assert momenta(optimizer) == [0.8, 0.4, 0.0]


def test_a_group_that_is_taken_away_is_refused():
    scheduler = ScheduledLR(three_groups(), Linear(), HORIZON)
    del scheduler.optimizer.param_groups[0]
    with pytest.raises(InputError, match="has 2 param groups of the 3 that the schedule was made for"):
        scheduler.step()
