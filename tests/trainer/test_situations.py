"""Whatever Lightning does to a run, a step of the schedule is a step of the optimizer, and both end together."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler, Timer
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.tuner import Tuner
from torch.optim import LBFGS, SGD
from torch.utils.data import DataLoader, IterableDataset

from lit_lrsched import ApplySchedule, Cosine, Horizon, Linear, Plateau, Schedule, ScheduledLR, WarmupCosine, table
from lit_lrsched.errors import InputError
from lit_lrsched.trainer.callbacks.receipt import Receipt
from tests.training import (
    Endless,
    Forgetful,
    Numbers,
    SaveAt,
    Small,
    Used,
    Validated,
    quiet_trainer,
    scheduled,
    sgd,
    small,
    used_by,
)

SCHEDULE = WarmupCosine(warmup="20%", end=0.1)


class WithLength(IterableDataset):
    def __iter__(self):
        return iter(Forgetful(5))

    def __len__(self) -> int:
        return 5


class StopsAtOnce(EarlyStopping):
    def __init__(self) -> None:
        super().__init__("train_loss", patience=0, stopping_threshold=1e9, check_on_train_epoch_end=True)


class Hurry(Timer):
    """What ``max_time`` puts into the trainer, with a clock that goes by batches."""

    def __init__(self) -> None:
        super().__init__(datetime.timedelta(seconds=7))
        self.batches = 0

    def time_elapsed(self, stage: Any = None) -> float:
        return self.batches

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.batches += 1
        super().on_train_batch_end(trainer, pl_module, *args)


ENDLESS = {"data": Endless(5), "max_epochs": -1}

# What the run is given, the horizon that it has, and the steps that it takes if these are not as many.
SITUATIONS: dict[str, tuple[dict[str, Any], Horizon, int | None]] = {
    "as it comes": ({}, Horizon(12, 4), None),
    "accumulation": ({"accumulate_grad_batches": 2}, Horizon(6, 2), None),
    "accumulation, last batch flushed": ({"data": Numbers(5), "accumulate_grad_batches": 2}, Horizon(9, 3), None),
    "accumulation over more than an epoch": ({"accumulate_grad_batches": 7}, Horizon(3, 1), None),
    "limit_train_batches": ({"limit_train_batches": 3}, Horizon(9, 3), None),
    "limit_train_batches, a share": ({"limit_train_batches": 0.5}, Horizon(6, 2), None),
    "max_steps inside an epoch": ({"max_steps": 7}, Horizon(7, 4), None),
    "max_steps alone": ({"max_steps": 9, "max_epochs": -1}, Horizon(9, 4), None),
    "max_steps beyond max_epochs": ({"max_steps": 100}, Horizon(12, 4), None),
    "max_steps and accumulation": (
        {"max_steps": 5, "max_epochs": -1, "accumulate_grad_batches": 3},
        Horizon(5, 2),
        None,
    ),
    "max_time reached": ({"callbacks": [Hurry]}, Horizon(12, 4), 7),
    "max_time never reached": ({"max_time": datetime.timedelta(days=1)}, Horizon(12, 4), None),
    "min_epochs": ({"min_epochs": 2, "callbacks": [StopsAtOnce]}, Horizon(12, 4), 8),
    "min_steps": ({"min_steps": 5, "callbacks": [StopsAtOnce]}, Horizon(12, 4), 5),
    "early stopping": ({"callbacks": [StopsAtOnce]}, Horizon(12, 4), 4),
    "val_check_interval, a share": ({"val": Numbers(1), "val_check_interval": 0.5}, Horizon(12, 4), None),
    "val_check_interval, batches": ({"val": Numbers(1), "val_check_interval": 3}, Horizon(12, 4), None),
    "val_check_interval across epochs": (
        {"val": Numbers(1), "val_check_interval": 5, "check_val_every_n_epoch": None},
        Horizon(12, 4),
        None,
    ),
    "check_val_every_n_epoch": ({"val": Numbers(1), "check_val_every_n_epoch": 2}, Horizon(12, 4), None),
    "sanity check": ({"val": Numbers(1), "num_sanity_val_steps": 1}, Horizon(12, 4), None),
    "no length": ({**ENDLESS, "max_steps": 12}, Horizon(12, 12), None),
    "no length, accumulation": ({**ENDLESS, "max_steps": 7, "accumulate_grad_batches": 2}, Horizon(7, 7), None),
    "no length, limited": ({**ENDLESS, "max_epochs": 3, "limit_train_batches": 3}, Horizon(9, 3), None),
    "no length, max_epochs first": ({**ENDLESS, "max_epochs": 2, "max_steps": 50}, Horizon(50, 50), 10),
    "iterable with a length": ({"data": DataLoader(WithLength(), batch_size=None)}, Horizon(15, 5), None),
    "reloaded each epoch": ({"reload_dataloaders_every_n_epochs": 1}, Horizon(12, 4), None),
    "overfit_batches": ({"data": DataLoader(torch.ones(10, 1)), "overfit_batches": 3}, Horizon(9, 3), None),
    "fast_dev_run": ({"fast_dev_run": 5, "data": Numbers(8)}, Horizon(5, 5), None),
    "bf16-mixed": ({"precision": "bf16-mixed"}, Horizon(12, 4), None),
    "bf16-true": ({"precision": "bf16-true"}, Horizon(12, 4), None),
    "64-true": ({"precision": "64-true"}, Horizon(12, 4), None),
    "gradients clipped": ({"gradient_clip_val": 0.1}, Horizon(12, 4), None),
    "anomalies detected": ({"detect_anomaly": True}, Horizon(12, 4), None),
    "barebones": ({"barebones": True, "enable_checkpointing": None, "logger": None}, Horizon(12, 4), None),
}
QUIET = [
    "ignore:The number of training batches",
    "ignore:You requested to overfit",
    "ignore:.*Consider setting `persistent_workers",
    "ignore:You have turned on `Trainer.detect_anomaly",
    "ignore:Your `IterableDataset` has `__len__` defined",
    "ignore:You are trying to `self.log\\(\\)` but `Trainer\\(barebones=True",
]


def follows(used: Used, schedule: Schedule, horizon: Horizon, interval: str, steps: int | None) -> None:
    factors = table(schedule, horizon)
    if interval == "epoch":
        held = table(schedule, horizon, "epoch")
        factors = [held[n // horizon.steps_per_epoch] for n in range(horizon.steps)]
    assert used.first_rates == [0.1 * factor for factor in factors[:steps]]


def run(situation: str, schedule: Schedule, by: str, interval: str) -> Used:
    options = dict(SITUATIONS[situation][0])
    callbacks = [make() for make in options.pop("callbacks", [])]
    kind = Validated if "val" in options else Small
    if by == "callback":
        return used_by(kind(), ApplySchedule(schedule, interval=interval), *callbacks, **options)
    return used_by(kind(scheduled(schedule, interval=interval)), *callbacks, **options)


@pytest.mark.filterwarnings(*QUIET)
@pytest.mark.parametrize("by", ["callback", "configure_optimizers"])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_step_of_the_schedule_is_a_step_of_the_optimizer(situation, by):
    _, horizon, steps = SITUATIONS[situation]
    follows(run(situation, SCHEDULE, by, "step"), SCHEDULE, horizon, "step", steps)


@pytest.mark.filterwarnings(*QUIET)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_an_epoch_of_the_schedule_is_an_epoch(situation):
    _, horizon, steps = SITUATIONS[situation]
    if horizon.steps == horizon.steps_per_epoch and situation.startswith("no length"):
        with pytest.raises(InputError, match="the training data has no length, so its epochs have none"):
            run(situation, SCHEDULE, "callback", "epoch")
    else:
        follows(run(situation, SCHEDULE, "callback", "epoch"), SCHEDULE, horizon, "epoch", steps)


def test_accumulation_that_changes():
    # 5 batches an epoch: 5 steps, then 3 (2 + 2 + 1), then 3
    changing = GradientAccumulationScheduler({0: 1, 1: 2})
    horizon = Horizon(11, 11)
    follows(used_by(small(SCHEDULE), changing, data=Numbers(5)), SCHEDULE, horizon, "step", None)
    follows(used_by(small(SCHEDULE), changing, data=Numbers(5), max_steps=7), SCHEDULE, Horizon(7, 7), "step", None)
    message = "GradientAccumulationScheduler gives epochs different numbers of steps, so they have no one length: give"
    for options in ({"schedule": WarmupCosine("1ep")}, {"schedule": Linear(), "interval": "epoch"}):
        with pytest.raises(InputError, match=message):
            used_by(small(**options), changing)


@pytest.mark.parametrize(
    "options", [{"limit_train_batches": 0}, {"data": Numbers(0)}, {"max_steps": 0}, {"max_epochs": 0}]
)
@pytest.mark.filterwarnings("ignore:Total length of")
def test_nothing_to_train(options):
    with pytest.raises(InputError, match="there is nothing to train, no batches or no steps"):
        used_by(small(Linear()), **options)


def test_max_time_alone_is_no_horizon():
    with pytest.raises(InputError, match=r"as max_time alone does.*set max_epochs or max_steps"):
        used_by(small(Linear()), max_time="00:00:01:00", max_epochs=None)


def test_a_batch_that_the_module_skips_is_no_step():
    class Skips(Small):
        def on_train_batch_start(self, batch: torch.Tensor, batch_idx: int) -> int | None:
            return -1 if self.trainer.current_epoch == 1 and batch_idx == 2 else None  # no more of epoch 1

    # 4 + 2 + 4 steps are taken of the 12 that were planned
    used = used_by(Skips(scheduled(Linear())))
    assert used.first_rates == pytest.approx([0.1 * (1 - n / 12) for n in range(10)])


class TooLong(Forgetful):
    def __len__(self) -> int:
        return self.count + 1


def test_data_that_claims_more_batches_than_it_has_is_told_once():
    told = r"epoch 0 ended after 4 batches of the 5 that its data claims, .* set limit_train_batches=4"
    with pytest.warns(UserWarning, match=told) as warned:
        used = used_by(small(Linear()), data=TooLong())
    assert len([one for one in warned if "claims" in str(one.message)]) == 1
    assert used.first_rates == pytest.approx([0.1 * (1 - n / 15) for n in range(12)])
    used_by(small(Linear()), data=TooLong(), max_steps=9)  # which is where the schedule ends as well


def test_an_optimizer_step_that_the_module_leaves_out_does_not_advance_the_schedule():
    class EverySecond(Small):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            if batch_idx % 2:
                optimizer.step(closure=optimizer_closure)
            else:
                optimizer_closure()

    used = used_by(EverySecond(scheduled(Linear())))
    assert used.first_rates == pytest.approx([0.1 * (1 - n / 12) for n in range(6)])


def test_an_optimizer_that_asks_for_the_loss_many_times_takes_one_step():
    used = used_by(small(Linear(), make_optimizer=lambda module: LBFGS(module.parameters(), lr=0.1)))
    assert used.first_rates == pytest.approx([0.1 * (1 - n / 12) for n in range(12)])


class Overflows(Small):
    """Some batches, counted from 0, give infinite gradients."""

    overflowing = (0, 1, 5)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * torch.inf if self.trainer.fit_loop.total_batch_idx in self.overflowing else loss


def scaling() -> MixedPrecision:
    return MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=2.0))


def test_steps_that_the_grad_scaler_skips_do_not_advance_the_schedule():
    used = used_by(Overflows(scheduled(Linear())), plugins=[scaling()])
    assert used.first_rates == pytest.approx([0.1 * (1 - n / 12) for n in range(9)])  # 3 of the 12 are skipped
    held = used_by(Overflows(scheduled(Linear(), interval="epoch")), plugins=[scaling()])
    # by the epoch it is epochs that count: 2 of 4 steps, 3 of 4, 4 of 4
    assert held.first_rates == pytest.approx([0.1] * 2 + [0.1 * 2 / 3] * 3 + [0.1 / 3] * 4)


def test_nor_do_those_that_a_fused_optimizer_leaves_out_itself():
    def fused(module):
        return SGD(module.parameters(), lr=0.1, fused=True)

    receipt = Receipt()
    used = used_by(Overflows(scheduled(Linear(), fused)), receipt, plugins=[scaling()])
    # It is called for all 12 steps, and takes those of batches 0, 1 and 5 without a change.
    steps_before = (0, 0, 0, 1, 2, 3, 3, 4, 5, 6, 7, 8)
    assert used.first_rates == pytest.approx([0.1 * (1 - n / 12) for n in steps_before])
    assert receipt.text() == "learning rate followed the plan (9 of 9 steps; 12 were planned)"


@pytest.mark.parametrize("batches", range(1, 12))
def test_resumed_after_skipped_steps(batches, tmp_path):
    saver = SaveAt(tmp_path)
    whole = used_by(Overflows(scheduled(Linear())), saver, plugins=[scaling()])
    tail = used_by(Overflows(scheduled(Linear())), plugins=[scaling()], ckpt=saver.paths[batches - 1])
    steps = sum(batch not in Overflows.overflowing for batch in range(batches))
    assert tail.rates == whole.rates[steps:]


def test_in_plain_torch_a_scheduler_can_wait_for_the_optimizer():
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer, scaler = torch.optim.SGD([weight], lr=0.1), torch.amp.GradScaler("cpu", init_scale=2.0)
    scheduler = ScheduledLR(optimizer, Linear(), Horizon(10))
    scheduler.wait_for_optimizer()
    rates = []
    for batch in range(10):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.zero_grad()
        scaler.scale((weight * (torch.inf if batch in (0, 3, 4) else 1.0)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()
    # the steps of batches 0, 3 and 4 are skipped, and the rates that they would have used are used again
    assert rates == pytest.approx([0.1 * (1 - n / 10) for n in (0, 0, 1, 2, 2, 2, 3, 4, 5, 6)])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed", "32-true"])
def test_on_a_gpu(precision):
    used = used_by(Overflows(scheduled(Linear())), accelerator="gpu", devices=1, precision=precision)
    steps = 9 if precision == "16-mixed" else 12
    assert used.first_rates == pytest.approx([0.1 * (1 - n / 12) for n in range(steps)])


VALIDATIONS = {
    # How often the metric, always the same, is seen before each epoch: with patience 0 every time but the first halves.
    "each epoch": ({}, [0, 1, 2, 3]),
    "twice an epoch": ({"val_check_interval": 0.5}, [0, 2, 4, 6]),
    "every second epoch": ({"check_val_every_n_epoch": 2}, [0, 0, 1, 1]),
    "sanity checks do not count": ({"num_sanity_val_steps": 1}, [0, 1, 2, 3]),
}


@pytest.mark.parametrize("by", ["callback", "configure_optimizers"])
@pytest.mark.parametrize("case", VALIDATIONS)
def test_a_plateau_sees_each_validation_once(case, by):
    options, seen = VALIDATIONS[case]
    plateau = Plateau(patience=0, factor=0.5)
    if by == "callback":
        used = used_by(Validated(), ApplySchedule(plateau), val=Numbers(2), max_epochs=4, **options)
    else:
        used = used_by(Validated(scheduled(plateau)), val=Numbers(2), max_epochs=4, **options)
    assert used.epochs() == pytest.approx([0.1 * 0.5 ** max(0, times - 1) for times in seen])


def test_a_plateau_whose_metric_is_not_logged():
    plateau = Plateau(monitor="val_los", mode="min", patience=0)
    message = "Plateau follows 'val_los', which is not logged when an epoch ends: set its monitor to one of "
    with pytest.raises(InputError, match=message + "train_loss"):
        used_by(small(plateau))
    with pytest.raises(InputError, match=message + "(val_loss|train_loss), (val_loss|train_loss)"):
        used_by(Validated(scheduled(plateau)), val=Numbers(1))


def test_a_plateau_does_not_take_an_old_value_of_training_for_one_of_validation():
    # Validation logs nothing, and stands between the epochs: at each, the loss of the epoch before is still around.
    class Silent(Validated):
        val_losses = ()

        def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
            pass

    plateau = Plateau(monitor="train_loss", patience=0, factor=0.5)
    module = Silent(scheduled(plateau, lambda module: sgd(module, lr=1e-12, weight_decay=0.0)))
    used = used_by(module, val=Numbers(1), max_epochs=5, val_check_interval=0.5)
    assert used.epochs() == pytest.approx([1e-12 * factor for factor in (1, 1, 1 / 2, 1 / 4, 1 / 8)])


@pytest.mark.parametrize("by", ["callback", "configure_optimizers"])
def test_fast_dev_run_is_too_short_for_many_a_schedule_but_finds_mistakes(by):
    def make(schedule: Schedule, **options: Any) -> tuple[Small, list[Callback]]:
        if by == "callback":
            return Small(), [ApplySchedule(schedule, **options)]
        return small(schedule, **options), []

    module, callbacks = make(WarmupCosine("500st"))
    assert used_by(module, *callbacks, fast_dev_run=True).first_rates == [0.1]
    module, callbacks = make(WarmupCosine("500st"), groups={"momentun": Linear()})
    with pytest.raises(InputError, match="did you mean 'momentum'"):
        used_by(module, *callbacks, fast_dev_run=True)


def test_the_learning_rate_finder_works_on_the_bare_rate_and_the_schedule_comes_back():
    used, module = Used(), small(Cosine())
    module.lr = 0.1
    trainer = quiet_trainer(used)
    found = Tuner(trainer).lr_find(module, Numbers(), num_training=5, update_attr=False)
    assert len(found.results["lr"]) == 5
    trainer.fit(module, Numbers())
    assert used.first_rates[-12:] == [0.1 * factor for factor in table(Cosine(), Horizon(12, 4))]
