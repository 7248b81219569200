"""The race as a whole: both engines, what is kept, what is refused, the command."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    StepLR,
)
from torch.utils.data import DataLoader, TensorDataset

from lit_lrsched import (
    Constant,
    IonosphereClassifier,
    IonosphereDataModule,
    Linear,
    OneCycle,
    Plateau,
    WarmupCosine,
    compare,
    find_lr,
)
from lit_lrsched.comparison.definition import Definition, definition_of
from lit_lrsched.comparison.engine.regime import PLAIN, Regime
from lit_lrsched.comparison.grid import grid_of
from lit_lrsched.comparison.race import Comparison
from lit_lrsched.comparison.records import RecordStore, _read
from lit_lrsched.comparison.splits import splits_of
from lit_lrsched.errors import InputError
from lit_lrsched.search.engines import TRAINING_LOSS
from tests.foreign import MLP, Data
from tests.forking import command as run_command
from tests.forking import forked, status_of
from tests.reading import scalar_tags


def race(folder, schedules, **options):
    defaults = {"lrs": [0.1], "seeds": 2, "epochs": 3, "folder": folder}
    return compare(IonosphereClassifier, IonosphereDataModule, schedules, **{**defaults, **options})


EVERY = {
    "warmup cosine": WarmupCosine("20%"),
    "one cycle": OneCycle(momentum=0.9),
    "plateau": Plateau(WarmupCosine("1ep"), monitor="val_acc", mode="max", patience=0, factor=0.5),
    "function": lambda step, horizon: 1.0 - 0.5 * step / horizon.steps,
    "LinearLR": partial(LinearLR, start_factor=1.0, end_factor=0.5, total_iters=2),
    "ExponentialLR": partial(ExponentialLR, gamma=0.5),
    "StepLR": partial(StepLR, step_size=1),
    "MultiStepLR": partial(MultiStepLR, milestones=[1, 2]),
    "CosineAnnealingLR": partial(CosineAnnealingLR, T_max=3),
    "CosineAnnealingWarmRestarts": partial(CosineAnnealingWarmRestarts, T_0=2),
    "PolynomialLR": partial(PolynomialLR, total_iters=3, power=2.0),
    "CyclicLR": partial(CyclicLR, base_lr=0.01, max_lr=0.1, step_size_up=2),
    "OneCycleLR": partial(OneCycleLR, max_lr=0.1, total_steps=4),
    "ReduceLROnPlateau": partial(ReduceLROnPlateau, mode="max", patience=0, factor=0.5),
}


def test_the_engines_agree_run_by_run(tmp_path):
    options = {"momenta": [0.5], "seeds": [7], "monitor": "val_acc"}
    fast, slow = (
        race(tmp_path / engine, EVERY, engine=engine, **options).results.records
        for engine in ("vectorized", "sequential")
    )
    assert [record.key for record in fast] == [record.key for record in slow]
    for one, other in zip(fast, slow, strict=True):
        assert one.curves["lr"] == pytest.approx(other.curves["lr"], rel=1e-12), one.key
        assert one.metrics == pytest.approx(other.metrics, abs=1e-4), one.key


class Watched(MLP):
    """Brings callbacks: one that ends training, one that trains nothing."""

    def configure_callbacks(self):
        return [EarlyStopping("val_loss", min_delta=9.0, patience=1), LearningRateMonitor()]


@pytest.mark.parametrize("engine", ["vectorized", "sequential"])
def test_the_callbacks_of_a_module_are_left_out_and_told(tmp_path, caplog, engine):
    caplog.set_level("INFO")
    options = {"lrs": [0.1], "seeds": 2, "epochs": 4, "metric": "val_loss", "engine": engine}
    watched = compare(Watched, Data, {"linear": Linear()}, folder=tmp_path / "watched", **options)
    assert "Watched's own EarlyStopping is left out." in caplog.text
    plain = compare(MLP, Data, {"linear": Linear()}, folder=tmp_path / "plain", **options)
    for one, other in zip(watched.results.records, plain.results.records, strict=True):
        assert one.metrics == pytest.approx(other.metrics, abs=1e-5)
        assert len(one.curves["val_loss"]) == 4
    found = find_lr(Watched, Data, lrs=(0.01, 0.1), points=5, seeds=2, epochs=1, folder=tmp_path / "found")
    assert "Watched's own EarlyStopping is left out." in found.subject.opening()


class Drawing(MLP):
    """Logs by hand to the logger that it takes for granted, and has a hyperparameter that its data has too."""

    def __init__(self):
        super().__init__()
        self.save_hyperparameters({"rows": 3})

    def on_train_start(self):
        self.logger.log_hyperparams({"of": "mine"})

    def on_validation_epoch_end(self):
        self.logger.experiment.add_image("rows", torch.zeros(1, 2, 2), self.current_epoch)
        self.trainer.logger.log_metrics({"epoch": 1.0}, step=self.global_step)


@pytest.mark.parametrize("engine", ["vectorized", "sequential"])
def test_what_a_module_logs_by_hand_is_taken_and_not_kept(tmp_path, engine):
    options = {"lrs": [0.1], "seeds": 2, "epochs": 2, "metric": "val_loss", "engine": engine}
    drawing = compare(Drawing, Data, {"linear": Linear()}, folder=tmp_path / "drawing", **options)
    plain = compare(MLP, Data, {"linear": Linear()}, folder=tmp_path / "plain", **options)
    for one, other in zip(drawing.results.records, plain.results.records, strict=True):
        assert one.metrics == pytest.approx(other.metrics, abs=1e-5)


class SteppingByHand(MLP):
    """Keeps a scheduler to itself, and steps it after every epoch."""

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        self.by_hand = StepLR(optimizer, 1, gamma=0.5)
        return optimizer

    def on_train_epoch_end(self):
        self.by_hand.step()


def test_a_module_that_sets_rates_itself_is_refused(tmp_path, caplog):
    caplog.set_level("INFO")
    told = "the module sets learning rates itself: at step 2 a run of linear at 0.2 used"
    with pytest.raises(InputError, match=told):
        compare(SteppingByHand, Data, {"linear": Linear()}, lrs=[0.2], seeds=2, epochs=3, folder=tmp_path / "compared")
    reason = "a step cannot be called by itself (AttributeError: 'SteppingByHand' object has no attribute 'by_hand')"
    assert reason in caplog.text
    told = "the module sets learning rates itself: at step 2 a run of constant at 0.01 used 0.005, and not 0.01"
    with pytest.raises(InputError, match=told):
        find_lr(SteppingByHand, Data, lrs=(0.01, 0.1), points=5, seeds=2, epochs=3, folder=tmp_path / "found")


class SettingWithinAStep(MLP):
    """Halves its rate in the middle of training, where the optimizer's step has begun."""

    hook: ClassVar[str] = ""

    def halve(self, name):
        if name == self.hook and self.global_step == 2:
            for group in self.optimizers().param_groups:
                group["lr"] /= 2

    def training_step(self, batch, batch_idx):
        self.halve("training_step")
        return super().training_step(batch, batch_idx)

    def on_before_optimizer_step(self, optimizer):
        self.halve("on_before_optimizer_step")


@pytest.mark.parametrize("hook", ["training_step", "on_before_optimizer_step"])
def test_a_rate_that_is_set_within_a_step_is_noticed(tmp_path, monkeypatch, hook):
    monkeypatch.setattr(SettingWithinAStep, "hook", hook)
    told = "the module sets learning rates itself: at step 2 a run of constant at 0.01 used 0.005, and not 0.01"
    options = {"epochs": 4, "seeds": 2, "engine": "sequential"}
    with pytest.raises(InputError, match=told):
        compare(SettingWithinAStep, Data, {"constant": Constant()}, lrs=[0.01], folder=tmp_path / "race", **options)
    with pytest.raises(InputError, match=told):
        find_lr(SettingWithinAStep, Data, lrs=(0.01, 0.1), points=5, folder=tmp_path / "found", **options)


class Skipping(MLP):
    """Has no loss for every other batch."""

    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) if batch_idx % 2 == 0 else None


def test_steps_that_a_module_skips_are_no_divergence(tmp_path):
    found = find_lr(Skipping, partial(Data, 16), lrs=(0.001, 0.1), points=5, seeds=2, epochs=2, folder=tmp_path)
    assert not found.outcome.broken.any()
    assert np.isfinite(found.outcome.metrics[TRAINING_LOSS]).all()


class Rarely(MLP):
    """Takes a step with every third batch, as modules do by overriding ``optimizer_step``."""

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
        if self.global_step % 3 == 2:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        else:
            optimizer_closure()


@pytest.mark.parametrize("batch_size", [16, 32], ids=["four batches", "two"])
def test_a_run_that_skips_steps_keeps_its_schedule(tmp_path, batch_size):
    data, given = partial(Data, batch_size, rows=64), {"seeds": 2, "epochs": 3, "folder": tmp_path / "race"}
    schedules = {"ours": Linear(), "torch's": partial(LinearLR, start_factor=1.0, end_factor=0.25, total_iters=3)}
    race = compare(Rarely, data, schedules, lrs=[0.01], **given)
    used = {record.key.schedule: record.curves["lr"].tolist() for record in race.results.records}
    assert used["torch's"] == pytest.approx({16: [0.01, 0.0075, 0.005], 32: [0.0075, 0.0075, 0.005]}[batch_size])
    given["folder"] = tmp_path / "search"
    found = find_lr(Rarely, data, schedules["torch's"], lrs=(1e-3, 0.1), points=5, engine="sequential", **given)
    assert not found.outcome.broken.any()


class Checking(MLP):
    """Looks whether its loss is finite."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        if not torch.isfinite(loss):
            raise ValueError("the loss is not finite")
        return loss


def test_a_run_whose_module_raises_as_its_loss_breaks_down_has_diverged(tmp_path, caplog):
    caplog.set_level("INFO")
    given = {"lrs": [0.01, 1e30], "seeds": 2, "epochs": 2, "metric": "val_loss", "folder": tmp_path / "race"}
    data = partial(Data, 16, rows=64)
    race = compare(Checking, data, {"constant": Constant(), "linear": Linear()}, **given)
    assert [record.diverged for record in race.results.records] == [False, False, True, True] * 2
    told = "constant at 1e+30, seed 1, counts as diverged: Checking raised ValueError: the loss is not finite (line "
    assert told in caplog.text
    assert (tmp_path / "race" / "report.html").exists()
    assert compare(Checking, data, {"constant": Constant(), "linear": Linear()}, **given).summary == race.summary
    with pytest.raises(
        InputError, match=r"constant at 1e\+30, seed 0, broke off, Checking raised .*: give lower rates"
    ):
        compare(Checking, data, {"constant": Constant()}, **{**given, "lrs": [1e30], "folder": tmp_path / "high"})


def test_a_race_with_a_schedule_of_which_every_run_breaks_off_has_its_report(tmp_path):
    schedules = {"constant": Constant(), "high": Constant(1e30)}
    given = {"lrs": [0.01], "seeds": 2, "epochs": 2, "engine": "sequential", "folder": tmp_path}
    race = compare(Checking, partial(Data, 16, rows=64), schedules, **given)
    assert race.summary.out == ("high",)
    assert {"report.html", "rates.png", "curves.png"} <= {path.name for path in tmp_path.iterdir()}
    assert scalar_tags(tmp_path / "tensorboard" / "constant") == {"lr/group0", "val_acc", "val_loss", "test_acc"}
    assert scalar_tags(tmp_path / "tensorboard" / "high") == {"val_acc", "val_loss"}


class Factorizing(MLP):
    """Its loss is that of a matrix which has no factors once weights are infinite."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        factors = torch.linalg.cholesky(torch.eye(2) * (1 + 0 * sum(weight.sum() for weight in self.parameters())))
        return loss + 0 * factors.sum()


def test_a_matrix_that_an_operation_refuses_ends_neither_the_race_nor_other_runs(tmp_path, caplog):
    caplog.set_level("INFO")
    given = {"lrs": [0.01, 1e30], "seeds": 2, "epochs": 2, "metric": "val_loss", "folder": tmp_path}
    race = compare(Factorizing, partial(Data, 16, rows=64), {"constant": Constant(), "linear": Linear()}, **given)
    assert [record.diverged for record in race.results.records] == [False, False, True, True] * 2
    assert re.search(r"since a run breaks down and would stop the others \(_?LinAlgError: linalg.cholesky", caplog.text)


def test_other_errors_of_a_run_keep_their_traceback(tmp_path):
    class Wrong(MLP):
        def training_step(self, batch, batch_idx):
            assert self.trainer.global_step < 3, "of its own"
            return super().training_step(batch, batch_idx)

    with pytest.raises(AssertionError, match="of its own"):
        compare(
            Wrong, Data, {"constant": Constant()}, lrs=[0.01], seeds=2, epochs=2, metric="val_loss", folder=tmp_path
        )


class Ending(MLP):
    def on_train_epoch_end(self):
        self.trainer.should_stop = self.current_epoch == 1


def test_a_module_that_ends_its_training_itself_is_refused(tmp_path, caplog):
    caplog.set_level("INFO")
    told = "Ending ends its training itself, after epoch 2 of 4, and runs are compared at one length"
    with pytest.raises(InputError, match=told):
        compare(Ending, Data, {"linear": Linear()}, lrs=[0.1], seeds=2, epochs=4, metric="val_loss", folder=tmp_path)
    assert "one Trainer.fit a run, since it sets self.trainer.should_stop (line " in caplog.text
    assert "of test_compare.py: self.trainer.should_stop = self.current_epoch == 1)." in caplog.text


class OfOtherLength(Data):
    """Every third seed has fewer rows."""

    def __init__(self, seed: int) -> None:
        super().__init__(batch_size=16, rows=64 if seed % 3 < 2 else 50)


def test_where_a_later_seed_cannot_share_the_program_the_rest_trains_one_by_one(tmp_path, caplog):
    caplog.set_level("INFO")
    options = {"lrs": [0.01, 0.1], "seeds": 6, "epochs": 2, "metric": "val_loss"}
    both = {"linear": Linear(), "constant": Constant()}
    mixed = compare(MLP, OfOtherLength, both, folder=tmp_path / "mixed", **options)
    alone = compare(MLP, OfOtherLength, both, folder=tmp_path / "alone", engine="sequential", **options)
    reason = "seed 2 has batches of other sizes than seed 0"
    assert (mixed.results.engine, mixed.results.reason) == ("sequential", reason)
    assert f"Engine: sequential, one Trainer.fit a run, since {reason}." in caplog.text
    assert "Engine: vectorized" in caplog.text
    assert [record.key for record in mixed.results.records] == [record.key for record in alone.results.records]
    for one, other in zip(mixed.results.records, alone.results.records, strict=True):
        np.testing.assert_allclose(one.curves["val_loss"], other.curves["val_loss"], atol=1e-5)
    with pytest.raises(InputError, match=f"cannot be vectorized, {reason}: leave engine at auto"):
        compare(MLP, OfOtherLength, both, folder=tmp_path / "asked", engine="vectorized", **options)


def test_other_runs_change_no_result(tmp_path):
    two = {"constant": Constant(), "linear": Linear()}
    alone = race(tmp_path / "alone", {"linear": two["linear"]}, seeds=[1], momenta=[0.9])
    together = race(tmp_path / "together", two, lrs=[0.3, 0.1], seeds=[0, 1], momenta=[0.9, 0.0])
    (expected,) = alone.results.records
    (found,) = [record for record in together.results.records if record.key == expected.key]
    assert found.metrics == expected.metrics


def test_a_finished_race_is_not_run_again(tmp_path, monkeypatch):
    first = race(tmp_path, {"constant": Constant(), "linear": Linear()})
    written = (tmp_path / "results.csv").read_bytes()
    monkeypatch.setattr("lit_lrsched.comparison.runner.Runner._chunks", lambda *_: pytest.fail("trained again"))
    second = race(tmp_path, {"constant": Constant(), "linear": Linear()})
    assert second.results.trained == 0
    assert (first.results.engine, second.results.engine) == ("vectorized", None)
    assert "Engine: " not in (tmp_path / "report.html").read_text()
    assert second.summary == first.summary
    assert (tmp_path / "results.csv").read_bytes() == written


def test_a_diverged_run_is_kept_and_poisons_nobody(tmp_path):
    schedules = {"constant": Constant(), "wild": Constant(1e30)}
    records = race(tmp_path / "both", schedules).results.records
    alone = race(tmp_path / "one", {"constant": Constant()}).results.records
    assert [record.diverged for record in records] == [False, False, True, True]
    assert [record.metrics for record in records[:2]] == [record.metrics for record in alone]


def test_what_has_no_test_data_is_refused_before_it_trains(tmp_path):
    class Untested(IonosphereDataModule):
        test_dataloader = LightningDataModule.test_dataloader

    with pytest.raises(InputError, match=r"Untested has no test_dataloader: .* add test_step and test_dataloader"):
        compare(IonosphereClassifier, Untested, {"constant": Constant()}, seeds=2, folder=tmp_path / "race")
    assert not (tmp_path / "race").exists()


class WithBatchNorm(IonosphereClassifier):
    def __init__(self) -> None:
        super().__init__()
        self.network.insert(1, torch.nn.BatchNorm1d(34))


def test_a_module_with_running_statistics_trains_in_one_program(tmp_path):
    result = compare(
        WithBatchNorm, IonosphereDataModule, {"constant": Constant()}, lrs=[0.1], seeds=2, epochs=1, folder=tmp_path
    )
    assert result.results.engine == "vectorized"
    assert len(result.results.records) == 2


def test_what_tuning_brings_over_the_rate_that_one_starts_from(tmp_path):
    result = race(tmp_path, {"constant": Constant(), "linear": Linear()}, lrs=[0.1, 0.3], momenta=[0.0, 0.9], seeds=4)
    (by_hand,) = {
        (row.schedule, row.lr, row.momentum)
        for row in result.summary.settings
        if row.schedule == "linear"
        and row.validation == max(r.validation for r in result.summary.settings if r.schedule == "linear")
    } or [None]
    test = {dataclasses.astuple(record.key): record.metrics["test_acc"] for record in result.results.records}
    gains = [test[(*by_hand, 0.0, seed)] - test["constant", 0.1, 0.0, 0.0, seed] for seed in range(4)]
    found = result.results.gain
    assert (found.schedule, found.lr, found.momentum) == by_hand
    assert found.difference.gain == pytest.approx(sum(gains) / 4, abs=1e-6)
    assert str(found) in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "summary.json").read_text())["gain"]["difference"]["p"] == found.difference.p
    assert race(tmp_path / "other", {"constant": Constant()}).results.gain is None


def test_an_instance_serves_as_the_pattern_and_is_told_so(tmp_path, caplog):
    caplog.set_level("INFO")
    model, data = IonosphereClassifier(hidden=5), IonosphereDataModule()
    result = compare(model, data, {"constant": Constant()}, lrs=[0.1], seeds=2, epochs=1, folder=tmp_path)
    first, second = result.results.records
    assert first.metrics != second.metrics
    told = "IonosphereClassifier is an instance: every seed draws its weights anew"
    assert told in caplog.text
    by_functions = compare(
        lambda: model, lambda: data, {"constant": Constant()}, lrs=[0.1], seeds=2, epochs=1, folder=tmp_path / "by"
    ).results
    assert (by_functions.model, by_functions.data) == ("IonosphereClassifier", "IonosphereDataModule")
    caplog.clear()
    find_lr(MLP(), Data, lrs=(0.01, 0.1), points=5, seeds=2, epochs=1, folder=tmp_path / "found")
    assert "MLP is an instance: every seed draws its weights anew" in caplog.text
    caplog.clear()
    find_lr(MLP, Data, lrs=(0.01, 0.1), points=5, seeds=2, epochs=1, folder=tmp_path / "class")
    assert "is an instance" not in caplog.text


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"lrs": []}, "lrs is empty"),
        ({"lrs": [0.1, 0.1]}, "names something twice"),
        ({"lrs": [-0.1]}, "no learning rate"),
        ({"momenta": [1.5]}, "no momentum"),
        ({"seeds": 0}, "seeds is empty"),
        ({"epochs": 0}, "epochs=0 trains nothing"),
        ({"metric": "val_acx", "mode": "max"}, "did you mean 'val_acc'"),
        ({"reference": "cosnie"}, "reference='cosnie'"),
        ({"mode": "maximum"}, "mode='maximum' is unknown"),
        ({"engine": "sequencial"}, r"engine='sequencial' is unknown \(did you mean 'sequential'\?\)"),
    ],
)
def test_mistakes(tmp_path, options, told):
    with pytest.raises(InputError, match=told):
        race(tmp_path, {"constant": Constant()}, **options)
    assert not list(tmp_path.iterdir())


def test_a_name_that_no_line_can_hold_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(InputError, match=r"schedules: 'two\\nlines' is no name that a line can hold: rename it"):
        race(tmp_path, {"two\nlines": Constant()})
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_command(command):
    Path("race.yaml").write_text(
        "schedules:\n  constant: Constant\n  wc: {class_path: WarmupCosine, init_args: {warmup: 10%}}\n"
    )
    options = ["--lrs=[0.1,0.3]", "--momenta=[0.9]", "--seeds=6", "--trainer.max_epochs=3", "--export=best.yaml"]
    assert command("compare", "--config=race.yaml", *options) == 0
    assert "24 trainings: 2 schedules x 2 rates x 1 momentum x 6 seeds, 3 epochs each." in command.out
    assert max(map(len, command.out.splitlines())) <= 100
    (folder,) = Path("lightning_logs").iterdir()
    written = {path.name for path in folder.iterdir()}
    assert {"results.csv", "curves.npz", "summary.json", "report.html", "tensorboard"} <= written
    best = yaml.safe_load(Path("best.yaml").read_text())
    assert best["optimizer"]["init_args"]["momentum"] == 0.9
    assert command("fit", "--config=best.yaml", "--trainer.max_epochs=1") == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_command_says_what_it_cannot_decide_and_as_json_too(command, monkeypatch):
    finished: list[Comparison] = []
    show = Comparison.show
    monkeypatch.setattr(Comparison, "show", lambda race: [finished.append(race), show(race)])
    options = ["--schedules=[Constant, Linear]", "--lrs=[0.001,0.003]", "--momenta=[0.9]", "--trainer.max_epochs=1"]
    assert command("compare", *options, "--seeds=5", "--optimizer=Adam", "--folder=race", "--json") == 0
    found, written = json.loads(command.out), json.loads(Path("race/summary.json").read_text())
    assert found == finished[0].as_dict() == {**written, "table": found["table"], "folder": "race"}
    assert (found["table"], found["verdict"]) == (finished[0].table, list(finished[0].verdict))
    # Before the first run, that five seeds decide nothing.
    said = "5 seeds cannot tell schedules apart: p is never below 0.0625, and 0.05 is asked for. Give at least 6."
    lines = command.err.splitlines()
    assert lines.index(said) == lines.index("val_acc tunes: higher is better.") + 1
    # Whatever was tried is at an edge, and a wider grid is at hand.
    assert "; widen the grid: lrs=[" in " ".join(command.err.split())
    assert "The wider grid: --lrs '[" in command.err
    assert set(json.loads((Path("race") / "summary.json").read_text())["wider_lrs"]) > {0.001, 0.003}
    # The ionosphere data are split anew for every seed.
    assert "The seeds re-split the same rows" in command.err
    page = (Path("race") / "report.html").read_text()
    assert "for 1 epoch with Adam." in page
    assert "call_without_instantiate_context" not in page


def test_splits_are_known_from_the_rows():
    def recipe(make):
        return lambda seed: (None, make(seed))

    resplit = splits_of(recipe(lambda seed: IonosphereDataModule(seed=seed)), [3, 4], PLAIN)
    assert not resplit.same_test
    assert resplit.overlap == resplit.test / resplit.train
    fixed = splits_of(recipe(lambda seed: IonosphereDataModule(seed=0)), [3, 4], PLAIN)
    assert fixed.same_test
    assert fixed.overlap is None
    assert splits_of(recipe(Drawn), [3, 4], PLAIN) is None
    assert splits_of(recipe(lambda seed: IonosphereDataModule(seed=seed)), [3], PLAIN) is None
    regime = Regime(limit_train=2, limit_test=1)
    limited = splits_of(recipe(lambda seed: IonosphereDataModule(seed=seed)), [3, 4], regime)
    assert (limited.train, limited.test) == (2 * 24, 24)


class Drawn(LightningDataModule):
    """Rows of its own for every seed."""

    def __init__(self, seed):
        super().__init__()
        self.rows = TensorDataset(torch.randn(40, 3, generator=torch.Generator().manual_seed(seed)))

    def train_dataloader(self):
        return DataLoader(self.rows)

    test_dataloader = train_dataloader


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--schedules", "[]"], "schedules is empty"),
        (["--schedules", "[Constent]"], "Constent"),
    ],
)
def test_mistakes_on_the_command_line(command, arguments, told):
    assert command("compare", *arguments, "--seeds=1", "--trainer.max_epochs=1") == 2
    assert told in command.err
    assert command.err.count("\n") == 1


RACE = ["compare", "--schedules=[Constant, Cosine, Linear, Rex]", "--lrs=[0.1,0.3]", "--momenta=[0.9]", "--seeds=8"]
RACE += ["--trainer.max_epochs=20", "--folder=race"]


def run_race(folder: Path) -> bytes:
    """Runs the command and returns the results."""
    output = folder / "output.txt"
    assert status_of(forked(run_command(RACE, folder, output))) == 0, output.read_text()
    return results(folder)


def results(folder: Path) -> bytes:
    assert not (folder / "race" / "ranks").exists()
    return (folder / "race" / "results.csv").read_bytes()


def kill(child: int, folder: Path, after: float) -> None:
    """Kills a race and its processes so many seconds after its first results."""
    deadline = time.monotonic() + 120
    places = ("race/results.csv", "race/ranks/*/results.csv")  # and no folder that the race removes meanwhile
    while not any(list(folder.glob(place)) for place in places) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(after)
    with suppress(ProcessLookupError):  # it had finished
        os.killpg(child, signal.SIGKILL)
    status_of(child)


def two_processes(folder: Path, stdout: Any = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Starts the command in two processes, as somebody types it."""
    two = ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp"]
    command = [sys.executable, "-m", "lit_lrsched", *RACE, *two]
    return subprocess.Popen(command, cwd=folder, stdout=stdout, stderr=subprocess.STDOUT, start_new_session=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return run_race(tmp_path_factory.mktemp("whole"))


def test_a_killed_race_ends_with_the_same_numbers(tmp_path, whole, run_all):
    for number in range(20 if run_all else 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        kill(forked(run_command(RACE, folder, folder / "output.txt")), folder, after=0.1 * number)
        assert run_race(folder) == whole


def test_two_processes_share_a_race(tmp_path, whole):
    with (tmp_path / "said").open("wb") as said:
        assert two_processes(tmp_path, said).wait(300) == 0
    assert results(tmp_path) == whole
    told = "Each run trains on one of the 2 devices, and its batches are not split."
    assert " ".join((tmp_path / "said").read_text().split()).count(told) == 1


@pytest.mark.exhaustive
def test_one_process_takes_up_what_two_have_left(tmp_path, whole):
    kill(two_processes(tmp_path).pid, tmp_path, after=0.2)
    assert run_race(tmp_path) == whole


def test_a_share_that_was_left_is_taken_in(tmp_path):
    whole = race(tmp_path / "whole", {"constant": Constant(), "linear": Linear()})
    records = whole.results.records
    definition = _read(tmp_path / "whole")[0].definition
    RecordStore(tmp_path / "again" / "ranks" / "1", list(records[0].metrics), definition).append(records[1::2])
    again = race(tmp_path / "again", {"constant": Constant(), "linear": Linear()})
    assert again.results.trained == len(records) - len(records[1::2])
    assert (tmp_path / "again" / "results.csv").read_bytes() == (tmp_path / "whole" / "results.csv").read_bytes()


def test_a_strategy_that_forks_is_refused(tmp_path):
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp_spawn", logger=False, enable_checkpointing=False)
    with pytest.raises(InputError, match=r"cannot be forked or spawned .* give the strategy ddp, or one device"):
        race(tmp_path, {"constant": Constant()}, trainer=trainer)


def test_compiling_without_a_compiler_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match="compile=True needs a C\\+\\+ compiler, and no-such-compiler is not there"):
        race(tmp_path, {"constant": Constant()}, compile=True)


class Wider(IonosphereClassifier):
    def __init__(self) -> None:
        super().__init__(hidden=5)


def noisy(width):
    """The data with something else in them, of the same class and size."""

    class Data(IonosphereDataModule):
        def setup(self, stage):
            super().setup(stage)

        def train_dataloader(self):
            loader = super().train_dataloader()
            return DataLoader(TensorDataset(loader.dataset[:][0] * width, loader.dataset[:][1]), batch_size=24)

    return Data


def with_activation(activation):
    class Activated(IonosphereClassifier):
        def forward(self, x):
            return super().forward(activation(x))

    return Activated


SGD = torch.optim.SGD
ANOTHER = {
    "epochs": ({"epochs": 2}, "epochs=1, here 2"),
    "interval": ({"interval": "epoch"}, "interval=None, here epoch"),
    "monitor": ({"monitor": "val_acc"}, "monitor=None, here val_acc"),
    "optimizer": ({"optimizer": partial(SGD, lr=0.1, weight_decay=0.1)}, "another optimizer, SGD"),
    "optimizer's class": ({"optimizer": torch.optim.Adam}, "optimizer=SGD, here Adam"),
    "model": ({"model": Wider}, "model=IonosphereClassifier, here Wider"),
    "model's argument": ({"model": partial(IonosphereClassifier, hidden=5)}, "another model, IonosphereClassifier"),
    "instance": ({"model": IonosphereClassifier(hidden=5)}, "another model, IonosphereClassifier"),
    "function": ({"model": lambda: IonosphereClassifier(hidden=5)}, "another model, IonosphereClassifier"),
    "data's argument": ({"data": partial(IonosphereDataModule, batch_size=12)}, "another data, IonosphereDataModule"),
    "data": ({"data": noisy(2.0)}, "data=IonosphereDataModule, here Data"),
    "schedule": ({"schedules": {"rex": Constant(), "s": Linear(end=0.5)}}, "schedule s=Linear(.*), here Linear"),
    "schedule's class": ({"schedules": {"s": Constant()}}, "schedule s=Linear(.*), here Constant"),
    "torch's": ({"schedules": {"s": partial(LinearLR, end_factor=0.5)}}, "schedule s=Linear(.*), here LinearLR"),
}


def short(folder, **options):
    given = {"model": IonosphereClassifier, "data": IonosphereDataModule, "schedules": {"s": Linear()}, **options}
    defaults = {"lrs": [0.1], "seeds": 1, "epochs": 1, "optimizer": partial(SGD, lr=0.1), "engine": "sequential"}
    model, data, schedules = (given.pop(name) for name in ("model", "data", "schedules"))
    return compare(model, data, schedules, **{**defaults, "folder": folder, **given})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "race"
    short(folder)
    return folder


@pytest.mark.parametrize("change", list(ANOTHER))
def test_records_of_another_race_are_refused(trained, change):
    options, told = ANOTHER[change]
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=rf"holds other runs \(.*{told}.*\): give it a folder of its own"):
        short(trained, **options)
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"train": 100}, "content of the data=90 train rows, 40 test rows, 40 val rows, here 100 train rows, .*"),
        ({"train_end": 1.0}, "another content of the data, 90 train rows, 40 test rows, 40 val rows"),
        ({"val_end": 1.0}, "another content of the data, .*"),
    ],
)
def test_data_that_grew_or_changed_after_their_first_rows_are_others(change, told):
    def definition(train: int = 90, train_end: float = 0.0, val_end: float = 0.0) -> Definition:
        ends = {"train": (train, train_end), "val": (40, val_end), "test": (40, 0.0)}
        rows = {stage: TensorDataset(torch.tensor([[0.0]] * (n - 1) + [[end]])) for stage, (n, end) in ends.items()}

        def build(seed: int) -> tuple[IonosphereClassifier, LightningDataModule]:
            return IonosphereClassifier(), Held(rows)

        grid = grid_of(build, {"s": Linear()}, lrs=[0.1], momenta=None, seeds=[0], optimizer=SGD, epochs=1)
        return definition_of(build, grid, 1, {})

    assert definition() == definition()
    (found,) = definition(**change).differences(definition())
    assert re.fullmatch(told, found)


class Held(LightningDataModule):
    """Rows that it is given."""

    def __init__(self, rows):
        super().__init__()
        self.rows = rows

    def train_dataloader(self):
        return DataLoader(self.rows["train"])

    def val_dataloader(self):
        return DataLoader(self.rows["val"])

    def test_dataloader(self):
        return DataLoader(self.rows["test"])


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"model": with_activation(torch.sin)}, {"model": with_activation(torch.cos)}),
        ({"model": with_activation(lambda x: 2 * x)}, {"model": with_activation(lambda x: 3 * x)}),
        ({"data": noisy(1.0)}, {"data": noisy(2.0)}),
        ({"schedules": {"s": lambda step, horizon: 0.5}}, {"schedules": {"s": lambda step, horizon: 0.25}}),
        [{"schedules": {"s": partial(LambdaLR, lr_lambda=lambda epoch, k=k: k)}} for k in (0.5, 1.0)],
    ],
)
def test_what_only_its_code_or_its_content_tells_apart(tmp_path, one, other):
    short(tmp_path, **one)
    assert short(tmp_path, **one).results.trained == 0
    with pytest.raises(InputError, match="holds other runs"):
        short(tmp_path, **other)


def test_more_seeds_rates_and_schedules_share_a_folder(tmp_path):
    short(tmp_path, schedules={"s": Linear()})
    assert short(tmp_path, seeds=2, lrs=[0.1, 0.3]).results.trained == 3
    assert short(tmp_path, schedules={"rex": Constant()}).results.trained == 1
    # What an earlier race brought is remembered, though it did not race the last time.
    with pytest.raises(InputError, match="schedule s="):
        short(tmp_path, schedules={"s": Constant()})
    # The rate of the optimizer is that of the key.
    assert short(tmp_path, optimizer=partial(SGD, lr=0.7)).results.trained == 0


def test_the_name_of_the_default_folder_follows_from_the_race(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [short(None).folder, *(short(None, **options).folder for options, _ in ANOTHER.values())]
    folders += [short(None, **options).folder for options in ({"seeds": 2}, {"lrs": [0.3]}, {"momenta": [0.9]})]
    assert len(set(folders)) == len(folders)
    again = short(None)
    assert again.folder == folders[0]
    assert again.results.trained == 0


def test_the_command_refuses_a_folder_of_another_race(command):
    arguments = ["compare", "--schedules=[Constant]", "--lrs=[0.1]", "--seeds=1", "--folder=race", "--momenta=[0.9]"]
    assert command(*arguments, "--trainer.max_epochs=1") == 0
    assert command(*arguments, "--trainer.max_epochs=2") == 2
    assert command.err == "error: race holds other runs (epochs=1, here 2): give it a folder of its own\n"
    assert command(*arguments, "--trainer.max_epochs=1", "--model.hidden=5") == 2
    assert "another model, IonosphereClassifier" in command.err
