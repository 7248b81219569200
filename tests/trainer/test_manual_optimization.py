"""Modules that step optimizers and schedulers themselves: whatever they step, a step of the schedule is a batch."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch.optim import SGD
from torch.optim.lr_scheduler import LinearLR, OneCycleLR, StepLR

from lit_lrsched import ApplySchedule, Horizon, WarmupCosine, schedule_config, table
from lit_lrsched.errors import InputError
from lit_lrsched.trainer.callbacks.receipt import Receipt
from lit_lrsched.trainer.callbacks.start_audit import StartAudit
from lit_lrsched.trainer.fit_plan import configure, plan_fit
from lit_lrsched.trainer.schedule_config import unscheduled
from tests.reading import run_folder, scalars
from tests.training import BATCHES, Numbers, OfTimm, SaveAt, Small, Used, quiet_trainer, sgd, used_by

SCHEDULE = WarmupCosine(warmup="25%", end=0.1)
EPOCHS = 8
PLANNED = [0.1 * factor for factor in table(SCHEDULE, Horizon(EPOCHS * BATCHES, BATCHES))]
HALVING = partial(StepLR, step_size=1, gamma=0.5)
HALVED = [0.1 * 0.5 ** (step // BATCHES) for step in range(EPOCHS * BATCHES)]


class ByHand(Small):
    """Steps its schedulers as it likes; ``None`` is for those that it should find."""

    automatic_optimization = False
    accumulates = 1

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        optimizer = self.optimizers()
        self.manual_backward(super().training_step(batch, batch_idx))
        if (batch_idx + 1) % self.accumulates == 0:
            optimizer.step()
            optimizer.zero_grad()
        self.step_schedulers(batch_idx)

    def step_schedulers(self, batch_idx: int) -> None:
        pass


class EachBatch(ByHand):
    def step_schedulers(self, batch_idx: int) -> None:
        self.lr_schedulers().step()


class Twice(ByHand):
    def step_schedulers(self, batch_idx: int) -> None:
        self.lr_schedulers().step()
        self.lr_schedulers().step()


class EachEpoch(ByHand):
    def on_train_epoch_end(self) -> None:
        self.lr_schedulers().step()


class WithMetric(ByHand):
    def on_train_epoch_end(self) -> None:
        self.lr_schedulers().step(self.trainer.callback_metrics["train_loss"])


class Sometimes(ByHand):
    def step_schedulers(self, batch_idx: int) -> None:
        if self.trainer.global_step > 10 and batch_idx % 3 == 0:
            self.lr_schedulers().step()


class Accumulating(ByHand):
    accumulates = 2

    def step_schedulers(self, batch_idx: int) -> None:
        if (batch_idx + 1) % 2 == 0:
            self.lr_schedulers().step()


CALLING = [EachBatch, Twice, EachEpoch, WithMetric, Sometimes, Accumulating]


def configured(module: Small, by: str, schedule: Any) -> list[Callback]:
    """Gives a module its schedule; returns the callbacks for that."""
    if by == "callback":
        return [ApplySchedule(schedule)]
    module.configure = lambda module: schedule_config(sgd(module), schedule, module.trainer)
    return []


@pytest.mark.parametrize("by", ["callback", "configure_optimizers"])
@pytest.mark.parametrize(("schedule", "planned"), [(SCHEDULE, PLANNED), (HALVING, HALVED)], ids=["ours", "torch's"])
@pytest.mark.parametrize("kind", [ByHand, *CALLING])
def test_a_module_may_step_its_scheduler_as_it_likes(kind, schedule, planned, by, caplog):
    caplog.set_level("INFO", logger="lightning.pytorch")
    module, receipt = kind(), Receipt()
    used = used_by(module, receipt, *configured(module, by, schedule), max_epochs=EPOCHS)
    every = kind.accumulates
    assert used.first_rates == pytest.approx(planned[every - 1 :: every], rel=1e-12)
    steps = len(planned) // every
    assert receipt.text() == f"learning rate followed the plan ({steps} of {steps} steps)"
    told = [message for message in caplog.messages if "calls its scheduler's step() itself" in message]
    assert len(told) == (kind in CALLING)


def test_through_the_command(command, caplog):
    caplog.set_level("INFO", logger="lightning.pytorch")
    arguments = ["--model", f"{__name__}.WithData", "--lr_scheduler", "WarmupCosine", "--lr_scheduler.warmup=25%"]
    arguments += ["--lr_scheduler.end=0.1", f"--trainer.max_epochs={EPOCHS}", "--lr_logger.each_step=true"]
    arguments += ["--trainer.log_every_n_steps=1", "--trainer.limit_val_batches=0"]
    assert command("fit", *arguments) == 0
    assert scalars(run_folder(), "lr/group0") == pytest.approx(PLANNED, rel=1e-6)
    assert "learning rate followed the plan (32 of 32 steps)" in command.out
    assert (
        "WithData calls its scheduler's step() itself. These calls do nothing: the schedule is stepped for it after "
        "each training batch."
    ) in caplog.messages


class WithData(EachBatch):
    def __init__(self) -> None:
        super().__init__()

    def train_dataloader(self) -> Numbers:
        return Numbers()


class Pair(Small):
    """Two optimizers, the second of which steps twice a batch, and a scheduler for each."""

    automatic_optimization = False

    def __init__(self, schedulers: int = 2) -> None:
        super().__init__()
        self.other = torch.nn.Parameter(torch.ones(1))
        self.schedulers = schedulers

    def configure_optimizers(self) -> Any:
        optimizers = [SGD([self.weights], lr=0.1), SGD([self.other], lr=0.01)]
        return optimizers, [LinearLR(optimizer) for optimizer in optimizers[: self.schedulers]]

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        for optimizer, times in zip(self.optimizers(), (1, 2), strict=True):
            for _ in range(times):
                optimizer.zero_grad()
                self.manual_backward(super().training_step(batch, batch_idx) + self.other.sum())
                optimizer.step()
        first, second = self.lr_schedulers()
        first.step()
        second.step()


def test_several_optimizers_with_a_scheduler_each():
    receipt = Receipt()
    used = used_by(Pair(), receipt, ApplySchedule(SCHEDULE, replace=True), max_epochs=EPOCHS)
    assert [rates[0] for rates in used.by_optimizer[0]] == PLANNED
    assert [rates[0] for rates in used.by_optimizer[1][::2]] == pytest.approx([rate / 10 for rate in PLANNED])
    assert receipt.text() == "learning rate followed the plan (96 of 96 steps)"


def test_a_module_that_expects_another_number_of_schedulers_is_refused():
    used = Used()
    message = r"Pair calls lr_schedulers\(\) and expects 1 there, but would find 2, one for each optimizer: leave these"
    with pytest.raises(InputError, match=message):
        quiet_trainer(used, ApplySchedule(SCHEDULE, replace=True)).fit(Pair(schedulers=1), Numbers())
    assert used.rates == []


class Meddler(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.fit_loop.total_batch_idx == 5:
            trainer.optimizers[1].param_groups[0]["lr"] *= 2


def test_the_receipt_notices_what_changes_one_of_several_optimizers():
    receipt = Receipt()
    with pytest.warns(
        UserWarning, match="the learning rate of step 16 is 0.0178944 where WarmupCosine says 0.0089472: "
    ):
        used_by(Pair(), receipt, Meddler(), ApplySchedule(SCHEDULE, replace=True))
    text = receipt.text()
    # Five batches of three steps, and the first optimizer's of the sixth.
    assert text.startswith("learning rate left the plan at step 16 (epoch 1): lr/optimizer1/group0 was ")
    assert "something else than the scheduler set it (callbacks: Used, Meddler) (34 of 36 steps followed it)" in text


def test_an_optimizer_without_a_schedule_is_watched_as_well():
    class HalfScheduled(Pair):
        def configure_optimizers(self) -> Any:
            first, second = SGD([self.weights], lr=0.1), SGD([self.other], lr=0.01)
            return schedule_config(first, SCHEDULE, self.trainer), {"optimizer": second}

        def lr_schedulers(self) -> Any:
            return super().lr_schedulers(), super().lr_schedulers()

    receipt = Receipt()
    used_by(HalfScheduled(), receipt, max_epochs=2)
    assert receipt.text() == "learning rate followed the plan (24 of 24 steps)"
    receipt = Receipt()
    used_by(HalfScheduled(), receipt, Meddler(), max_epochs=2)
    assert "left the plan at step 16 (epoch 1): lr/optimizer1/group0 was 0.02 where 0.01 was planned" in receipt.text()


@pytest.mark.parametrize("steps", [5, 16, 22])
def test_a_resumed_run_has_its_receipt(steps, tmp_path):
    saver, receipt = SaveAt(tmp_path), Receipt()
    whole = used_by(Pair(), saver, ApplySchedule(SCHEDULE, replace=True), max_epochs=EPOCHS)
    tail = used_by(
        Pair(), receipt, ApplySchedule(SCHEDULE, replace=True), max_epochs=EPOCHS, ckpt=saver.paths[steps - 1]
    )
    assert tail.by_optimizer == {0: whole.by_optimizer[0][steps:], 1: whole.by_optimizer[1][2 * steps :]}
    left = 3 * (EPOCHS * BATCHES - steps)
    assert receipt.text() == f"learning rate followed the plan ({left} of {left} steps from step {3 * steps})"


def test_what_is_not_checked_is_said(capsys):
    used_by(Pair(), Receipt())
    told = "learning rate was not checked against a plan: Pair steps LinearLR and LinearLR itself, when it likes"
    assert told in capsys.readouterr().out


def test_a_run_that_stops_early_says_how_many_batches_were_planned(capsys):
    class Stopping(Pair):
        def on_train_epoch_end(self) -> None:
            self.trainer.should_stop = True

    used_by(Stopping(), Receipt(), ApplySchedule(SCHEDULE, replace=True))
    assert "learning rate followed the plan (12 of 12 steps; 12 batches were planned)" in capsys.readouterr().out


def test_a_plan_shows_what_such_a_module_will_use():
    trainer, module = quiet_trainer(ApplySchedule(SCHEDULE), max_epochs=EPOCHS), EachBatch()
    module.train_dataloader = Numbers
    plan, findings = plan_fit(trainer, configure(trainer, module))
    assert [plan.at(step)["lr/group0"] for step in range(EPOCHS * BATCHES)] == PLANNED
    assert findings == []


class OwnHook(Small):
    """As the documentation of Lightning shows it for the schedulers of another library."""

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        scheduler.step(epoch=self.current_epoch)


class ImpatientHook(Small):
    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        if self.trainer.global_step > 5:
            scheduler.step()
            scheduler.step()


class HookOfTimm(Small):
    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        scheduler.step_update(num_updates=self.global_step)


@pytest.mark.parametrize("by", ["callback", "configure_optimizers"])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("kind", [OwnHook, ImpatientHook, HookOfTimm])
def test_a_hook_of_the_modules_own_does_not_change_the_plan(kind, by, accumulate):
    module, receipt = kind(), Receipt()
    used = used_by(
        module, receipt, *configured(module, by, SCHEDULE), max_epochs=EPOCHS, accumulate_grad_batches=accumulate
    )
    horizon = Horizon(EPOCHS * -(-BATCHES // accumulate), -(-BATCHES // accumulate))
    assert used.first_rates == [0.1 * factor for factor in table(SCHEDULE, horizon)]
    assert receipt.text() == f"learning rate followed the plan ({horizon.steps} of {horizon.steps} steps)"


def test_momentum_that_the_scheduler_of_such_a_module_cycled_is_the_optimizers_own_without_it():
    class Unscheduled(OwnHook):
        def configure_optimizers(self) -> Any:
            cycle = partial(OneCycleLR, max_lr=0.1, total_steps=99)
            return unscheduled(schedule_config(sgd(self), cycle, self.trainer))

    assert used_by(Unscheduled()).momenta == [[0.9]] * 12


def test_a_hook_of_the_modules_own_with_a_scheduler_that_moves_each_epoch():
    used = used_by(OwnHook(), ApplySchedule(HALVING), max_epochs=EPOCHS)
    assert used.first_rates == pytest.approx(HALVED)


class WithTimm(Small):
    def configure_optimizers(self) -> Any:
        optimizer = sgd(self)
        return [optimizer], [{"scheduler": OfTimm(optimizer), "interval": "epoch"}]

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        scheduler.step(self.current_epoch + 1, metric)


def test_a_scheduler_of_another_library_trains_and_is_not_foreseen(capsys):
    used = used_by(WithTimm(), Receipt(), StartAudit(), max_epochs=3)
    assert used.epochs() == [1e-5, 0.05, 0.025]
    out = capsys.readouterr().out
    assert "warning: the module steps its schedulers itself (lr_scheduler_step): shown as if" in out
    assert "was not checked against a plan: OfTimm, no scheduler of torch's, moves on as WithTimm likes" in out


def test_the_plan_of_a_scheduler_of_another_library_is_what_it_begins_with():
    trainer, module = quiet_trainer(max_epochs=EPOCHS), WithTimm()
    module.train_dataloader = Numbers
    plan, findings = plan_fit(trainer, configure(trainer, module))
    assert plan.at(EPOCHS * BATCHES - 1)["lr/group0"] == 1e-5
    assert "OfTimm is no scheduler of torch's" in plan.notes[0]
    assert [finding.level for finding in findings] == ["warning"]


def test_a_scheduler_of_another_library_is_replaced():
    used = used_by(WithTimm(), ApplySchedule(SCHEDULE, replace=True), max_epochs=EPOCHS)
    assert used.first_rates == PLANNED


class InTwoSteps(Small):
    """Calls another method of its optimizer than ``step``, as those with SAM do."""

    automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        pass


def test_an_optimizer_whose_step_is_not_called_is_told(capsys):
    used_by(InTwoSteps(), ApplySchedule(SCHEDULE), Receipt(), max_epochs=EPOCHS)
    assert "learning rate was not checked against a plan: the step of SGD was not called" in capsys.readouterr().out


class LayerDecay(WithTimm):
    """Has a param group for each layer, as timm makes them: the first learns half as fast."""

    def __init__(self) -> None:
        super().__init__()
        self.more = torch.nn.Parameter(torch.zeros(1))

    def configure_optimizers(self) -> Any:
        groups = [{"params": [self.weights], "lr_scale": 0.5}, {"params": [self.more], "lr_scale": 1.0}]
        optimizer = SGD(groups, lr=0.1)
        return [optimizer], [OfTimm(optimizer)]


def test_a_schedule_in_place_of_one_of_timm_keeps_the_decay_from_layer_to_layer():
    used = used_by(LayerDecay(), ApplySchedule(SCHEDULE, replace=True), max_epochs=EPOCHS)
    assert used.rates == [[0.5 * rate, rate] for rate in PLANNED]
