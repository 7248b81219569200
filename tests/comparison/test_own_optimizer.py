"""A module races with the optimizer that it brings."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import LightningModule
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR

from lit_lrsched import Constant, IonosphereClassifier, IonosphereDataModule, Linear, compare, find_lr
from lit_lrsched.comparison.engine.regime import PLAIN
from lit_lrsched.comparison.own_optimizer import ask
from lit_lrsched.errors import InputError
from tests.foreign import GAN, MLP, Data, Decayed, Grouped, HeadOnly, NoOptimizer, Several, Untyped
from tests.reading import run_folder, scalars

DATA = ["--data", "tests.foreign.Data", "--data.rows=64", "--data.batch_size=16"]
QUICK = ["--seeds=1", "--trainer.max_epochs=2", "--schedules", "[Constant]"]


def race(model, folder, schedules=None, **options):
    data = partial(Data, 16, rows=64)
    defaults = {"seeds": 1, "epochs": 2, "folder": folder}
    return compare(model, data, schedules or {"linear": Linear()}, **{**defaults, **options})


def rates(result) -> list[float]:
    return sorted({record.key.lr for record in result.results.records})


def test_a_module_races_with_its_optimizer_and_around_its_rate(command):
    assert command("compare", "--model", "tests.foreign.MLP", *DATA, *QUICK, "--export=best.yaml") == 0
    assert "Optimizer: MLP's own Adam; peak rates 0.0001, 0.0003, 0.001, 0.003, 0.01 (its own: 0.001)." in command.out
    assert "5 trainings: 1 schedule x 5 rates x 1 seed" in command.out
    best = yaml.safe_load(Path("best.yaml").read_text())
    assert best["optimizer"]["class_path"] == "torch.optim.Adam"
    assert command("fit", "--config=best.yaml", "--trainer.max_epochs=1", "--trainer.log_every_n_steps=1") == 0


def test_python_does_the_same(tmp_path, caplog):
    caplog.set_level("INFO", logger="lightning.pytorch")
    result = race(MLP, tmp_path)
    assert rates(result) == [0.0001, 0.0003, 0.001, 0.003, 0.01]
    assert {record.key.momentum for record in result.results.records} == {0.9}
    opening = "Optimizer: MLP's own Adam; peak rates 0.0001, 0.0003, 0.001, 0.003, 0.01 (its own: 0.001)."
    assert opening in caplog.messages


def test_numbers_of_numpy_and_of_an_iterator_will_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"lrs": np.array([0.5, 0.25], np.float32), "momenta": np.array([0.5]), "seeds": np.arange(2)}
    folders = [race(MLP, None, **given).folder]
    folders.append(race(MLP, None, lrs=iter([0.5, 0.25]), momenta=[0.5], seeds=np.int64(2)).folder)
    assert folders[0] == folders[1]


def test_the_rate_of_a_module_races_to_its_last_digit(tmp_path):
    class InATensor(Decayed):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=torch.tensor(0.1))
            return [optimizer], [StepLR(optimizer, 1, 0.9)]

    result = race(InATensor, tmp_path, {"constant": Constant()}, seeds=6)
    assert float(torch.tensor(0.1)) in rates(result)
    assert result.results.gain is not None


@pytest.mark.parametrize("momenta", [(None,), (0.5,)])
def test_the_engines_train_with_the_same_optimizer(tmp_path, momenta):
    options = {"lrs": [0.02], "momenta": momenta, "seeds": 2}
    schedules = {"linear": Linear(), "step": partial(StepLR, step_size=1, gamma=0.5)}
    results = {engine: race(Decayed, tmp_path / engine, schedules, engine=engine, **options) for engine in ENGINES}
    fast, slow = (results[engine].results.records for engine in ENGINES)
    for one, other in zip(fast, slow, strict=True):
        assert one.key.momentum == (0.8 if momenta == (None,) else 0.5)
        assert one.curves["lr"] == pytest.approx(other.curves["lr"], rel=1e-12)
        assert one.metrics == pytest.approx(other.metrics, abs=1e-5)
    plain = race(Decayed, tmp_path / "plain", schedules, **options, optimizer=partial(SGD, lr=0.02, momentum=0.8))
    assert plain.results.records[0].metrics["val_loss"] != pytest.approx(fast[0].metrics["val_loss"], abs=1e-4)


ENGINES = ["vectorized", "sequential"]


class Watched(Grouped):
    """Notes what its groups are set to at every step."""

    used: ClassVar[list[list[tuple[float, float, float]]]] = []

    def on_before_optimizer_step(self, optimizer):
        groups = optimizer.param_groups
        Watched.used.append([(group["lr"], group["betas"][0], group["weight_decay"]) for group in groups])


def test_groups_keep_their_ratio_and_their_settings(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", logger="lightning.pytorch")
    monkeypatch.setattr(Watched, "used", [])
    result = race(Watched, tmp_path, lrs=[2e-3])
    steps = [2e-3 * (1 - step / 8) for step in range(8)]  # two epochs of four batches, linear to 0
    # Without a trace of its OneCycleLR, which would start at a 25th of the rate and with a beta of 0.95.
    assert [used[0] for used in Watched.used[:8]] == [(pytest.approx(lr), 0.9, 0.2) for lr in steps]
    assert [used[1] for used in Watched.used[:8]] == [(pytest.approx(4 * lr), 0.9, 0.0) for lr in steps]
    # Its own, at twice its rate: OneCycleLR from a 25th of the peak, and its betas from 0.95 to 0.85 and back.
    for first, last in Watched.used[8:]:
        assert last[0] == pytest.approx(4 * first[0], rel=1e-12)
    assert Watched.used[8][0] == (pytest.approx(2e-3 / 25), 0.95, 0.2)
    assert min(used[0][1] for used in Watched.used[8:]) == pytest.approx(0.85, abs=0.01)
    assert result.results.engine == "sequential"
    assert result.results.reason == "a step uses the betas of a param group"
    (opening,) = [message for message in caplog.messages if message.startswith("Optimizer: ")]
    assert opening == (
        "Optimizer: Watched's own AdamW (weight_decay=0.2); peak rates 0.002 (its own: 0.001). The peak rates are the "
        "first param group's; all 2 keep their ratio: first 0.001 (weight_decay 0.2), last 0.004 (weight_decay 0). "
        "Its own schedule, OneCycleLR, races as 'own'."
    )


def test_a_part_of_the_parameters_and_another_class(tmp_path):
    result = race(HeadOnly, tmp_path)
    assert rates(result) == [0.0001, 0.0003, 0.001, 0.003, 0.01]
    assert result.results.engine == "vectorized"
    own = ask(HeadOnly(), Data(), PLAIN, 1)
    assert (own.members, own.count) == (((2, 3),), 4)


class Unknown(MLP):
    def configure_optimizers(self):
        return torch.optim.Adamax(self.parameters(), lr=1e-3)


def test_a_class_without_a_vectorized_form_trains_one_run_at_a_time(tmp_path):
    result = race(Unknown, tmp_path, lrs=[1e-3])
    assert result.results.engine == "sequential"
    assert result.results.reason.startswith(
        "the optimizer Adamax is none of torch's SGD, Adam, AdamW, NAdam, RMSprop, Adagrad"
    )


@torch.no_grad()
def zero(optimizer, args, kwargs):
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.zero_()


class Hooked(MLP):
    def configure_optimizers(self):
        optimizer = SGD(self.parameters(), lr=0.1)
        optimizer.register_step_post_hook(zero)
        return optimizer


def hooked_sgd(parameters):
    optimizer = SGD(parameters, lr=0.1)
    optimizer.register_step_post_hook(zero)
    return optimizer


def test_hooks_of_an_optimizer_are_called(tmp_path):
    for raced in (race(Hooked, tmp_path / "own"), race(MLP, tmp_path / "given", optimizer=hooked_sgd)):
        assert raced.results.reason == "its optimizer has hooks, or a step, of its own"
        for record in raced.results.records:
            assert record.metrics["test_loss"] == pytest.approx(math.log(2))  # of weights that are all 0


def test_no_configuration_sets_up_the_hooks_of_an_optimizer(command):
    model = ["--model", "tests.comparison.test_own_optimizer.Hooked", *DATA, *QUICK]
    assert command("compare", *model, "--export=best.yaml") == 2
    assert "Hooked's optimizer has hooks, or a step, of its own, which no configuration sets up" in command.err
    assert command.err.count("\n") == 1
    assert not Path("lightning_logs").exists()


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (GAN, "GAN optimizes by hand"),
        (NoOptimizer, "NoOptimizer has no optimizer, so there is no rate to set"),
        (Several, "Several has several optimizers, and only the rate of one can be set"),
    ],
)
def test_what_cannot_race_is_refused(command, model, told):
    assert command("compare", "--model", f"tests.foreign.{model.__name__}", *DATA, *QUICK) == 2
    assert told in command.err
    assert command.err.count("\n") == 1
    assert not Path("lightning_logs").exists()
    with pytest.raises(InputError, match=told.split(" ")[0]):
        race(model, Path("race"))


class Ranging(MLP):
    """Its optimizer has a schedule of its own, as Ranger21 of pytorch_optimizer has."""

    def configure_optimizers(self):
        optimizer = SGD(self.parameters(), lr=0.1)
        optimizer.disable_lr_scheduler = False
        return optimizer


def test_an_optimizer_with_a_schedule_of_its_own_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(InputError, match="SGD has a schedule of its own"):
        race(Ranging, tmp_path / "race")
    assert not (tmp_path / "race").exists()


def test_fit_sets_up_the_groups_of_an_export(command):
    model = ["--model", "tests.comparison.test_own_schedule.Unscheduled", *DATA]
    one = ["--schedules=[Linear]", "--lrs=[0.002]", "--seeds=1", "--trainer.max_epochs=1", "--metric=val_loss"]
    decay = ["--weight_decays=[0.3]", "--trainer.gradient_clip_val=0.5", "--export=best.yaml"]
    assert command("compare", *model, *one, *decay) == 0
    best = yaml.safe_load(Path("best.yaml").read_text())
    assert best["trainer"] == {"gradient_clip_val": 0.5, "gradient_clip_algorithm": "norm", "max_epochs": 1}
    # The groups have 0.01 and 0.03, and fit gives the highest of a module's rates the one that it is given.
    assert best["optimizer"]["init_args"] == {"lr": pytest.approx(0.006), "weight_decay": pytest.approx(0.3)}
    assert command("fit", "--config=best.yaml") == 0
    run = run_folder()
    assert scalars(run, "lr/decay")[0] == pytest.approx(0.002, rel=1e-5)
    assert scalars(run, "lr/others")[0] == pytest.approx(0.006, rel=1e-5)


class TwoMomenta(MLP):
    def configure_optimizers(self):
        first, last = self.network[0].parameters(), self.network[-1].parameters()
        return SGD([{"params": first, "momentum": 0.9}, {"params": last, "momentum": 0.8}], lr=0.1)


def test_groups_that_no_configuration_sets_up_are_refused_before_the_race(command):
    model = ["--model", "tests.comparison.test_own_optimizer.TwoMomenta", *DATA, *QUICK]
    assert command("compare", *model, "--momenta=[0.5]", "--export=best.yaml") == 2  # fit keeps what groups differ in
    assert "no configuration sets up the param groups of TwoMomenta's optimizer" in command.err
    assert command.err.count("\n") == 1
    assert not Path("lightning_logs").exists()


def test_another_optimizer_races_around_its_own_rate(command):
    adamw = ["--optimizer=AdamW", "--optimizer.lr=0.01"]
    assert command("compare", *QUICK, *adamw) == 0
    assert "Optimizer: AdamW, as given; peak rates 0.001, 0.003, 0.01, 0.03, 0.1." in command.out


class HeadAlone(MLP):
    """Trains its last layer, without freezing the others."""

    def configure_optimizers(self):
        return torch.optim.Adam(self.network[-1].parameters(), lr=1e-3)


class Fails(MLP):
    def configure_optimizers(self):
        raise RuntimeError("not today")


class InSetup(Grouped):
    """Makes its layers when it is set up."""

    def __init__(self):
        LightningModule.__init__(self)

    def setup(self, stage):
        if stage == "fit":
            self.network = torch.nn.Sequential(torch.nn.Linear(10, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))


class InSetupAlone(InSetup):
    configure_optimizers = LightningModule.configure_optimizers


@pytest.mark.sampled(3)
@pytest.mark.parametrize("model", [Grouped, Untyped, HeadAlone, Fails, MLP, InSetup, InSetupAlone])
def test_an_optimizer_that_is_given_keeps_the_param_groups_as_fit_does(tmp_path, model, caplog):
    caplog.set_level("INFO", logger="lightning.pytorch")
    options = {"optimizer": partial(SGD, lr=0.4), "schedules": {"constant": Constant()}, "lrs": [0.05]}
    together, alone = (
        race(model, tmp_path / engine, engine=engine, **options) for engine in ("vectorized", "sequential")
    )
    for one, other in zip(together.results.records, alone.results.records, strict=True):
        assert one.metrics == pytest.approx(other.metrics, abs=1e-5)
    said = " ".join(caplog.messages)
    assert ("its param groups stay." in said) == (model in (Grouped, Untyped, HeadAlone, InSetup))
    assert ("its param groups are not known: not today." in said) == (model is Fails)
    groups = "all 2 keep their ratio: first 0.4 (weight_decay 0.2), last 1.6"
    assert (groups in said) == (model in (Grouped, Untyped, InSetup))
    plain = race(MLP, tmp_path / "plain", **options)
    same = [record.metrics for record in plain.results.records] == [
        record.metrics for record in together.results.records
    ]
    assert same == (model in (MLP, Fails))


class SteppedByHand(MLP):
    """Warms up from 0 with a scheduler that it does not return, as a well-known tutorial does."""

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-3)
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 4))
        return optimizer

    def optimizer_step(self, *args, **kwargs):
        super().optimizer_step(*args, **kwargs)
        self.lr_scheduler.step()


def test_a_scheduler_that_a_module_steps_by_hand_is_left_out_and_named(tmp_path, caplog):
    caplog.set_level("INFO", logger="lightning.pytorch")
    result = race(SteppedByHand, tmp_path, {"constant": Constant()}, lrs=[2e-3])
    assert [list(record.curves["lr"]) for record in result.results.records] == [[pytest.approx(2e-3)] * 2]
    assert result.grid.optimizer.lr == pytest.approx(1e-3)
    told = "SteppedByHand keeps LambdaLR to itself, to step it by hand: it is left out."
    assert sum(told in message for message in caplog.messages) == 1
    find_lr(SteppedByHand, partial(Data, 16, rows=64), points=5, seeds=2, epochs=1, folder=tmp_path / "find")
    assert sum(told in message for message in caplog.messages) == 2


def test_a_setup_that_fails_is_not_taken_for_an_optimizer_that_does(tmp_path):
    class Broken(InSetup):
        def setup(self, stage):
            raise RuntimeError("no data")

    with pytest.raises(RuntimeError, match="no data"):
        race(Broken, tmp_path, optimizer=partial(SGD, lr=0.4))


def test_the_worked_example_stays_as_it_is(command):
    assert command("compare", *QUICK) == 0
    sgd = "Optimizer: IonosphereClassifier's own SGD; peak rates 0.03, 0.1, 0.3, 1, 3 (its own: 0.1); momenta\n0, 0.9."
    assert sgd in command.out


def test_the_schedule_that_was_given_races_too(command):
    assert command("compare", *QUICK, "--lrs=[0.1]", "--lr_scheduler=Rex") == 0
    assert "4 trainings: 2 schedules" in command.out
    assert "\nRex" in command.out
    assert command("compare", *QUICK, "--lrs=[0.1]", "--lr_scheduler=Constant") == 0
    assert "2 trainings: 1 schedule x" in command.out
    assert command("compare", *QUICK, "--lr_scheduler=Constant", "--lr_scheduler.factor=0.5") == 0
    assert "Constant (--lr_scheduler)" in command.out


def test_a_trainer_that_has_not_the_length_is_not_asked(tmp_path):
    """The module is asked with the length of the race's runs, not with a trainer's own."""

    class Asks(MLP):
        def configure_optimizers(self):
            steps = self.trainer.estimated_stepping_batches
            return torch.optim.SGD(self.parameters(), lr=1 / steps)

    assert rates(race(Asks, tmp_path, {"constant": Constant()})) == pytest.approx([f / 8 for f in (0.1, 0.3, 1, 3, 10)])


def test_an_optimizer_that_is_given_takes_all_parameters(tmp_path):
    result = compare(
        IonosphereClassifier, IonosphereDataModule, {"constant": Constant()}, optimizer=SGD, seeds=1, epochs=1,
        folder=tmp_path, lrs=[0.1],
    )  # fmt: skip
    assert result.grid.opening() == "Optimizer: SGD, as given; peak rates 0.1."
