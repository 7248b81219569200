"""A module races with the optimizer that it brings."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import yaml
from lightning.pytorch import Callback
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR

from lit_lrsched import Constant, IonosphereClassifier, IonosphereDataModule, Linear, compare
from lit_lrsched.comparison.own_optimizer import ask
from lit_lrsched.errors import InputError
from tests.foreign import GAN, MLP, Data, Decayed, Grouped, HeadOnly, NoOptimizer, Several

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
    assert "5 trainings: 1 schedules x 5 rates x 1 momenta x 1 seeds" in command.out
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

    def configure_callbacks(self):
        class Watch(Callback):
            def on_train_batch_start(self, trainer, module, batch, batch_idx):
                groups = trainer.optimizers[0].param_groups
                Watched.used.append([(group["lr"], group["betas"][0], group["weight_decay"]) for group in groups])

        return Watch()


def test_groups_keep_their_ratio_and_their_settings(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", logger="lightning.pytorch")
    monkeypatch.setattr(Watched, "used", [])
    result = race(Watched, tmp_path, lrs=[2e-3])
    steps = [2e-3 * (1 - step / 8) for step in range(8)]  # two epochs of four batches, linear to 0
    # Without a trace of its OneCycleLR, which would start at a 25th of the rate and with a beta of 0.95.
    assert [used[0] for used in Watched.used] == [(pytest.approx(lr), 0.9, 0.2) for lr in steps]
    assert [used[1] for used in Watched.used] == [(pytest.approx(4 * lr), 0.9, 0.0) for lr in steps]
    assert result.results.engine == "sequential"
    assert "parameter groups differ in their settings" in result.results.reason
    (opening,) = [message for message in caplog.messages if message.startswith("Optimizer: ")]
    assert opening == (
        "Optimizer: Watched's own AdamW (weight_decay=0.2); peak rates 0.002 (its own: 0.001). The peak rates are the "
        "first param group's; all 2 keep their ratio, 0.001, 0.004. "
        "Its OneCycleLR gives way to the schedules that race."
    )
    with pytest.raises(InputError, match="Watched has param groups, or leaves parameters out"):
        result.export(tmp_path / "best.yaml")


def test_a_part_of_the_parameters_and_another_class(tmp_path):
    result = race(HeadOnly, tmp_path)
    assert rates(result) == [0.0001, 0.0003, 0.001, 0.003, 0.01]
    assert result.results.engine == "sequential"
    assert result.results.reason == "the optimizer RMSprop is not SGD, Adam or AdamW"
    own = ask(HeadOnly(), Data(), 1)
    assert (own.members, own.count, own.is_whole) == (((2, 3),), 4, False)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (GAN, "GAN optimizes by hand"),
        (NoOptimizer, "NoOptimizer has no optimizer, so there is no rate to race"),
        (Several, "Several has several optimizers, and a race sets the rate of one"),
    ],
)
def test_what_cannot_race_is_refused(command, model, told):
    assert command("compare", "--model", f"tests.foreign.{model.__name__}", *DATA, *QUICK) == 2
    assert told in command.err
    assert command.err.count("\n") == 1
    assert not Path("lightning_logs").exists()
    with pytest.raises(InputError, match=told.split(" ")[0]):
        race(model, Path("race"))


def test_an_export_that_would_lose_the_groups_is_refused_before_the_race(command):
    assert command("compare", "--model", "tests.foreign.Grouped", *DATA, *QUICK, "--export=best.yaml") == 2
    assert "nothing to export" in command.err
    assert not Path("lightning_logs").exists()


def test_another_optimizer_races_around_its_own_rate(command):
    adamw = ["--optimizer=AdamW", "--optimizer.lr=0.01"]
    assert command("compare", *QUICK, *adamw) == 0
    assert "Optimizer: AdamW, as given; peak rates 0.001, 0.003, 0.01, 0.03, 0.1." in command.out


def test_the_worked_example_stays_as_it_is(command):
    assert command("compare", *QUICK) == 0
    sgd = "Optimizer: IonosphereClassifier's own SGD; peak rates 0.03, 0.1, 0.3, 1, 3 (its own: 0.1); momenta\n0, 0.9."
    assert sgd in command.out


def test_the_schedule_that_was_given_races_too(command):
    assert command("compare", *QUICK, "--lrs=[0.1]", "--lr_scheduler=Rex") == 0
    assert "4 trainings: 2 schedules" in command.out
    assert "\nRex" in command.out
    assert command("compare", *QUICK, "--lrs=[0.1]", "--lr_scheduler=Constant") == 0
    assert "2 trainings: 1 schedules" in command.out
    assert command("compare", *QUICK, "--lr_scheduler=Constant", "--lr_scheduler.factor=0.5") == 0
    assert "Constant (--lr_scheduler)" in command.out


def test_schedules_of_groups_are_refused(command):
    Path("groups.yaml").write_text("lr_groups: {momentum: {class_path: Linear}}\nlr_scheduler: Cosine\n")
    assert command("compare", "--config=groups.yaml", *QUICK) == 2
    assert "leave --lr_groups out" in command.err


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
