"""The plan is what training uses, bit for bit."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest
import torch
from torch.optim import Adam
from torch.optim import lr_scheduler as torch_schedulers

from lit_lrsched import ApplySchedule, Constant, Cosine, Horizon, Linear, Plateau, WarmupLinear, schedule_config
from lit_lrsched.errors import InputError
from lit_lrsched.optim.lengths import made_for
from lit_lrsched.plans.curve import key_moments, sample, trends
from lit_lrsched.plans.metric_file import read_metric
from lit_lrsched.plans.plan import Plan, plan_of
from lit_lrsched.schedules.core import as_schedule
from lit_lrsched.trainer.callbacks.receipt import Receipt
from lit_lrsched.trainer.fit_plan import configure, plan_fit, plans_of
from tests.catalogue import CATALOGUE
from tests.training import Configure, Tiny, tiny_trainer

pytestmark = pytest.mark.filterwarnings("ignore:A `OneCycleLR` scheduler is using")


def sequential(optimizer):
    parts = [
        torch_schedulers.LinearLR(optimizer, 0.1, total_iters=3),
        torch_schedulers.CosineAnnealingLR(optimizer, T_max=10),
        torch_schedulers.ExponentialLR(optimizer, 0.9),
    ]
    return torch_schedulers.SequentialLR(optimizer, parts, milestones=[3, 13])


def chained(optimizer):
    parts = [torch_schedulers.LinearLR(optimizer, total_iters=4), torch_schedulers.StepLR(optimizer, 5)]
    return torch_schedulers.ChainedScheduler(parts, optimizer)


def inverse(tick: int) -> float:
    return 1 / (1 + tick)


def shrinking(tick: int) -> float:
    return 1 - 0.5 / (1 + tick)


TORCH = {
    "LambdaLR": partial(torch_schedulers.LambdaLR, lr_lambda=inverse),
    "MultiplicativeLR": partial(torch_schedulers.MultiplicativeLR, lr_lambda=shrinking),
    "StepLR": partial(torch_schedulers.StepLR, step_size=3, gamma=0.3),
    "MultiStepLR": partial(torch_schedulers.MultiStepLR, milestones=[2, 4, 11]),
    "ConstantLR": partial(torch_schedulers.ConstantLR, total_iters=3),
    "LinearLR": partial(torch_schedulers.LinearLR, total_iters=7),
    "ExponentialLR": partial(torch_schedulers.ExponentialLR, gamma=0.9),
    "SequentialLR": sequential,
    "CosineAnnealingLR": partial(torch_schedulers.CosineAnnealingLR, T_max=13, eta_min=0.001),
    "ChainedScheduler": chained,
    "ReduceLROnPlateau": torch_schedulers.ReduceLROnPlateau,
    "CyclicLR": partial(torch_schedulers.CyclicLR, base_lr=0.01, max_lr=0.1, step_size_up=3, mode="triangular2"),
    "CosineAnnealingWarmRestarts": partial(torch_schedulers.CosineAnnealingWarmRestarts, T_0=4, T_mult=2),
    "OneCycleLR": partial(torch_schedulers.OneCycleLR, max_lr=0.3, total_steps=60),
    "PolynomialLR": partial(torch_schedulers.PolynomialLR, total_iters=9, power=2.0),
}
RUNS = {
    "plain": {},
    "accumulation 2, ragged": {"accumulate_grad_batches": 2},
    "accumulation 3, ragged": {"accumulate_grad_batches": 3},
    "limit_train_batches": {"limit_train_batches": 7},
    "limit_train_batches as a share, accumulation 2": {"limit_train_batches": 0.7, "accumulate_grad_batches": 2},
    "max_steps": {"max_steps": 23, "max_epochs": -1},
    "max_steps, accumulation 3": {"max_steps": 22, "max_epochs": 20, "accumulate_grad_batches": 3},
}


def test_every_torch_scheduler_is_here():
    assert {*TORCH, "LRScheduler"} == set(torch_schedulers.__all__)


def configured_by(schedule, interval: str, **arguments) -> Configure:
    def configure_optimizers(module: Tiny):
        optimizer = module.make_optimizer()
        return schedule_config(optimizer, schedule, module.trainer, interval=interval, **arguments)

    return configure_optimizers


def plan_and_fit(configure_optimizers: Configure, metric=None, val_loss=(), **options) -> tuple[Plan, Tiny, Receipt]:
    """The plan from one trainer, and what another trainer used."""
    trainer = tiny_trainer(**options)
    module = Tiny(configure_optimizers, val_loss=val_loss)
    plan, _ = plan_fit(trainer, configure(trainer, module), metric)
    assert module.used == []
    trained, receipt = Tiny(configure_optimizers, val_loss=val_loss), Receipt()
    tiny_trainer(**options, callbacks=[receipt]).fit(trained)
    return plan, trained, receipt


def assert_plan_is_what_was_used(plan: Plan, module: Tiny, receipt: Receipt) -> None:
    steps = range(plan.horizon.steps)
    assert [plan.at(step) for step in steps] == module.used
    assert receipt.text() == f"learning rate followed the plan ({len(steps)} of {len(steps)} steps)"


CASES = [(name, interval) for name in [*CATALOGUE, *TORCH] for interval in ("step", "epoch")]
# Lightning asks for the metric after the first step, when there is none.
CASES.remove(("ReduceLROnPlateau", "step"))


@pytest.mark.sampled(48)
@pytest.mark.parametrize(("name", "interval"), CASES)
def test_the_plan_is_what_training_uses(name, interval, run_all):
    schedule = {**CATALOGUE, **TORCH}[name]
    monitor = "val_loss" if name == "ReduceLROnPlateau" else None
    runs = [*RUNS.values()] if run_all else [random.Random(name + interval).choice([*RUNS.values()])]
    for run in runs:
        plan, module, receipt = plan_and_fit(configured_by(schedule, interval, monitor=monitor), **run)
        assert plan.interval == interval
        assert_plan_is_what_was_used(plan, module, receipt)


def adamw_with_groups(module: Tiny):
    groups = [{"params": module.backbone.parameters(), "lr": 0.01, "name": "backbone"}]
    optimizer = torch.optim.AdamW([*groups, {"params": module.head.parameters(), "name": "head"}], lr=0.1)
    others = {"momentum": Linear(1.0, 0.9), "weight_decay/head": Cosine(), "lr/backbone": Constant(0.5)}
    return schedule_config(optimizer, WarmupLinear("1ep"), module.trainer, groups=others)


def several(module: Tiny):
    optimizer = module.make_optimizer()
    by_step = torch_schedulers.ExponentialLR(optimizer, 0.99)
    by_epoch = torch_schedulers.StepLR(optimizer, 2, 0.5)
    plateau = torch_schedulers.ReduceLROnPlateau(optimizer, factor=0.7, patience=0)
    return [optimizer], [
        {"scheduler": plateau, "interval": "epoch", "monitor": "val_loss"},
        {"scheduler": by_step, "interval": "step", "frequency": 2},
        {"scheduler": by_epoch, "interval": "epoch"},
    ]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("configure_optimizers", [Tiny.make_optimizer, adamw_with_groups, several])
def test_any_optimizer_any_groups_any_number_of_schedulers(configure_optimizers, run):
    assert_plan_is_what_was_used(*plan_and_fit(configure_optimizers, **RUNS[run]))


VAL_LOSS = [1.0, 0.9, 0.9, 0.95, 0.7, 0.7, 0.7, 0.7, 0.69, 0.7, 0.7, 0.7, 0.7]
PLATEAUS = {
    "ours, by step": ("step", Plateau(WarmupLinear("1ep", end=0.2), factor=0.5, patience=0, cooldown=1)),
    "ours, by epoch": ("epoch", Plateau(WarmupLinear("1ep", end=0.2), factor=0.5, patience=0, cooldown=1)),
    "torch's": ("epoch", partial(torch_schedulers.ReduceLROnPlateau, factor=0.5, patience=0, cooldown=1)),
}


@pytest.mark.parametrize(
    "run",
    [
        {},
        {"accumulate_grad_batches": 3},
        {"val_check_interval": 0.5},
        {"val_check_interval": 4, "accumulate_grad_batches": 2},
        {"val_check_interval": 7, "check_val_every_n_epoch": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("plateau", PLATEAUS)
def test_a_recorded_metric_is_replayed(plateau, run, tmp_path):
    interval, schedule = PLATEAUS[plateau]
    file = tmp_path / "metric.csv"
    file.write_text("\n".join(map(str, VAL_LOSS)))
    configure_optimizers = configured_by(schedule, interval, monitor="val_loss")
    plan, module, receipt = plan_and_fit(configure_optimizers, str(file), VAL_LOSS, **run)
    assert_plan_is_what_was_used(plan, module, receipt)
    assert module.used[-1]["lr/group0"] < module.used[11]["lr/group0"]


@pytest.mark.parametrize("schedule", [Cosine(), TORCH["StepLR"]], ids=["ours", "torch's"])
def test_a_schedule_that_a_callback_brings(schedule):
    def trainer_with_it(*callbacks):
        return tiny_trainer(callbacks=[*callbacks, ApplySchedule(schedule, replace=True)])

    trainer, receipt, module = trainer_with_it(), Receipt(), Tiny(configured_by(Constant(), "step"))
    plan, _ = plan_fit(trainer, configure(trainer, Tiny(configured_by(Constant(), "step"))))
    trainer_with_it(receipt).fit(module)
    assert_plan_is_what_was_used(plan, module, receipt)


@pytest.mark.parametrize("automatic", [True, False])
def test_a_recorded_metric_is_replayed_for_other_schedules(automatic, tmp_path):
    module, trainer = Tiny(Tiny.make_optimizer), tiny_trainer()
    module.automatic_optimization = automatic
    record = tmp_path / "val_loss.csv"
    record.write_text("val_loss\n1\n1\n1\n")
    halving = Plateau(patience=0, factor=0.5)
    plans, _ = plans_of(trainer, configure(trainer, module), {"halving": halving}, metric=str(record))
    first = plans["halving"].at(0)["lr/group0"]
    assert [plans["halving"].at(step)["lr/group0"] / first for step in (10, 21, 22, 33)] == [1, 1, 0.5, 0.25]


def test_the_same_by_hand_and_from_a_run():
    for name, schedule in CATALOGUE.items():
        by_hand = plan_of(schedule, Horizon(55, 11), lr=0.1)
        module = Tiny(configured_by(schedule, "step"))
        trainer = tiny_trainer()
        of_run, _ = plan_fit(trainer, configure(trainer, module))
        assert [by_hand.at(step)["lr"] for step in range(55)] == [of_run.at(n)["lr/group1"] for n in range(55)], name


def test_a_plan_on_several_devices_starts_no_process():
    module = Tiny(configured_by(Linear(), "step"), batches=11)
    trainer = tiny_trainer(devices=2, strategy="ddp")
    plan, _ = plan_fit(trainer, configure(trainer, module))
    assert plan.horizon == Horizon(30, 6)  # 11 rows on two devices are 6 on each
    assert not torch.distributed.is_initialized()


def test_planning_leaves_schedulers_as_they_are():
    module = Tiny(several)
    trainer = tiny_trainer()
    run = configure(trainer, module)
    before = [dict(group) for group in run.optimizers[0].param_groups], [vars(one.scheduler) for one in run.configs]
    plan_fit(trainer, run)
    after = [dict(group) for group in run.optimizers[0].param_groups], [vars(one.scheduler) for one in run.configs]
    assert str(after) == str(before)


def test_planning_hooks_nothing_to_an_optimizer(monkeypatch):
    trainer = tiny_trainer()
    run = configure(trainer, Tiny(lambda own: schedule_config(own.make_optimizer(), Linear(), own.trainer)))
    hooked: list[Any] = []
    monkeypatch.setattr(run.optimizers[0], "register_step_post_hook", hooked.append)
    plan_fit(trainer, run)
    assert hooked == []


class AsksItsTrainer(Tiny):
    """Its scheduler's function is a method, which asks the trainer."""

    def factor(self, epoch: int, more: float = 0.0) -> float:
        return 1 - epoch / self.trainer.max_epochs / 2 + more

    def __deepcopy__(self, memo: Any) -> Any:
        raise AssertionError("a module is not copied for a plan")


@pytest.mark.parametrize(
    "make",
    [
        lambda own, optimizer: torch_schedulers.LambdaLR(optimizer, own.factor),
        lambda own, optimizer: torch_schedulers.LambdaLR(optimizer, [own.factor, partial(own.factor, more=0.1)]),
        lambda own, optimizer: torch_schedulers.ChainedScheduler([torch_schedulers.LambdaLR(optimizer, own.factor)]),
    ],
    ids=["method", "partial", "nested"],
)
def test_a_method_of_the_module_is_asked_as_it_is(make):
    def configured(own: Tiny) -> Any:
        optimizer = own.make_optimizer()
        return [optimizer], [make(own, optimizer)]

    receipt = Receipt()
    module, trainer = AsksItsTrainer(configured), tiny_trainer()
    plan, _ = plan_fit(trainer, configure(trainer, module))
    tiny_trainer(receipt).fit(AsksItsTrainer(configured))
    assert plan.broken is None
    assert plan.at(54)["lr/group0"] == pytest.approx(0.6 * plan.at(0)["lr/group0"], rel=0.2)
    assert receipt.text() == "learning rate followed the plan (55 of 55 steps)"


def test_the_lengths_of_schedulers_inside_others_and_of_none():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)

    def after(ticks: int, last: Any) -> Any:
        constant = torch_schedulers.ConstantLR(optimizer, 1.0, 1)
        return torch_schedulers.SequentialLR(optimizer, [constant, last], [ticks])

    cosine = torch_schedulers.CosineAnnealingLR(optimizer, T_max=30)
    assert [made.ticks for made in made_for(after(10, after(20, cosine)))] == [60]
    endless = torch_schedulers.ExponentialLR(optimizer, 0.9)
    assert [made.ticks for made in made_for(after(10, after(20, endless)))] == [30]
    assert made_for(torch_schedulers.MultiStepLR(optimizer, [])) == []


def counted(schedule, horizon):
    calls = []

    def count(step, horizon):
        calls.append(step)
        return schedule(step, horizon)

    sample(plan_of(as_schedule(count), horizon))
    return len(calls)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_million_steps_are_not_all_looked_at(name):
    assert counted(CATALOGUE[name], Horizon(1_000_000, 10)) < 25_000


def test_what_is_seen_of_a_million_steps_is_exact():
    plan = plan_of(as_schedule(partial(torch_like_steps, drops=(123_457, 654_321))), Horizon(1_000_000, 1000))
    assert [step for step, what in key_moments(plan, sample(plan))] == [0, 123_457, 654_321, 999_999]


def torch_like_steps(step: int, horizon: Horizon, drops: tuple[int, ...]) -> float:
    return 0.1 ** sum(step >= drop for drop in drops)


def test_key_moments():
    plan = plan_of(WarmupLinear("10%"), Horizon(100, 10))
    assert key_moments(plan, sample(plan)) == [
        (0, "first step"),
        (10, "warmup ends, decay begins, peak"),
        (99, "last step"),
    ]
    plan = plan_of(Linear(0.0, 1.0, "25st"), Horizon(100, 10), "epoch")
    # the line ends within epoch 2, so the factor stays from the start of epoch 3 on
    assert key_moments(plan, sample(plan)) == [
        (0, "first step"),
        (30, "Linear ends, held begins, peak"),
        (99, "last step"),
    ]


def test_trends_of_a_restart_are_two_falls():
    found = trends(range(7), [3, 2, 1, 3, 2, 1, 0], end=7)
    assert [tuple(span) for span in found] == [("falling", 0, 3), ("falling", 3, 7)]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.5\n0.4\n", [0.5, 0.4]),
        ("epoch,val_loss,lr\n0,0.5,1\n1,,1\n2,0.25,1\n", [0.5, 0.25]),
        ("loss\n1\n2\n", [1.0, 2.0]),
        ("\ufeff0.5\n0.4\n", [0.5, 0.4]),
        ("\ufeffval_loss, epoch\n0.5, 0\n", [0.5]),
        ("epoch, val_loss\n0, 0.5\n", [0.5]),
    ],
)
def test_a_metric_from_a_file(text, values, tmp_path):
    (tmp_path / "metric").write_text(text, encoding="utf-8")
    assert read_metric(str(tmp_path / "metric"), "val_loss") == values


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot be read"),
        ("", "no values"),
        ("1\nx\n", "'x'"),
        ("a,val_los\n1,2\n", "did you mean 'val_los'"),
        ("0,0.5\n1,0.4\n", "has 2 columns and no header"),
        ("val_loss,\xe9\n1,2\n", "cannot be read: it is not a text file"),
        ('val_loss\n"' + 70_000 * "1\n", "cannot be read: field larger than field limit"),
    ],
)
def test_a_metric_that_is_none(text, told, tmp_path):
    if text is not None:
        (tmp_path / "metric").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=told):
        read_metric(str(tmp_path / "metric"), "val_loss")


def test_an_optimizer_with_its_rate_in_a_tensor():
    def configure_optimizers(module: Tiny):
        optimizer = Adam(module.parameters(), lr=torch.tensor(0.1), foreach=False)
        return schedule_config(optimizer, partial(torch_schedulers.ExponentialLR, gamma=0.9), module.trainer)

    assert_plan_is_what_was_used(*plan_and_fit(configure_optimizers))
