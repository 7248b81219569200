"""The worked example in one process: module, schedule and data under a real Trainer."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, seed_everything
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, LinearLR, ReduceLROnPlateau

from lit_lrsched import (
    Constant,
    Horizon,
    InverseTime,
    IonosphereClassifier,
    IonosphereDataModule,
    Linear,
    ScheduledLR,
    schedule_config,
)
from lit_lrsched.errors import InputError
from lit_lrsched.ionosphere.article import inverse_time
from tests.training import quiet_trainer


class Recorder(Callback):
    """Keeps the batches, the losses and the learning rates that training used."""

    def __init__(self) -> None:
        self.batches: list = []
        self.losses: list[float] = []
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.batches.append([part.clone() for part in batch])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].item())


def fit(model: LightningModule, epochs: int, seed: int = 0, **options) -> Recorder:
    recorder = Recorder()
    trainer = quiet_trainer(max_epochs=epochs, callbacks=[recorder], **options)
    trainer.fit(model, IonosphereDataModule(seed=seed))
    return recorder


ARTICLE = {
    "constant": (Constant(), lambda n: 0.1),
    "linear": (partial(LinearLR, start_factor=1.0, end_factor=0.5, total_iters=30), lambda n: 0.1 - min(n, 30) / 600),
    "exponential": (partial(ExponentialLR, gamma=0.99), lambda n: 0.1 * 0.99**n),
    "custom": (partial(LambdaLR, lr_lambda=inverse_time), lambda n: 0.1 / (1 + 0.01 * n)),
}


def test_losses_equal_a_plain_loop_over_the_same_batches():
    seed_everything(3)
    model = IonosphereClassifier()
    plain = torch.nn.Sequential(torch.nn.Linear(34, 34), torch.nn.ReLU(), torch.nn.Linear(34, 1), torch.nn.Sigmoid())
    with torch.no_grad():
        for mine, theirs in zip(plain.parameters(), model.parameters(), strict=True):
            mine.copy_(theirs)
    recorder = fit(model, epochs=50)

    optimizer = SGD(plain.parameters(), lr=0.1)
    scheduler = LinearLR(optimizer, start_factor=1.0, end_factor=0.5, total_iters=30)
    losses = []
    for number, (x, y) in enumerate(recorder.batches, start=1):
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy(plain(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if number % 11 == 0:
            scheduler.step()
    assert recorder.losses == pytest.approx(losses, abs=1e-6)


@pytest.mark.parametrize("name", ARTICLE)
def test_the_learning_rate_is_the_closed_form_and_the_network_learns(name, run_all):
    schedule, closed_form = ARTICLE[name]
    accuracies = []
    for seed in range(20 if run_all else 1):
        seed_everything(seed)
        model, data, recorder = IonosphereClassifier(lr_scheduler=schedule), IonosphereDataModule(seed=seed), Recorder()
        trainer = quiet_trainer(max_epochs=50, limit_val_batches=0, callbacks=[recorder])
        trainer.fit(model, data)
        assert recorder.rates == pytest.approx([closed_form(n) for n in range(50) for _ in range(11)], rel=1e-12)
        (metrics,) = trainer.test(model, data, verbose=False)
        accuracies.append(metrics["test_acc"])
    assert sum(accuracies) / len(accuracies) >= 0.85


def test_logged_metrics_are_those_of_all_rows_of_the_part():
    seed_everything(0)
    model, data = IonosphereClassifier(), IonosphereDataModule(split="ordered:200", standardize=True)
    trainer = quiet_trainer(max_epochs=2, limit_val_batches=0)
    trainer.fit(model, data)
    (metrics,) = trainer.test(model, data, verbose=False)
    x, y = (torch.cat(parts) for parts in zip(*data.test_dataloader(), strict=True))
    with torch.no_grad():
        probability = model.eval()(x)
    assert len(y) == 151
    assert probability.min() >= 0
    assert probability.max() <= 1
    loss = torch.nn.functional.binary_cross_entropy(probability, y).item()
    assert metrics["test_loss"] == pytest.approx(loss, rel=1e-5)
    assert metrics["test_acc"] == pytest.approx(((probability > 0.5) == y).float().mean().item())


def test_all_metrics_are_logged_once_an_epoch():
    model = IonosphereClassifier()
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(model, IonosphereDataModule())
    assert set(trainer.callback_metrics) == {"train_loss", "train_acc", "val_loss", "val_acc"}
    trainer.test(model, IonosphereDataModule(), verbose=False)
    assert set(trainer.callback_metrics) == {"test_loss", "test_acc"}


def plateau(optimizer):
    return ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=0)


def half_way(step: int, horizon: Horizon) -> float:
    return 1.0 if step < horizon.steps / 2 else 0.5


@pytest.mark.parametrize(
    ("options", "scheduler", "interval"),
    [
        ({}, LinearLR, "epoch"),
        ({"lr_interval": "step"}, LinearLR, "step"),
        ({"lr_scheduler": Linear()}, ScheduledLR, "step"),
        ({"lr_scheduler": Linear(), "lr_interval": "epoch"}, ScheduledLR, "epoch"),
        ({"lr_scheduler": half_way}, ScheduledLR, "step"),
        ({"lr_scheduler": lambda step, horizon: 1.0}, ScheduledLR, "step"),
        ({"lr_scheduler": plateau, "lr_monitor": "val_acc"}, ReduceLROnPlateau, "epoch"),
        ({"lr_scheduler": partial(ExponentialLR, gamma=0.99)}, ExponentialLR, "epoch"),
    ],
)
def test_configure_optimizers(options, scheduler, interval):
    model = IonosphereClassifier(**options)
    quiet_trainer(max_epochs=1, limit_train_batches=2).fit(model, IonosphereDataModule())
    config = model.configure_optimizers()
    assert isinstance(config["optimizer"], SGD)
    assert isinstance(config["lr_scheduler"]["scheduler"], scheduler)
    assert set(config["lr_scheduler"]) == {"scheduler", "interval", "monitor", "name"}
    assert config["lr_scheduler"]["interval"] == interval
    assert config["lr_scheduler"]["monitor"] == options.get("lr_monitor")


def test_no_scheduler_returns_the_optimizer_alone():
    model = IonosphereClassifier(optimizer=partial(Adam, lr=1e-3), lr_scheduler=None)
    quiet_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0).fit(model, IonosphereDataModule())
    config = model.configure_optimizers()
    assert list(config) == ["optimizer"]
    assert isinstance(config["optimizer"], Adam)


def test_a_metric_driven_scheduler_follows_the_accuracy():
    model = IonosphereClassifier(lr_scheduler=plateau, lr_monitor="val_acc", optimizer=partial(SGD, lr=0.0))
    recorder = fit(model, epochs=4)  # at rate 0 the accuracy stalls at once
    assert recorder.rates == [0.0] * 44
    model = IonosphereClassifier(lr_scheduler=plateau, lr_monitor="val_acc", optimizer=partial(SGD, lr=1e-9))
    recorder = fit(model, epochs=4)
    # the first epoch sets the best accuracy, each later one is no better and halves the rate; torch's own scheduler
    # ignores changes below eps=1e-8, so at this base rate nothing may move
    assert recorder.rates == [1e-9] * 44


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_epochs": -1}, "max_epochs=-1 trains without end.*set max_epochs or max_steps"),
        ({"max_epochs": 1, "no_length": True}, "no length.*set max_steps, or limit_train_batches to the batches"),
    ],
)
def test_an_unknown_horizon_is_refused(options, message):
    data = IonosphereDataModule()
    if options.pop("no_length", False):

        class Endless(torch.utils.data.IterableDataset):
            def __iter__(self):
                return iter([(torch.zeros(34), torch.zeros(1))] * 5)

        loader = torch.utils.data.DataLoader(Endless(), batch_size=1)
        data.train_dataloader = lambda: loader
    with pytest.raises(InputError, match=message):
        quiet_trainer(**options).fit(IonosphereClassifier(lr_scheduler=Linear()), data)


def test_a_plateau_without_a_monitor_is_refused():
    with pytest.raises(InputError, match="monitor='val_loss'"):
        quiet_trainer(max_epochs=1).fit(IonosphereClassifier(lr_scheduler=plateau), IonosphereDataModule())


def test_schedule_config_in_a_module_of_ones_own():
    class Mine(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(34, 1)

        def training_step(self, batch, batch_idx):
            x, y = batch
            return torch.nn.functional.binary_cross_entropy_with_logits(self.layer(x), y)

        def validation_step(self, batch, batch_idx):
            pass

        def configure_optimizers(self):
            optimizer = Adam(self.parameters(), lr=0.01)
            return schedule_config(optimizer, InverseTime(1.0), self.trainer, interval="epoch")

    recorder = fit(Mine(), epochs=3, limit_val_batches=0)
    assert recorder.rates == [0.01] * 11 + [0.005] * 11 + [0.01 * (1 / 3)] * 11


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr_scheduler": Linear(over="10ep"), "optimizer": partial(Adam, lr=0.01)},
        {"lr_scheduler": half_way, "optimizer": SGD, "hidden": 5},
        {"lr_scheduler": None, "lr_interval": "step"},
    ],
    ids=["defaults", "schedule and partial", "functions", "none"],
)
def test_a_checkpoint_of_a_module_made_by_hand_holds_plain_values(tmp_path, options):
    model = IonosphereClassifier(**options)
    trainer = quiet_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=1)
    trainer.fit(model, IonosphereDataModule())
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = IonosphereClassifier.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    x = torch.rand(5, 34)
    assert torch.equal(model(x), loaded(x))
    assert loaded.hparams == model.hparams
    quiet_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=1).fit(loaded, IonosphereDataModule())


def test_what_a_checkpoint_cannot_hold_is_asked_for_again(tmp_path):
    model = IonosphereClassifier(optimizer=lambda parameters: SGD(parameters, lr=0.5))
    trainer = quiet_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=1)
    trainer.fit(model, IonosphereDataModule())
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = IonosphereClassifier.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    x = torch.rand(5, 34)
    assert torch.equal(model(x), loaded(x))
    with pytest.raises(InputError, match="pass optimizer= again"):
        quiet_trainer(max_epochs=1).fit(loaded, IonosphereDataModule())


def test_bundled_data_carries_its_attribution():
    text = (Path(__file__).parents[2] / "lit_lrsched" / "ionosphere" / "DATA.md").read_text()
    assert "10.24432/C5W01B" in text
    assert "CC BY 4.0" in text
