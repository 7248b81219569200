"""The receipt notices whatever departs from the plan, and says why."""

from __future__ import annotations

import copy
import threading
from functools import partial

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import (
    EarlyStopping,
    GradientAccumulationScheduler,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LambdaLR, ReduceLROnPlateau

from lit_lrsched import ApplySchedule, Cosine, Linear, Plateau, ScheduleReport, schedule_config
from lit_lrsched.trainer.callbacks.receipt import Receipt
from lit_lrsched.trainer.callbacks.start_audit import StartAudit
from lit_lrsched.trainer.fit_plan import DoesNotFit, configure, plan_fit
from tests.training import Tiny, TinyByHand, scheduled, tiny_trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*ended before the epoch ended"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
]


def configured_by(schedule, interval=None, monitor=None):
    return scheduled(schedule, Tiny.make_optimizer, interval=interval, monitor=monitor)


def receipt_of(configure_optimizers, *callbacks, module=Tiny, ckpt_path=None, **options) -> str:
    receipt = Receipt()
    tiny_trainer(callbacks=[receipt, *callbacks], **options).fit(module(configure_optimizers), ckpt_path=ckpt_path)
    return receipt.text()


def test_it_is_printed_after_fit(capsys):
    receipt_of(configured_by(Cosine()))
    assert "learning rate followed the plan (55 of 55 steps)\n" in capsys.readouterr().out


class Meddler(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 20:
            trainer.optimizers[0].param_groups[1]["lr"] *= 2


EXPONENTIAL = partial(ExponentialLR, gamma=0.9)


@pytest.mark.filterwarnings("ignore:the learning rate of step 20 is .* where Cosine says")
@pytest.mark.parametrize("schedule", [Cosine(), EXPONENTIAL, None], ids=["ours", "torch's", "none"])
def test_a_callback_that_changes_the_rate(schedule):
    text = receipt_of(configured_by(schedule, "step" if schedule else None), Meddler())
    assert text.startswith("learning rate left the plan at step 20 (epoch 1): lr/group1 was ")
    assert "something else than the scheduler set it (callbacks: Meddler)" in text
    # Ours sets the rate anew at each step, torch's goes on from the wrong one.
    assert f"({54 if isinstance(schedule, Cosine) else 20} of 55 steps followed it)" in text


class Skipping(Tiny):
    """Leaves out a step of the optimizer, as AMP does when gradients overflow."""

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
        if self.trainer.global_step == 7:
            optimizer_closure()
        else:
            optimizer.step(closure=optimizer_closure)


def test_a_step_that_was_skipped():
    text = receipt_of(configured_by(EXPONENTIAL, "step"), module=Skipping)
    assert "left the plan at step 7 (epoch 0)" in text
    assert "a step was skipped before it, for gradients that overflowed" in text
    # A ScheduledLR waits for the optimizer.
    followed = "learning rate followed the plan (54 of 54 steps; 55 were planned)"
    assert receipt_of(configured_by(Cosine()), module=Skipping) == followed


class Plain(SGD):
    """Torch hooks the ``step`` of each class of which an optimizer is made."""

    def step(self, closure=None):
        return super().step(closure)


class Derived(Plain):
    def step(self, closure=None):
        return super().step(closure)


@pytest.mark.parametrize("schedule", [Cosine(), EXPONENTIAL], ids=["ours", "torch's"])
def test_a_step_that_calls_that_of_its_base_class_is_one(schedule):
    Plain([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    text = receipt_of(lambda module: schedule_config(Derived(module.parameters(), 0.1), schedule, module.trainer))
    assert text == "learning rate followed the plan (55 of 55 steps)"


class Locked(ExponentialLR):
    """Cannot be copied."""

    def __init__(self, optimizer):
        self.lock = threading.Lock()
        super().__init__(optimizer, 0.9)


class Told(ExponentialLR):
    """Cannot be stepped without the epoch."""

    def __init__(self, optimizer):
        super().__init__(optimizer, 0.9)

    def step(self, epoch=None):
        if epoch is None and self.last_epoch >= 0:
            raise ValueError("which epoch?")
        super().step()


class Tells(Tiny):
    def lr_scheduler_step(self, scheduler, metric):
        scheduler.step(self.current_epoch + 1)


@pytest.mark.parametrize(("kind", "module", "why"), [(Locked, Tiny, "cannot pickle"), (Told, Tells, "which epoch?")])
def test_a_scheduler_that_cannot_be_tried_out_trains(kind, module, why, capsys):
    def with_it(module):
        optimizer = module.make_optimizer()
        return [optimizer], [kind(optimizer)]

    text = receipt_of(with_it, ScheduleReport(), module=module)
    assert text.startswith(f"learning rate was not checked against a plan: {kind.__name__} cannot be tried out beside")
    assert why in text
    if module is Tells:
        assert "warning: the schedule cannot be tried out: which epoch?" in capsys.readouterr().out


class AsksItsModule(ExponentialLR):
    def __init__(self, optimizer, module, count):
        self.module, self.count = module, count
        super().__init__(optimizer, 0.9)

    def get_lr(self):
        return [base * 0.9 ** getattr(self.module, self.count) for base in self.base_lrs]


@pytest.mark.parametrize("count", ["current_epoch", "global_step"])
@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_scheduler_that_asks_its_module_is_tried_out(interval, count):
    def with_it(module):
        optimizer = module.make_optimizer()
        return [optimizer], [{"scheduler": AsksItsModule(optimizer, module, count), "interval": interval}]

    assert receipt_of(with_it, StartAudit()) == "learning rate followed the plan (55 of 55 steps)"


def test_a_scheduler_that_cannot_be_tried_out_has_no_plan():
    trainer, module = tiny_trainer(), Tiny(lambda module: [[optimizer := module.make_optimizer()], [Locked(optimizer)]])
    with pytest.raises(DoesNotFit, match="the schedule cannot be tried out before training"):
        plan_fit(trainer, configure(trainer, module))


class RollsBack(Callback):
    """Gives the optimizer back the state of an earlier step, as some callbacks do where the loss jumps."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        (optimizer,) = trainer.optimizers
        if trainer.global_step == 10:
            self.state = copy.deepcopy(optimizer.state_dict())
        if trainer.global_step == 20:
            optimizer.load_state_dict(self.state)


@pytest.mark.filterwarnings("ignore:the learning rate of step 20 is .* where Cosine says")
@pytest.mark.parametrize("schedule", [Cosine(), partial(LambdaLR, lr_lambda=lambda step: 0.9**step)])
def test_an_optimizer_whose_state_is_rolled_back(schedule):
    text = receipt_of(configured_by(schedule, "step"), RollsBack())
    assert "left the plan at step 20 (epoch 1)" in text
    assert "(54 of 55 steps followed it)" in text


class Restarts(Callback):
    """Makes the optimizers anew, as some callbacks do that unfreeze a backbone."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            trainer.strategy.setup_optimizers(trainer)


@pytest.mark.parametrize(
    ("configure", "callbacks", "told"),
    [
        (configured_by(Cosine()), [], "its schedule begins there"),
        (Tiny.make_optimizer, [ApplySchedule(Cosine())], "no schedule drives it"),
    ],
    ids=["module", "callback"],
)
def test_an_optimizer_that_was_replaced(configure, callbacks, told):
    with pytest.warns(UserWarning, match=f"the optimizer of step 22 is another .*, and {told}: keep the first"):
        text = receipt_of(configure, *callbacks, Restarts())
    assert text == (
        "learning rate was not checked against a plan: another optimizer took the place of the first after 22 steps"
    )


@pytest.fixture
def checkpoint(tmp_path):
    def save(configure_optimizers, **options) -> str:
        saver = ModelCheckpoint(dirpath=tmp_path, filename="stopped", **options)
        tiny_trainer(callbacks=[saver], max_epochs=2, enable_checkpointing=True).fit(Tiny(configure_optimizers))
        return str(tmp_path / "stopped.ckpt")

    return save


@pytest.mark.sampled(6)
@pytest.mark.filterwarnings("ignore:Resumed at step")
@pytest.mark.parametrize(
    ("schedule", "interval"),
    [
        (Cosine(), "step"),
        (Cosine(), "epoch"),
        (Plateau(Cosine(end=0.1), patience=0), "step"),
        (EXPONENTIAL, "step"),
        (EXPONENTIAL, "epoch"),
        (partial(CosineAnnealingLR, T_max=55), "step"),
    ],
)
@pytest.mark.parametrize(("options", "begun"), [({}, 22), ({"every_n_train_steps": 17}, 17)], ids=["epoch", "middle"])
def test_a_resumed_run_follows_the_plan(schedule, interval, options, begun, checkpoint):
    configure_optimizers = configured_by(schedule, interval, "val_loss")
    path = checkpoint(configure_optimizers, **options)
    text = receipt_of(configure_optimizers, ckpt_path=path)
    assert text == f"learning rate followed the plan ({55 - begun} of {55 - begun} steps from step {begun})"


PATIENT = partial(ReduceLROnPlateau, patience=0)


@pytest.mark.filterwarnings("ignore:Resumed at step")
def test_a_resumed_run_with_longer_epochs_is_whole_when_it_ends(checkpoint, capsys):
    path = checkpoint(configured_by(Cosine()))
    receipt_of(configured_by(Cosine()), module=partial(Tiny, batches=22), ckpt_path=path)
    assert "learning rate followed the plan (66 of 66 steps from step 22)\n" in capsys.readouterr().out


def test_a_plateau_of_torch_resumed_between_epochs_follows_the_plan(checkpoint):
    path = checkpoint(configured_by(PATIENT, "epoch", "val_loss"))
    text = receipt_of(configured_by(PATIENT, "epoch", "val_loss"), ckpt_path=path)
    assert text == "learning rate followed the plan (33 of 33 steps from step 22)"


def test_a_plateau_of_torch_resumed_within_an_epoch_loses_what_lightning_leaves_out(checkpoint):
    """Lightning does not show such a scheduler the metric of the epoch in which a run was resumed."""
    path = checkpoint(configured_by(PATIENT, "epoch", "val_loss"), every_n_train_steps=17)
    text = receipt_of(configured_by(PATIENT, "epoch", "val_loss"), ckpt_path=path)
    assert "left the plan at step 22 (epoch 2)" in text
    assert "the scheduler was not stepped as often as its interval says (5 of 38 steps" in text


def test_a_resumed_run_that_takes_its_arguments_from_the_checkpoint(checkpoint):
    path = checkpoint(configured_by(partial(CosineAnnealingLR, T_max=22), "step"))
    text = receipt_of(configured_by(partial(CosineAnnealingLR, T_max=55), "step"), ckpt_path=path)
    assert "left the plan at step 22 (epoch 2): lr/group0 was 0 where " in text
    assert "from the checkpoint, T_max is 22 and not 55 (0 of 33 steps from step 22 followed it)" in text


def test_a_second_fit_begins_schedulers_of_torch_anew_as_planned():
    receipt = Receipt()
    trainer = tiny_trainer(receipt, max_epochs=2)
    for epochs in (2, 4):
        trainer.fit_loop.max_epochs = epochs
        trainer.fit(Tiny(configured_by(EXPONENTIAL, "step")))
    assert receipt.text() == "learning rate followed the plan (22 of 22 steps from step 22)"


@pytest.mark.filterwarnings("ignore:Swapping scheduler")
def test_a_scheduler_that_was_replaced():
    averaging = StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=3, annealing_epochs=1)
    text = receipt_of(configured_by(EXPONENTIAL), averaging)
    assert "left the plan at step 33 (epoch 3)" in text
    assert "the scheduler was replaced during training (callbacks: StochasticWeightAveraging)" in text


@pytest.mark.parametrize("order", [1, -1])
def test_a_schedule_that_a_callback_brings(order):
    receipt = Receipt()
    callbacks = [receipt, ApplySchedule(EXPONENTIAL, interval="step")][::order]
    tiny_trainer(callbacks=callbacks).fit(Tiny(Tiny.make_optimizer))
    assert receipt.text() == "learning rate followed the plan (55 of 55 steps)"


def test_a_run_that_stops_early(capsys):
    stop = EarlyStopping("val_loss", mode="max", patience=0)
    receipt_of(configured_by(Cosine()), stop)
    assert "learning rate followed the plan (22 of 22 steps; 55 were planned)\n" in capsys.readouterr().out


def test_a_run_that_stops_early_and_accumulates_differently_from_epoch_to_epoch(capsys):
    stop, changing = EarlyStopping("val_loss", mode="max", patience=0), GradientAccumulationScheduler({0: 1, 1: 2})
    receipt_of(configured_by(Cosine()), stop, changing)
    assert "learning rate followed the plan (17 of 17 steps; 35 were planned)\n" in capsys.readouterr().out


@pytest.mark.parametrize("options", [{"max_epochs": 0}, {"max_steps": 0}, {"limit_train_batches": 0}])
def test_a_run_that_trains_nothing(options, capsys):
    receipt_of(Tiny.make_optimizer, **options)
    assert capsys.readouterr().out == "Nothing was trained: there are no epochs, no steps or no batches to train.\n"


def test_manual_optimization_without_a_schedule_has_a_constant_plan():
    assert receipt_of(Tiny.make_optimizer, module=TinyByHand) == "learning rate followed the plan (55 of 55 steps)"
    assert "left the plan at step 20" in receipt_of(Tiny.make_optimizer, Meddler(), module=TinyByHand)


def test_a_metric_that_nobody_sees_is_said_to_be_unchecked():
    def configure_optimizers(module: Tiny):
        optimizer = module.make_optimizer()
        return {"optimizer": optimizer, "lr_scheduler": {**BY_STEP, "scheduler": ReduceLROnPlateau(optimizer)}}

    text = receipt_of(configure_optimizers, module=Logging)
    assert text.startswith("learning rate was not checked against a plan: ReduceLROnPlateau follows its metric within")


BY_STEP = {"interval": "step", "monitor": "train_loss"}


class Logging(Tiny):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.log("train_loss", loss)
        return loss


class Exploding(Logging):
    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss * float("nan") if self.current_epoch == 2 and batch_idx == 3 else loss


class ExplodingByHand(TinyByHand, Exploding):
    pass


@pytest.mark.parametrize(("module", "loss"), [(Exploding, "the training loss"), (ExplodingByHand, "train_loss")])
def test_a_run_that_broke_down_says_so(module, loss, capsys):
    receipt_of(configured_by(Cosine()), module=module)
    broken, rates = capsys.readouterr().out.splitlines()[-2:]
    assert broken == (
        f"training broke down: {loss} is nan in epoch 2; at the end of training these weights are not "
        "finite: backbone.weight, backbone.bias, head.weight, ...: lower the learning rate, or look for nan in the data"
    )
    assert rates == "learning rate followed the plan (55 of 55 steps)"


def test_a_logged_loss_that_is_not_a_number():
    class Undefined(Tiny):
        def validation_step(self, batch, batch_idx):
            self.log("val_loss", float("nan") if self.current_epoch == 3 else 1.0)
            self.log("val_auc", float("nan"))  # of too few samples, say: not a loss

    text = receipt_of(configured_by(Cosine()), module=Undefined)
    assert text.startswith("training broke down: val_loss is nan in epoch 3: lower the learning rate, or ")
    assert text.endswith("\nlearning rate followed the plan (55 of 55 steps)")


def test_weights_that_the_last_step_spoiled():
    class Spoiling(Callback):
        def on_train_end(self, trainer, pl_module):
            pl_module.head.bias.data.fill_(float("inf"))

    receipt = Receipt()
    tiny_trainer(callbacks=[Spoiling(), receipt]).fit(Tiny(configured_by(Cosine())))
    assert "at the end of training these weights are not finite: head.bias: lower" in receipt.text()


def test_nothing_is_left_on_the_optimizer():
    module = Tiny(configured_by(EXPONENTIAL))
    trainer = tiny_trainer(callbacks=[Receipt()])
    trainer.fit(module)
    assert not trainer.optimizers[0]._optimizer_step_post_hooks


def test_a_rate_that_a_tensor_has_rounded():
    def configure_optimizers(module: Tiny):
        optimizer = torch.optim.Adam(module.parameters(), lr=torch.tensor(0.1), foreach=False)
        return schedule_config(optimizer, Cosine(), module.trainer, interval="step")

    assert receipt_of(configure_optimizers) == "learning rate followed the plan (55 of 55 steps)"


class Breaks(Tiny):
    """Has the same optimizer in each fit. The first breaks off."""

    def __init__(self) -> None:
        super().__init__(lambda module: schedule_config(module.optimizer, Linear(), module.trainer))
        self.optimizer = self.make_optimizer()
        self.breaks = True

    def on_train_epoch_start(self) -> None:
        if self.breaks and self.current_epoch == 1:
            self.breaks = False
            raise ValueError("no more")


def test_a_run_that_broke_off_is_not_watched_in_the_next(recwarn):
    module, receipt = Breaks(), Receipt()
    with pytest.raises(ValueError, match="no more"):
        tiny_trainer(receipt).fit(module)
    tiny_trainer(receipt).fit(module)
    assert receipt.text() == "learning rate followed the plan (55 of 55 steps)"
    assert not [warning for warning in recwarn if "learning rate" in str(warning.message)]
