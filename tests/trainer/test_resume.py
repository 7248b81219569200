"""Stopped at any step and resumed, a run uses the rates, and reaches the weights, of the run that went through."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler, ModelCheckpoint, Timer

from lit_lrsched import ApplySchedule, FromTorch, Horizon, Linear, Plateau, ScheduledLR, WarmupLinear
from tests.catalogue import CATALOGUE
from tests.training import (
    BATCHES,
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

EPOCHS = 5  # of 4 batches: the catalogue is made for 20 steps or more

TORCH = {
    "CosineAnnealingLR": FromTorch("CosineAnnealingLR"),
    "CosineAnnealingLR climbing again": FromTorch("CosineAnnealingLR", {"T_max": 7}),
    "CosineAnnealingWarmRestarts": FromTorch("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2}),
    "CyclicLR with momentum": FromTorch("CyclicLR", {"base_lr": 0.1, "max_lr": 1.0, "step_size_up": 3}),
    "OneCycleLR with momentum": FromTorch("OneCycleLR"),
    "OneCycleLR each epoch": FromTorch("OneCycleLR", every="1ep"),
    "StepLR": FromTorch("StepLR", {"step_size": "20%", "gamma": 0.5}),
    "MultiplicativeLR": FromTorch(
        lambda optimizer: torch.optim.lr_scheduler.MultiplicativeLR(optimizer, lambda epoch: 0.9)
    ),
    "SequentialLR": FromTorch(
        "SequentialLR",
        {
            "schedulers": [
                {"class_path": "LinearLR", "init_args": {"start_factor": 0.1, "total_iters": 6}},
                {"class_path": "CosineAnnealingLR", "init_args": {"T_max": 14}},
            ],
            "milestones": [6],
        },
    ),
    "ChainedScheduler": FromTorch(
        "ChainedScheduler",
        {
            "schedulers": [
                {"class_path": "ConstantLR", "init_args": {"factor": 0.1, "total_iters": 4}},
                {"class_path": "ExponentialLR", "init_args": {"gamma": 0.9}},
            ]
        },
    ),
}
EVERY = {
    **CATALOGUE,
    "Plateau": Plateau(monitor="val_loss", factor=0.5, patience=0),
    "Plateau after warmup": Plateau(WarmupLinear("1ep", end=1.0), factor=0.5, patience=0, cooldown=1),
    **TORCH,
}


@dataclass
class Whole:
    """A run that went through, the checkpoint of each of its steps, and what it used from there on."""

    used: Used
    weights: torch.Tensor
    checkpoints: list[Path]


class Stalls(Validated):
    # Better, worse, better, worse, worse: of the reductions that patience=0 asks for, some come before any given step.
    val_losses = (1.0, 2.0, 0.5, 0.7, 0.8)


def make(schedule: Any, interval: str) -> Small:
    return Stalls(scheduled(schedule, interval=interval))


def whole_run(folder: Path, schedule: Any, interval: str) -> Whole:
    saver, module = SaveAt(folder), make(schedule, interval)
    used = used_by(module, saver, val=Numbers(1), max_epochs=EPOCHS)
    return Whole(used, module.weights.detach(), saver.paths)


@pytest.mark.sampled(42)
@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("name", EVERY)
def test_every_schedule_from_every_step(name, interval, tmp_path, run_all):
    whole = whole_run(tmp_path, EVERY[name], interval)
    # After an epoch's last batch and before its validation, Lightning forgets the validation: see below.
    stops = [n for n in range(1, EPOCHS * BATCHES) if not (isinstance(EVERY[name], Plateau) and n % BATCHES == 0)]
    for stop in stops if run_all else random.Random(f"{name} {interval}").sample(stops, 1):
        module = make(EVERY[name], interval)
        tail = used_by(module, val=Numbers(1), max_epochs=EPOCHS, ckpt=whole.checkpoints[stop - 1])
        assert len(tail.rates) == EPOCHS * BATCHES - stop
        assert tail.rates == whole.used.rates[stop:], f"resumed after {stop} steps"
        assert tail.momenta == whole.used.momenta[stop:]
        assert torch.equal(module.weights, whole.weights)


def is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(is_plain(item) for pair in value.items() for item in pair)
    if isinstance(value, list):
        return all(is_plain(item) for item in value)
    return type(value) in (int, float, str, bool)


@pytest.mark.parametrize("name", ["OneCycleLR with momentum", "Plateau after warmup", "nested chains"])
def test_the_state_is_plain_numbers(name, tmp_path):
    whole = whole_run(tmp_path, EVERY[name], "step")
    (state,) = torch.load(whole.checkpoints[6], weights_only=True)["lr_schedulers"]
    assert is_plain(state)
    assert state["last_epoch"] == 7


@pytest.mark.parametrize("hook", ["on_validation_end", "on_train_epoch_end"])
def test_from_a_checkpoint_of_any_hook(hook, tmp_path):
    schedule, saver = Plateau(WarmupLinear("1ep", end=0.5), patience=0, factor=0.5), SaveAt(tmp_path, hook)
    whole = used_by(make(schedule, "step"), saver, val=Numbers(1), max_epochs=EPOCHS)
    for number, steps in enumerate(range(BATCHES, EPOCHS * BATCHES, BATCHES)):
        tail = used_by(make(schedule, "step"), val=Numbers(1), max_epochs=EPOCHS, ckpt=saver.paths[number])
        assert tail.rates == whole.rates[steps:]


class LogsAtTheEnd(Small):
    def on_train_epoch_end(self) -> None:
        self.log("at_the_end", 1.0)


class ValidatedSometimes(Validated, LogsAtTheEnd):
    pass


@pytest.mark.parametrize("monitor", ["train_loss", "at_the_end"])
def test_a_plateau_that_follows_a_metric_of_training(monitor):
    # At such a rate the loss stays as it is, so it stalls from the second epoch on. Only every second epoch has a
    # validation: metrics of training are not to wait for it.
    optimizer = partial(sgd, lr=1e-12, weight_decay=0.0)
    configure = scheduled(Plateau(monitor=monitor, mode="min", patience=0, factor=0.5), optimizer)
    options = {"max_epochs": EPOCHS, "check_val_every_n_epoch": 2}
    whole = used_by(ValidatedSometimes(configure), val=Numbers(1), **options)
    assert whole.epochs() == pytest.approx([1e-12 * factor for factor in (1, 1, 1 / 2, 1 / 4, 1 / 8)])


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_model_checkpoint_after_an_epoch_knows_the_epochs_metric(tmp_path):
    configure = scheduled(Plateau(monitor="at_the_end", mode="min", patience=0, factor=0.5))
    keep_all = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    whole = used_by(LogsAtTheEnd(configure), keep_all, max_epochs=EPOCHS, enable_checkpointing=True)
    assert whole.epochs() == pytest.approx([0.1, 0.1, 0.05, 0.025, 0.0125])
    for epoch in range(EPOCHS - 1):
        tail = used_by(LogsAtTheEnd(configure), max_epochs=EPOCHS, ckpt=tmp_path / f"epoch={epoch}.ckpt")
        assert tail.rates == whole.rates[(epoch + 1) * BATCHES :]


def test_what_lightning_loses_a_validation(tmp_path):
    # A checkpoint of an epoch's last batch is written before the epoch's validation, and on resuming Lightning does
    # not make up for that: a plateau misses one value of its metric.
    schedule = Plateau(monitor="val_loss", factor=0.5, patience=0)
    whole = whole_run(tmp_path, schedule, "step")
    # 1.0 sets the best, 2.0 halves, 0.5 is better, 0.7 halves, (0.8 comes after the last step)
    assert whole.used.epochs() == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025])
    tail = used_by(make(schedule, "step"), val=Numbers(1), max_epochs=EPOCHS, ckpt=whole.checkpoints[2 * BATCHES - 1])
    # resumed before the 2.0 was seen: 0.5 is better, 0.7 halves
    assert tail.epochs() == pytest.approx([0.1, 0.1, 0.05])


def test_what_lightning_loses_accumulated_gradients(tmp_path):
    # Five batches, two to a step: steps after batches 2, 4 and 5. A checkpoint holds no gradients, so one after batch
    # 3 has lost that of batch 3. The rates are right all the same.
    options = {"accumulate_grad_batches": 2, "max_epochs": 3}
    saver, module = SaveAt(tmp_path), small(Linear())
    whole = used_by(module, saver, data=Numbers(5), **options)
    assert whole.first_rates == pytest.approx([0.1 * (1 - n / 9) for n in range(9)])
    for batches, steps in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 3), (6, 3), (7, 4), (13, 7), (14, 8)]:
        resumed = small(Linear())
        tail = used_by(resumed, data=Numbers(5), ckpt=saver.paths[batches - 1], **options)
        assert tail.rates == whole.rates[steps:]
        assert torch.equal(resumed.weights, module.weights) == (batches in (2, 4, 5, 7, 14))


def test_within_an_epoch_accumulation_goes_on_as_it_was(tmp_path):
    # Five batches: 5 steps, then 3 (2 + 2 + 1), then 3. Lightning by itself would go on with batches one by one.
    def accumulation() -> Callback:
        return GradientAccumulationScheduler({0: 1, 1: 2})

    saver, module = SaveAt(tmp_path), small(Linear())
    whole = used_by(module, saver, accumulation(), data=Numbers(5))
    for batches, steps in [(3, 3), (5, 5), (7, 6), (10, 8), (12, 9)]:
        resumed = small(Linear())
        tail = used_by(resumed, accumulation(), data=Numbers(5), ckpt=saver.paths[batches - 1])
        assert tail.rates == whole.rates[steps:]
        assert torch.equal(resumed.weights, module.weights)


def test_a_loader_that_cannot_go_on_starts_its_epoch_anew(tmp_path):
    # Lightning says so itself; the number of steps, and so their rates, are as they were.
    saver = SaveAt(tmp_path)
    whole = used_by(small(Linear()), saver, data=Forgetful())
    with pytest.warns(UserWarning, match="not resumable"):
        tail = used_by(small(Linear()), data=Forgetful(), ckpt=saver.paths[5])
    assert tail.rates == whole.rates[6:]


def hand_made(schedule: Any, interval: str | None = None) -> tuple[LightningModule, Callback]:
    class ByHand(Small):
        automatic_optimization = False

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()

    return ByHand(), ApplySchedule(schedule, interval=interval)


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_module_that_steps_by_hand(interval, tmp_path):
    module, apply = hand_made(WarmupLinear("30%"), interval)
    saver = SaveAt(tmp_path)
    whole = used_by(module, saver, apply, max_epochs=EPOCHS)  # a saver that comes first sees the batch's end as well
    for steps in (1, 4, 5, 10, 12, 19):
        module, apply = hand_made(WarmupLinear("30%"), interval)
        tail = used_by(module, apply, max_epochs=EPOCHS, ckpt=saver.paths[steps - 1])
        assert tail.rates == whole.rates[steps:]


def test_the_callback_resumes_what_configure_optimizers_started_and_the_other_way_round(tmp_path):
    schedule = WarmupLinear("5st")
    saver = SaveAt(tmp_path)
    whole = used_by(Small(), saver, ApplySchedule(schedule))
    for steps in (2, 4, 7):
        assert used_by(small(schedule), ckpt=saver.paths[steps - 1]).rates == whole.rates[steps:]
    saver = SaveAt(tmp_path)
    assert used_by(small(schedule), saver).rates == whole.rates
    for steps in (2, 4, 7):
        assert used_by(Small(), ApplySchedule(schedule), ckpt=saver.paths[steps - 1]).rates == whole.rates[steps:]


class StopsAfter(Callback):
    """Stops as EarlyStopping and the Timer of ``max_time`` do, after so many steps."""

    def __init__(self, steps: int, hook: str) -> None:
        self._steps = steps
        setattr(self, hook, self._stop)

    def _stop(self, trainer: Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step >= self._steps


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
@pytest.mark.parametrize("validates", [False, True])
@pytest.mark.parametrize(
    "hook", ["on_train_batch_end", "on_train_batch_start", "on_validation_end", "on_train_epoch_end"]
)
@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_stopped_early_at_any_step_the_run_goes_on_to_its_end(interval, hook, validates, tmp_path, run_all):
    def make() -> Small:
        return (Validated if validates else Small)(scheduled(WarmupLinear("30%"), interval=interval))

    options = {"val": Numbers(1) if validates else None, "max_epochs": EPOCHS}
    module = make()
    whole = used_by(module, **options)
    stops = range(1, EPOCHS * BATCHES)
    for stop in stops if run_all else random.Random(f"{interval} {hook}").sample(stops, 2):
        keep_last = ModelCheckpoint(tmp_path / str(stop), "last")
        stopped = used_by(make(), StopsAfter(stop, hook), keep_last, enable_checkpointing=True, **options)
        resumed = make()
        tail = used_by(resumed, ckpt=tmp_path / str(stop) / "last.ckpt", **options)
        assert [*stopped.rates, *tail.rates] == whole.rates, f"stopped after {len(stopped.rates)} steps"
        assert torch.equal(resumed.weights, module.weights)


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
@pytest.mark.parametrize(
    ("callback", "steps"),
    [
        # The loss of the first validation is the best. That of the second is no better, and ends the second epoch.
        (EarlyStopping("val_loss", patience=1), 7),
        (EarlyStopping("train_loss", stopping_threshold=1e9, check_on_train_epoch_end=True), 4),
        (Timer(timedelta(0)), 6),  # as soon as `min_steps` allow
    ],
)
@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_what_lightning_stopped_early_goes_on_to_its_end(interval, callback, steps, tmp_path):
    def make() -> Small:
        return Validated(scheduled(WarmupLinear("30%"), interval=interval))

    options: dict[str, Any] = {"val": Numbers(1), "val_check_interval": 3, "max_epochs": EPOCHS}
    module, resumed = make(), make()
    keep_last = ModelCheckpoint(tmp_path, "last", save_on_train_epoch_end=True)
    whole = used_by(module, **options)
    least = {"min_steps": 6} if isinstance(callback, Timer) else {}
    stopped = used_by(make(), copy.deepcopy(callback), keep_last, enable_checkpointing=True, **least, **options)
    assert len(stopped.rates) == steps
    tail = used_by(resumed, ckpt=tmp_path / "last.ckpt", **options)
    assert [*stopped.rates, *tail.rates] == whole.rates
    assert torch.equal(resumed.weights, module.weights)


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`", "ignore:.*a jump of more than 1 %")
@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("steps", [2, 5])
def test_an_epoch_that_max_steps_has_cut_short_goes_on_in_a_longer_run(steps, interval, tmp_path):
    schedule = scheduled(WarmupLinear("30%"), interval=interval)
    whole, keep_last = used_by(Small(schedule)), ModelCheckpoint(tmp_path, "last", save_on_train_epoch_end=True)
    used_by(small(Linear()), keep_last, enable_checkpointing=True, max_steps=steps)
    assert used_by(Small(schedule), ckpt=tmp_path / "last.ckpt").rates == whole.rates[steps:]


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_what_lightning_loses_the_rest_of_an_epoch_with_schedulers_of_torch(tmp_path):
    # Stopped after the second of four batches, an epoch counts as done: a resumed run goes without the other two.
    keep_last = ModelCheckpoint(tmp_path, "last")
    used_by(stock("step"), StopsAfter(2, "on_train_batch_end"), keep_last, enable_checkpointing=True)
    tail = used_by(stock("step"), ckpt=tmp_path / "last.ckpt")
    assert tail.first_rates == pytest.approx([0.1 * 0.5**n for n in range(2, 10)])


def test_fit_again_in_the_same_process_goes_on(caplog):
    caplog.set_level("INFO", logger="lightning.pytorch")
    used = Used()
    trainer, module = quiet_trainer(used, max_epochs=2), small(Linear())
    trainer.fit(module, Numbers())
    trainer.fit_loop.max_epochs = 4
    # 8 of now 16 steps are done. What they used, a new scheduler does not know.
    trainer.fit(module, Numbers())
    assert "Resumed at step 8 of 16: learning rate 0.05" in caplog.messages
    assert used.first_rates == pytest.approx(
        [*(0.1 * (1 - n / 8) for n in range(8)), *(0.1 * (1 - n / 16) for n in range(8, 16))]
    )


@pytest.fixture
def says(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Returns what a run says before its first step."""
    caplog.set_level("INFO", logger="lightning.pytorch")
    return lambda: "".join(text for text in caplog.messages if text.startswith("Resumed"))


def test_the_same_schedule_says_that_the_rate_is_the_same(tmp_path, says):
    saver = SaveAt(tmp_path)
    used_by(small(Linear()), saver)
    used_by(small(Linear()), ckpt=saver.paths[2])
    assert says() == "Resumed at step 3 of 12: learning rate 0.075 -> 0.075"


def test_another_schedule_starts_where_the_old_one_stood_and_gives_its_momentum_back(tmp_path, says):
    saver = SaveAt(tmp_path)
    one_cycle = used_by(small(FromTorch("OneCycleLR")), saver)
    assert one_cycle.momenta[6] != [0.9]
    # Step 6 of 12: OneCycleLR peaks at step 0.3 * 12 - 1 = 2.6 and falls to 4e-6 at step 11 in a half cosine, so at 6
    # it is 4e-6 + (1 - 4e-6) * (1 + cos(pi * 3.4 / 8.4)) / 2 = 0.6473 of the base rate; Linear is at 1 - 6/12.
    with pytest.warns(UserWarning, match="a jump of more than 1 %"):
        tail = used_by(small(Linear()), ckpt=saver.paths[5])
    assert says().startswith("Resumed at step 6 of 12: learning rate 0.0647")
    assert says().endswith("-> 0.05")
    assert tail.first_rates == pytest.approx([0.1 * (1 - n / 12) for n in range(6, 12)])
    assert tail.momenta == [[0.9]] * 6


def stock(interval: str) -> Small:
    def configure(module: LightningModule) -> Any:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}

    return Small(configure)


@pytest.mark.parametrize("before", ["no scheduler", "torch's each step", "torch's each epoch"])
@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_checkpoint_of_another_scheduler_or_of_none(before, interval, tmp_path, says):
    saver = SaveAt(tmp_path)
    used_by(Small() if before == "no scheduler" else stock(before.split()[-1]), saver)
    # 5 steps are done, one of them in the second epoch. The checkpoint's own rate is 0.1, or halved 5 times or once.
    with pytest.warns(UserWarning, match="a jump of more than 1 %"):
        tail = used_by(small(Linear(), interval=interval), ckpt=saver.paths[4])
    by_step = [0.1 * (1 - n / 12) for n in range(5, 12)]
    by_epoch = [0.1 * (1 - n // 4 * 4 / 12) for n in range(5, 12)]
    assert tail.first_rates == pytest.approx(by_step if interval == "step" else by_epoch)
    old = {"no scheduler": "0.1", "torch's each step": "0.003125", "torch's each epoch": "0.05"}[before]
    step, new = (5, "0.0583333") if interval == "step" else (4, "0.0666667")
    assert says() == f"Resumed at step {step} of 12: learning rate {old} -> {new}"


@pytest.mark.filterwarnings("ignore:Resumed")
@pytest.mark.parametrize(("before", "after"), [("step", "epoch"), ("epoch", "step")])
def test_another_interval_goes_on_at_the_same_place(before, after, tmp_path):
    saver = SaveAt(tmp_path)
    used_by(small(Linear(), interval=before), saver)
    whole = used_by(small(Linear(), interval=after))
    for steps in range(1, 12):
        assert used_by(small(Linear(), interval=after), ckpt=saver.paths[steps - 1]).rates == whole.rates[steps:]


def test_in_plain_torch_the_state_of_another_scheduler_is_left_to_join():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = ScheduledLR(optimizer, Linear(), Horizon(10))
    scheduler.load_state_dict({"last_epoch": 7, "base_lrs": [3.0]})
    assert scheduler.get_last_lr() == [0.1]
    with pytest.warns(UserWarning, match=r"Resumed at step 7 of 10: learning rate 0\.1 -> 0\.03: a jump"):
        scheduler.join(7)
    assert scheduler.get_last_lr() == pytest.approx([0.1 * (1 - 7 / 10)])


def test_a_trainer_leaves_the_optimizers_own_values_where_no_schedule_drives_them(tmp_path):
    saver = SaveAt(tmp_path)
    groups = {"weight_decay": Linear()}
    whole = used_by(small(Linear(), groups=groups), saver)
    assert [decays[0] for decays in whole.decays] == pytest.approx([0.01 * (1 - n / 12) for n in range(12)])
    tail = used_by(small(Linear(), groups=groups), ckpt=saver.paths[3])
    assert tail.decays == whole.decays[4:]
    assert tail.momenta == [[0.9]] * 8
