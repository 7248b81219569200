"""The schedule that a module brings races as ``own``, also at other rates, momenta and weight decays."""

from __future__ import annotations

import csv
import json
import re
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.plugins.precision import MixedPrecision
from torch.optim import SGD, Adagrad, Rprop
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LambdaLR, OneCycleLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader

from lit_lrsched import ApplySchedule, Constant, Cosine, Linear, Plateau, compare, find_lr, schedule_config
from lit_lrsched.comparison.builds import build_from
from lit_lrsched.comparison.engine import batches
from lit_lrsched.comparison.engine.clipping import Clip
from lit_lrsched.comparison.engine.regime import PLAIN, Regime
from lit_lrsched.comparison.engine.vectorized import VectorizedRace
from lit_lrsched.comparison.grid import grid_of
from lit_lrsched.comparison.records import stored_records
from lit_lrsched.comparison.trainer_options import check_trainer, regime_of
from lit_lrsched.errors import InputError
from lit_lrsched.schedules.core import Horizon
from tests.foreign import MLP, Data, Decayed, Grouped
from tests.reading import run_folder, scalars
from tests.training import OfTimm, lookahead, quiet_trainer

DATA = partial(Data, 16, rows=64)  # four batches an epoch
ENGINES = ("vectorized", "sequential")


class Transformer(MLP):
    """As it is trained everywhere: AdamW, weights that decay and biases that do not, a cosine."""

    scale: ClassVar[float] = 1.0

    def __init__(self) -> None:
        super().__init__(hidden=8)

    def optimizer(self, kind: Any = torch.optim.AdamW, **options: Any) -> torch.optim.Optimizer:
        first, last = self.network[0], self.network[-1]
        groups = [
            {"params": [first.weight, last.weight], "lr": 0.01 * self.scale, "weight_decay": 0.1, "name": "decay"},
            {"params": [first.bias, last.bias], "lr": 0.03 * self.scale, "weight_decay": 0.0, "name": "others"},
        ]
        return kind(groups, **options)  # type: ignore[no-any-return]

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer()
        return [optimizer], [CosineAnnealingLR(optimizer, T_max=self.trainer.max_epochs)]


def grid(model: Any, epochs: int = 2, **options: Any) -> Any:
    given = {"lrs": None, "momenta": None, "seeds": [0, 1], "optimizer": None}
    return grid_of(build_from(model, DATA), {"linear": Linear()}, epochs=epochs, **{**given, **options})


def race(model: Any, folder: Path, **options: Any) -> Any:
    defaults = {"schedules": {"linear": Linear()}, "seeds": 1, "epochs": 3, "metric": "val_loss", "folder": folder}
    return compare(model, **{"data": DATA, **defaults, **options})


class SettingWithinAStep(Transformer):
    """Warms its rate up where the optimizer's step has begun."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.global_step == 1:
            self.optimizers().param_groups[0]["lr"] = 0.002
        return super().training_step(batch, batch_idx)


def test_a_rate_that_is_set_within_a_step_cannot_be_taken_in_proportion(tmp_path: Path) -> None:
    options: dict[str, Any] = {"points": 5, "seeds": 2, "epochs": 3, "engine": "sequential"}
    told = (
        "a step of its own schedule was given 0, 0 and used 0.002, 0; take out what sets them"  # of what is untrained
    )
    with pytest.raises(InputError, match=told):
        find_lr(SettingWithinAStep, DATA, lrs=(0.001, 0.1), folder=tmp_path, **options)


def test_a_module_with_two_groups_and_its_own_cosine_races_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    found = grid(Transformer)
    assert list(found.schedules) == ["linear", "own"]
    assert found.lrs == (0.001, 0.003, 0.01, 0.03, 0.1)
    assert found.opening() == (
        "Optimizer: Transformer's own AdamW (weight_decay=0.1); peak rates 0.001, 0.003, 0.01, 0.03, 0.1 (its own: "
        "0.01). The peak rates are the first param group's; all 2 keep their ratio: decay 0.01 (weight_decay 0.1), "
        "others 0.03 (weight_decay 0). Its own schedule, CosineAnnealingLR, races as 'own'."
    )
    keys = found.keys()
    build = build_from(Transformer, DATA)
    trainings = found.trainings(keys, Horizon(8, 4))
    (chunk,) = VectorizedRace(build, trainings, optimizer=found.optimizer, epochs=2, keep_weights=True)
    for lr, seed in ((0.001, 0), (0.01, 1), (0.03, 1)):
        run = next(i for i, key in enumerate(keys) if (key.schedule, key.lr, key.seed) == ("own", lr, seed))
        monkeypatch.setattr(Transformer, "scale", lr / 0.01)
        module, data = build(seed)
        quiet_trainer(max_epochs=2).fit(module, data)
        place = chunk.runs.index(run)
        assert chunk.rates[place] == pytest.approx([lr] * 4 + [lr / 2] * 4, rel=1e-12)
        for name, parameter in module.named_parameters():
            np.testing.assert_allclose(chunk.weights[name][place], parameter.detach(), rtol=0, atol=1e-5)


class Configured(Transformer):
    """Whose optimizer and schedule are those of a test."""

    def __init__(self, configure: Any) -> None:
        super().__init__()
        self.configure = configure

    def configure_optimizers(self) -> Any:
        return self.configure(self)


def rising(module: Any) -> Any:
    """A warmup to ten times the rate of the optimizer, as that of a well-known model for molecules."""
    optimizer = module.optimizer()
    return [optimizer], [LambdaLR(optimizer, lambda epoch: 1.0 + 9.0 * epoch)]


def test_a_schedule_that_rises_above_the_rate_of_its_optimizer_is_told() -> None:
    told = "Its own schedule, LambdaLR, races as 'own'. Its highest rate is 10 times the peak rate that it races at."
    assert grid(partial(Configured, rising)).opening().endswith(told)


def lambdas(module: Any) -> Any:
    """A schedule for each group."""
    optimizer = module.optimizer()
    return [optimizer], [LambdaLR(optimizer, [lambda epoch: 0.5**epoch, lambda epoch: 1 / (1 + epoch)])]


def plateau(module: Any) -> Any:
    """Which halves the rates after every epoch but the first, as the loss never falls by so much."""
    optimizer = module.optimizer()
    scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.9, min_lr=[0.002, 0.006])
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}


def one_cycle(module: Any) -> Any:
    """Absolute rates, and a momentum of its own."""
    optimizer = module.optimizer(torch.optim.SGD, momentum=0.9)
    steps = int(module.trainer.estimated_stepping_batches)
    return [optimizer], [{"scheduler": OneCycleLR(optimizer, [0.01, 0.03], steps), "interval": "step"}]


def every_second(module: Any) -> Any:
    optimizer = module.optimizer()
    return [optimizer], [{"scheduler": StepLR(optimizer, 1, 0.5), "interval": "step", "frequency": 2}]


def ours(module: Any) -> Any:
    groups = {"lr/others": Constant(0.5), "weight_decay": Linear(), "momentum": Linear(end=0.5)}
    return schedule_config(module.optimizer(), Cosine(), module.trainer, groups=groups)


def two(module: Any) -> Any:
    """A schedule, and one that follows a metric."""
    optimizer = module.optimizer()
    reduces = {"scheduler": ReduceLROnPlateau(optimizer, patience=0, threshold=0.9), "monitor": "val_loss"}
    return [optimizer], [StepLR(optimizer, 1, 0.5), reduces]


FACTORS = {  # of the first group, in each of the three epochs
    lambdas: [1.0, 0.5, 0.25],
    plateau: [1.0, 1.0, 0.5],
    one_cycle: None,
    every_second: [1.0, 0.25, 0.0625],  # after the second and the fourth batch of each epoch
    ours: [1.0, 0.75, 0.25],  # (1 + cos(pi * epoch / 3)) / 2
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("configure", FACTORS, ids=lambda configure: configure.__name__)
def test_the_engines_agree_on_it_at_another_rate(tmp_path: Path, configure: Any) -> None:
    options = {"lrs": [0.02], "weight_decays": [0.3]}
    model = partial(Configured, configure)
    fast, slow = (
        [record for record in race(model, tmp_path / engine, engine=engine, **options).results.records]
        for engine in ENGINES
    )
    assert [record.key for record in fast] == [record.key for record in slow]
    assert [record.key.schedule for record in fast] == ["linear", "own"]
    for one, other in zip(fast, slow, strict=True):
        assert one.curves["lr"] == pytest.approx(other.curves["lr"], rel=1e-9)
        assert one.metrics == pytest.approx(other.metrics, abs=1e-5)
    if FACTORS[configure]:
        assert fast[1].curves["lr"] == pytest.approx([0.02 * factor for factor in FACTORS[configure]], rel=1e-9)


class Unlike(MLP):
    """Two groups whose rates are not alike, a schedule that one floor stops at other shares of them, or at none."""

    def __init__(self, last: float, plateau: bool) -> None:
        super().__init__()
        self.last, self.plateau = last, plateau

    def configure_optimizers(self) -> Any:
        groups = [{"params": self.network[0].parameters()}, {"params": self.network[-1].parameters(), "lr": self.last}]
        optimizer = SGD(groups, lr=0.1)
        falls = ReduceLROnPlateau(optimizer, **FALLS)
        return (
            {"optimizer": optimizer, "lr_scheduler": {"scheduler": falls, "monitor": "val_loss"}}
            if self.plateau
            else optimizer
        )


FALLS: dict[str, Any] = {"factor": 0.1, "patience": 0, "threshold": 1e6, "threshold_mode": "abs", "min_lr": 0.05}


@pytest.mark.parametrize(("last", "engine"), [(1.0, "sequential"), (0.0, "vectorized")])
def test_a_floor_stops_each_group_where_torch_stops_it(tmp_path: Path, last: float, engine: str) -> None:
    schedules = {"falls": partial(ReduceLROnPlateau, **FALLS)}
    found = []
    for name, plateau in (("own", True), ("given", False)):
        for kind in ("auto", "sequential"):
            model = partial(Unlike, last, plateau)
            given = {"lrs": [0.1], "seeds": 2, "epochs": 4, "monitor": "val_loss", "metric": "val_loss", "engine": kind}
            race = compare(
                model, partial(Data, 16, rows=64), {} if plateau else schedules, folder=tmp_path / name / kind, **given
            )
            assert race.results.engine == (engine if kind == "auto" else kind)
            found.append([record.metrics["val_loss"] for record in race.results.records])
    assert all(values == pytest.approx(found[0], rel=1e-5) for values in found)


@pytest.mark.parametrize(
    ("kind", "axis", "told"), [(Adagrad, "momenta", "has no momentum"), (Rprop, "weight_decays", "has no weight decay")]
)
def test_an_axis_that_the_optimizer_does_not_have_is_refused(tmp_path: Path, kind: Any, axis: str, told: str) -> None:
    class Decaying(MLP):
        def configure_optimizers(self) -> Any:
            optimizer = kind(self.parameters(), lr=0.01)
            return [optimizer], [ExponentialLR(optimizer, 0.9)]

    with pytest.raises(InputError, match=f"{kind.__name__} {told}: leave {axis} out"):
        compare(Decaying, Data, {}, seeds=1, epochs=1, folder=tmp_path, **{axis: [0.0, 0.9]})


def test_what_cannot_be_foreseen_trains_one_run_at_a_time(tmp_path: Path) -> None:
    result = race(partial(Configured, two), tmp_path, lrs=[0.01])
    assert result.results.engine == "sequential"
    assert result.results.reason == (
        "its StepLR + ReduceLROnPlateau are several, and one of them follows a metric"
    )  # fmt: skip


class WithTimm(Transformer):
    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer()
        return [optimizer], [OfTimm(optimizer)]

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        scheduler.step(self.current_epoch + 1, metric)


def test_a_scheduler_of_another_library_trains_one_run_at_a_time_at_other_rates_too(tmp_path: Path) -> None:
    result = race(WithTimm, tmp_path, lrs=[0.02])
    assert result.results.reason == "its OfTimm is no scheduler of torch's"
    (own,) = (record for record in result.results.records if record.key.schedule == "own")
    assert own.curves["lr"] == pytest.approx([2e-5, 0.01, 0.005])  # twice 1e-5, 0.01 / 2, 0.01 / 4


class Derived(torch.optim.AdamW):
    """Each of its steps calls the hooks twice, once torch has hooked the steps of both classes."""

    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


def with_cosine(make: Any) -> Any:
    def configure(module: Any) -> Any:
        optimizer = make(module)
        return [optimizer], [CosineAnnealingLR(optimizer, T_max=module.trainer.max_epochs)]

    return partial(Configured, configure)


def test_a_step_that_calls_that_of_its_base_class_is_one_step(tmp_path: Path) -> None:
    derived = race(with_cosine(lambda module: module.optimizer(Derived)), tmp_path / "derived", lrs=[0.02])
    plain = race(Transformer, tmp_path / "plain", lrs=[0.02], engine="sequential")
    for one, other in zip(derived.results.records, plain.results.records, strict=True):
        assert one.key == other.key
        assert one.curves["lr"] == pytest.approx(other.curves["lr"], rel=1e-12)
        assert one.metrics == other.metrics


def test_a_wrapper_that_does_not_tell_of_its_steps_races_without_its_own_schedule(tmp_path: Path) -> None:
    model = with_cosine(lambda module: lookahead(module.optimizer()))
    why = "Lookahead does not tell of its steps, so its own schedule cannot be taken to other rates: give a schedule"
    assert f"Its own schedule does not race: {why}." in grid(model).opening()
    wrapped = race(model, tmp_path / "wrapped", lrs=[0.02]).results.records
    plain = race(Transformer, tmp_path / "plain", lrs=[0.02], engine="sequential").results.records
    assert [record.key.schedule for record in wrapped] == ["linear"]
    assert wrapped[0].metrics == plain[0].metrics
    with pytest.raises(InputError, match=why):
        find_lr(model, DATA, lrs=[0.001, 0.1], points=5, seeds=2, epochs=1)
    assert find_lr(model, DATA, Linear(), lrs=[0.001, 0.1], points=5, seeds=2, epochs=1).lr > 0


def test_a_schedule_that_would_stop_training_is_left_out_and_told() -> None:
    def short(module: Any) -> Any:
        optimizer = module.optimizer()
        return [optimizer], [{"scheduler": OneCycleLR(optimizer, 0.1, total_steps=3), "interval": "step"}]

    found = grid(partial(Configured, short))
    assert list(found.schedules) == ["linear"]
    assert "Its own schedule does not race: training will stop: Tried to step" in found.opening()


def test_an_optimizer_that_is_given_takes_its_place() -> None:
    found = grid(Transformer, optimizer=partial(torch.optim.SGD, lr=0.1))
    assert list(found.schedules) == ["linear"]
    assert found.opening() == (
        "Optimizer: SGD, as given; peak rates 0.00333333, 0.01, 0.0333333, 0.1, 0.333333. The peak rates are the first "
        "param group's; all 2 keep their ratio: decay 0.0333333 (weight_decay 0.1), others 0.1 (weight_decay 0). It "
        "takes the place of Transformer.configure_optimizers, its schedule included; its param groups stay."
    )


def test_its_name_is_taken() -> None:
    with pytest.raises(InputError, match="schedules: 'own' is the name of the schedule that a module brings"):
        grid_of(
            build_from(MLP, DATA), {"own": Linear()}, lrs=None, momenta=None, seeds=[0], optimizer=None, epochs=1
        )  # fmt: skip


def test_groups_have_schedules_of_their_own_in_both_engines(tmp_path: Path) -> None:
    groups = {"lr/others": Constant(0.5), "weight_decay": Linear(), "momentum": Linear(end=0.5)}
    schedules = {"cosine": Cosine(), "plateau": Plateau(monitor="val_loss", patience=0, threshold=0.9)}
    results = []
    for engine in ENGINES:
        chosen = {name: schedules[name] for name in ("cosine",)}
        found = race(Unscheduled, tmp_path / engine, schedules=chosen, groups=groups, lrs=[0.02], engine=engine)
        results.append(found.results.records[0])
    assert results[0].metrics == pytest.approx(results[1].metrics, abs=1e-5)
    plain = race(Unscheduled, tmp_path / "plain", schedules={"cosine": Cosine()}, lrs=[0.02]).results.records[0]
    assert plain.metrics != pytest.approx(results[0].metrics, abs=1e-4)
    # A plateau multiplies the rates of those groups alone that have no schedule of their own.
    one = {"schedules": {"plateau": schedules["plateau"]}, "groups": {"lr/others": Constant(0.5)}, "lrs": [0.02]}
    found = race(Unscheduled, tmp_path / "plateau", **one)
    assert (found.results.engine, found.results.reason) == (
        "sequential", "plateau follows a metric, and some of its param groups do not"
    )  # fmt: skip
    with pytest.raises(InputError, match="groups go with lit_lrsched's schedules, and 'step' is torch's"):
        race(Unscheduled, tmp_path / "torch", schedules={"step": partial(StepLR, step_size=1)}, groups=groups)


class Unscheduled(Transformer):
    def configure_optimizers(self) -> Any:
        return self.optimizer()


def test_weight_decay_is_an_axis(tmp_path: Path) -> None:
    result = race(Transformer, tmp_path, lrs=[0.01], weight_decays=[0.0, 5.0], seeds=2, epochs=2)
    assert result.results.engine == "vectorized"
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert list(rows[0])[:5] == ["schedule", "lr", "momentum", "weight_decay", "seed"]
    assert {row["weight_decay"] for row in rows} == {"0.0", "5.0"}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {setting["weight_decay"] for setting in summary["settings"]} == {0.0, 5.0}
    page = (tmp_path / "report.html").read_text()
    assert "and weight decays (0, 5)" in page
    assert "weight<br>decay" in page
    assert "2 weight decays" in page
    # Another weight decay is another run, and the optimizer's own is that of its first group that has one.
    own = race(Transformer, tmp_path / "own", lrs=[0.01], epochs=1)
    assert {record.key.weight_decay for record in own.results.records} == {0.1}
    for decays, told in (([-1.0], "is no weight decay"), ([0.1, 0.1], "names something twice"), ([], "is empty")):
        with pytest.raises(InputError, match=told):
            race(Transformer, tmp_path, weight_decays=decays)


def test_the_modules_own_schedule_is_exported_where_fit_has_it_anyway(tmp_path: Path) -> None:
    # What fit refuses without a schedule is left out.
    options = {"schedules": {"hardly": Constant(1e-6)}, "epochs": 1, "interval": "epoch", "monitor": "val_loss"}
    race(Transformer, tmp_path / "own", lrs=[0.01], **options).export(tmp_path / "best.yaml", {"seed_everything": 1})
    assert yaml.safe_load((tmp_path / "best.yaml").read_text()) == {"seed_everything": 1, "trainer": {"max_epochs": 1}}
    with pytest.raises(InputError, match=r"Transformer sets the rate 0\.01 and a schedule of its own .*, so there"):
        race(Transformer, tmp_path / "other", lrs=[0.02], **options).export(tmp_path / "other.yaml")
    with pytest.raises(InputError, match="Transformer's own schedule at another momentum or weight decay, which no"):
        race(Transformer, tmp_path / "decay", lrs=[0.01], weight_decays=[0.5], **options).export(tmp_path / "no.yaml")
    assert not [*tmp_path.glob("*o*.yaml")]
    # Its own momentum is no other one, whatever else raced.
    several = race(Decayed, tmp_path / "momenta", lrs=[0.02], momenta=[None, 0.1], **options)
    assert "; momenta 0.8, 0.1." in several.grid.opening()
    several.export(tmp_path / "best.yaml")
    assert yaml.safe_load((tmp_path / "best.yaml").read_text()) == {"trainer": {"max_epochs": 1}}


class OfAnArgument(Decayed):
    """A tenth of the rate that is its argument is that of its first param group."""

    def __init__(self, config: dict = {"lr": 0.1}) -> None:  # noqa: B006
        super().__init__(hidden=4)
        self.save_hyperparameters()

    def configure_optimizers(self) -> Any:
        lr, (first, last) = self.hparams.config["lr"], (self.network[0].parameters(), self.network[-1].parameters())
        optimizer = torch.optim.SGD([{"params": first, "lr": lr / 10}, {"params": last}], lr=lr)
        return [optimizer], [ExponentialLR(optimizer, 0.9)]


def test_the_modules_own_schedule_is_exported_at_another_rate(command: Any) -> None:
    model = [f"--model={__name__}.OfAnArgument", "--data=tests.foreign.Data", "--data.rows=64", "--seeds=1"]
    hardly = "--schedules={hardly: {class_path: Constant, init_args: {factor: 1e-6}}}"
    options = [hardly, "--lrs=[0.03]", "--trainer.max_epochs=2", "--metric=val_loss", "--export=best.yaml"]
    assert command("compare", *model, *options) == 0, command.err
    best = yaml.safe_load(Path("best.yaml").read_text())
    assert set(best) == {"model", "data", "trainer"}
    assert best["model"]["init_args"] == {"config": {"lr": 0.3}}
    assert command("fit", "--config=best.yaml", "--trainer.log_every_n_steps=1") == 0
    assert scalars(run_folder(), "lr/group0")[0] == pytest.approx(0.03)
    assert scalars(run_folder(), "lr/group1")[0] == pytest.approx(0.3)


def test_a_folder_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    race(MLP, tmp_path, lrs=[0.01], epochs=1)
    with np.load(tmp_path / "curves.npz") as arrays:
        kept = {name: arrays[name] for name in arrays.files if name not in ("weight_decay", "checksum")}
    from lit_lrsched.comparison.records import _checksum

    np.savez(tmp_path / "curves.npz", **kept, checksum=_checksum(kept))
    with pytest.raises(InputError, match=r"curves.npz is damaged, or not of this version"):
        race(MLP, tmp_path, lrs=[0.01], epochs=1)


def bare(**options: Any) -> Trainer:
    return Trainer(**{"accelerator": "cpu", "logger": False, "enable_checkpointing": False, **options})


@pytest.mark.parametrize(
    "options",
    [
        {"max_steps": 5},
        {"overfit_batches": 1},
        {"overfit_batches": 3},
        {"val_check_interval": 0.5},
        {"val_check_interval": 1},
        {"check_val_every_n_epoch": 2},
        {"reload_dataloaders_every_n_epochs": 1},
        {"max_time": {"minutes": 1}},
        {"fast_dev_run": True},
        {"max_epochs": 7},
    ],
    ids=str,
)
def test_a_trainer_that_would_train_otherwise_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError) as told:
        check_trainer(bare(**options), 5, "a race")
    assert str(next(iter(options))).split("_")[0] in str(told.value)
    assert "\n" not in str(told.value)


def test_a_trainer_accumulates_and_clips_and_its_other_callbacks_are_named() -> None:
    assert check_trainer(bare(), 5, "a race") == []
    assert regime_of(bare()) == PLAIN
    options = {"accumulate_grad_batches": 4, "gradient_clip_val": 0.1, "gradient_clip_algorithm": "value"}
    trainer = bare(**options, callbacks=[EarlyStopping("val_loss"), ApplySchedule(Cosine())])
    assert regime_of(trainer) == Regime(4, Clip(0.1, "value"))
    assert regime_of(trainer).options() == options
    assert check_trainer(trainer, 5, "a race") == ["The trainer's EarlyStopping, ApplySchedule are left out."]
    said = grid(Grouped, regime=regime_of(trainer)).opening()
    assert said.endswith(" The gradients of 4 batches make a step. Gradients are clipped to values of 0.1.")


def test_the_engines_clip_alike(tmp_path: Path) -> None:
    options = {"lrs": [0.02], "epochs": 2}
    trainer = bare(gradient_clip_val=0.05)
    fast, slow = (race(Transformer, tmp_path / engine, engine=engine, trainer=trainer, **options) for engine in ENGINES)
    for one, other in zip(fast.results.records, slow.results.records, strict=True):
        assert one.metrics == pytest.approx(other.metrics, abs=1e-5)
    with pytest.raises(InputError, match="gradient clipping="):
        race(Transformer, tmp_path / "vectorized", **options)


class Warmed(Transformer):
    """Its own schedule counts optimizer steps, and it logs where it is wherever a module may."""

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer()
        decay = CosineAnnealingLR(optimizer, T_max=self.trainer.estimated_stepping_batches)
        return [optimizer], [{"scheduler": decay, "interval": "step"}]

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("rate", self.optimizers().param_groups[1]["lr"])
        self.log("steps_in_training", float(self.global_step), on_step=False, on_epoch=True, reduce_fx="sum")
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.log("steps_in_validation", float(self.trainer.global_step))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        super().test_step(batch, batch_idx)
        self.log("steps_in_test", float(self.global_step))

    def on_train_epoch_start(self) -> None:
        self.log("steps_at_start", float(self.global_step))

    def on_validation_epoch_start(self) -> None:
        self.log("steps_before_validation", float(self.global_step))

    def on_train_epoch_end(self) -> None:
        self.log("steps_at_end", float(self.global_step) * self.trainer.accumulate_grad_batches)


@pytest.mark.parametrize(
    "accumulate", [1, 3, pytest.param(9, marks=pytest.mark.exhaustive)]
)  # four batches an epoch: of 3 and 1, and fewer than 9
def test_the_engines_accumulate_alike(tmp_path: Path, accumulate: int) -> None:
    options: dict[str, Any] = {"lrs": [0.02], "epochs": 3}
    trainer = bare(accumulate_grad_batches=accumulate)
    fast, slow = (race(Warmed, tmp_path / engine, engine=engine, trainer=trainer, **options) for engine in ENGINES)
    assert fast.results.engine == "vectorized"
    for one, other in zip(fast.results.records, slow.results.records, strict=True):
        assert one.metrics == pytest.approx(other.metrics, abs=1e-5)
        np.testing.assert_allclose(one.curves["lr"], other.curves["lr"], rtol=1e-6)
    steps = -(-4 // accumulate)
    ends = {name: value for name, value in one.metrics.items() if name.startswith("steps")}
    assert ends["steps_at_start"] == 2 * steps
    assert ends["steps_at_end"] == 3 * steps * accumulate
    assert {ends["steps_before_validation"], ends["steps_in_validation"], ends["steps_in_test"]} == {3.0 * steps}
    assert ends["steps_in_training"] == sum(2 * steps + index // accumulate for index in range(4))


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("option", "before"),
    [
        ({"accumulate_grad_batches": 2}, "1"),
        ({"limit_val_batches": 3}, "1.0"),
        ({"precision": "bf16-mixed"}, "32-true"),
    ],
)
def test_a_race_of_other_batches_is_another(tmp_path: Path, option: dict[str, Any], before: str) -> None:
    options: dict[str, Any] = {"lrs": [0.02], "epochs": 1}
    ((name, value),) = option.items()
    race(Transformer, tmp_path / "plain", **options)
    race(Transformer, tmp_path / "other", trainer=bare(**option), **options)
    with pytest.raises(InputError, match=f"{name}={before}, here {value}"):
        race(Transformer, tmp_path / "plain", trainer=bare(**option), **options)
    with pytest.raises(InputError, match=f"{name}={value}, here {before}"):
        race(Transformer, tmp_path / "other", **options)


class Halved(MLP):
    """Logs whether it computes in half of the precision."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("bits", 8.0 * self.network(batch[0]).element_size(), on_step=False, on_epoch=True)
        return super().training_step(batch, batch_idx)


def test_a_race_at_the_precision_of_its_trainer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="lightning.pytorch")
    trainer = bare(precision="bf16-mixed")
    raced = race(Halved, tmp_path / "race", lrs=[0.01], epochs=1, trainer=trainer)
    assert raced.results.records[0].metrics["bits"] == 16
    assert raced.results.engine == "sequential"
    said = " ".join(caplog.messages)
    assert "Precision: bf16-mixed." in said
    assert "since the trainer's precision is bf16-mixed, and runs share a program at 32-true alone." in said
    with pytest.raises(InputError, match="at 32-true alone: leave engine at auto"):
        race(Halved, tmp_path / "fast", lrs=[0.01], epochs=1, trainer=trainer, engine="vectorized")
    with pytest.raises(InputError, match="a race does not honour the trainer's Rounding: give precision"):
        check_trainer(bare(plugins=[Rounding()]), 1, "a race")


class Rounding(MixedPrecision):
    """A precision plugin of somebody's own."""

    def __init__(self) -> None:
        super().__init__("bf16-mixed", "cpu")


class Shuffled(Data):
    """Validates on shuffled rows, and draws training batches by a sampler of its own: two of each class a batch."""

    def train_dataloader(self) -> Any:
        labels = [int(label) for _, label in self.rows]  # type: ignore[has-type]
        return DataLoader(self.rows, batch_sampler=Balanced(labels))

    def val_dataloader(self) -> Any:
        return DataLoader(self.rows, 5, shuffle=True, drop_last=True)


class Balanced:
    """Batches of two rows of each of two classes, drawn as they are asked for."""

    def __init__(self, labels: list[int]) -> None:
        self.places = [[i for i, label in enumerate(labels) if label == wanted] for wanted in (0, 1)]

    def __len__(self) -> int:
        return min(map(len, self.places)) // 2

    def __iter__(self) -> Any:
        for _ in range(len(self)):
            yield [places[i] for places in self.places for i in torch.randint(len(places), (2,)).tolist()]


@pytest.mark.filterwarnings("ignore:.*sampler has shuffling enabled")
@pytest.mark.parametrize("data", [DATA, partial(Shuffled, rows=64)], ids=["plain", "shuffled"])
@pytest.mark.parametrize(
    "limits",
    [
        {"limit_train_batches": 3, "limit_val_batches": 2},
        {"limit_train_batches": 0.5, "limit_val_batches": 0.5, "limit_test_batches": 1},
        {"limit_train_batches": 100, "limit_test_batches": 100},
        {"limit_train_batches": 1, "limit_val_batches": 1, "accumulate_grad_batches": 2},
    ],
    ids=str,
)
@pytest.mark.sampled(2)
def test_the_engines_leave_out_the_same_batches(tmp_path: Path, data: Any, limits: dict[str, Any]) -> None:
    options: dict[str, Any] = {"lrs": [0.02], "epochs": 2, "trainer": bare(**limits), "data": data}
    fast, slow = (race(Warmed, tmp_path / engine, engine=engine, **options) for engine in ENGINES)
    assert fast.results.engine == "vectorized"
    for one, other in zip(fast.results.records, slow.results.records, strict=True):
        assert one.metrics == pytest.approx(other.metrics, abs=1e-5)
        np.testing.assert_allclose(one.curves["lr"], other.curves["lr"], rtol=1e-6)


def test_of_much_data_only_the_rows_that_train_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="lightning.pytorch")
    fetched = set()

    class Many(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 1_000_000

        def __getitem__(self, place: int) -> Any:
            fetched.add(place)
            x = torch.randn(10, generator=torch.Generator().manual_seed(place))
            return x, (x[:1] > 0).float()

    class Much(Data):
        def train_dataloader(self) -> Any:
            return DataLoader(Many(), 16, shuffle=True)

        def test_dataloader(self) -> Any:
            return DataLoader(Many(), 8)

    trainer = bare(limit_train_batches=3, limit_test_batches=1)
    raced = race(MLP, tmp_path / "race", data=partial(Much, rows=64), lrs=[0.01], epochs=2, trainer=trainer, seeds=2)
    assert raced.results.engine == "vectorized"
    # The first rows tell how seeds split the data, and 32 from there to the last tell these data from others.
    assert len(fetched - set(range(2_000))) <= 2 * 2 * 3 * 16 + 32
    splits = raced.results.summary.splits
    assert splits is not None
    assert (splits.train, splits.test, splits.same_test) == (48, 8, True)
    fetched.clear()
    with monkeypatch.context() as patch:
        patch.setattr(batches, "_LONG", 0.0)
        find_lr(
            MLP,
            partial(Much, rows=64),
            lrs=(1e-3, 0.1),
            points=5,
            seeds=2,
            epochs=2,
            trainer=bare(limit_train_batches=3),
            folder=tmp_path / "found",
        )
    assert len(fetched) < 4_000  # none of the test rows but the first
    assert re.search(r"Fetching \d+ rows takes about 0:00:00, once for all seeds that have the same", caplog.text)


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"limit_train_batches": 0}, "limit_train_batches=0 trains nothing"),
        ({"limit_train_batches": 0.1}, r"0\.1 \* 4 < 1"),  # Lightning's words
        ({"limit_val_batches": 0}, "metric='val_loss' is not logged"),
        ({"limit_test_batches": 0}, "judged by 'test_loss', which the test does not log"),
    ],
    ids=str,
)
def test_a_race_without_batches_is_refused(tmp_path: Path, limits: dict[str, Any], told: str) -> None:
    for engine in ENGINES:
        with pytest.raises((InputError, MisconfigurationException), match=told):
            race(MLP, tmp_path / engine, engine=engine, lrs=[0.01], epochs=1, trainer=bare(**limits))


def test_the_command_accumulates(command: Any) -> None:
    model = ["--model=tests.foreign.MLP", "--data=tests.foreign.Data", "--data.rows=64"]
    options = ["--schedules=[Linear]", "--lrs=[0.01]", "--seeds=2", "--trainer.max_epochs=2", "--metric=val_loss"]
    accumulating = "--trainer.accumulate_grad_batches=3"
    assert command("compare", *model, *options, accumulating, "--folder=race", "--export=best.yaml") == 0, command.err
    assert "The gradients of 3 batches make a step." in " ".join(command.out.split())
    best = yaml.safe_load(Path("best.yaml").read_text())
    assert best["trainer"] == {"accumulate_grad_batches": 3, "max_epochs": 2}
    rates = [record.curves["lr"] for record in stored_records(Path("race")).values()]
    np.testing.assert_allclose(rates, [[0.01, 0.005]] * 2)  # two steps an epoch, four in all


class LossAlone(MLP):
    def step(self, stage: str, batch: Any) -> torch.Tensor:
        x, y = batch
        loss = torch.nn.functional.binary_cross_entropy_with_logits(self.network(x), y)
        self.log(f"{stage}_loss", loss, on_step=False, on_epoch=True)
        return loss


def test_by_default_the_plateau_follows_the_metric_that_tunes(command: Any) -> None:
    model = [f"--model={__name__}.LossAlone", "--data=tests.foreign.Data", "--data.rows=64", "--metric=val_loss"]
    assert command("compare", *model, "--lrs=[0.01]", "--seeds=1", "--trainer.max_epochs=1") == 0, command.err
    assert "10 trainings: 10 schedules x 1 rate x 1 seed" in command.out


def test_the_command(command: Any) -> None:
    model = ["--model=tests.comparison.test_own_schedule.Transformer", "--data=tests.foreign.Data", "--data.rows=64"]
    one = ["--lrs=[0.01]", "--weight_decays=[0.1,0.2]", "--seeds=1", "--trainer.max_epochs=1", "--metric=val_loss"]
    Path("groups.yaml").write_text("lr_groups: {lr/others: {class_path: Linear}}\n")
    assert command("compare", *model, *one, "--config=groups.yaml", "--folder=race") == 0, command.err
    out = " ".join(command.out.split())
    # The ten by default, torch's among them wrapped, and the module's own.
    assert "22 trainings: 11 schedules x 1 rate x 2 weight decays x 1 seed" in out
    assert "weight decays 0.1, 0.2." in out
    assert "Its own schedule, CosineAnnealingLR, races as 'own'. Schedules of their own: lr/others." in out
    assert "Engine: sequential" not in command.out
    assert command("compare", *model, *one, "--trainer.val_check_interval=0.5") == 2
    assert command.err == "error: a race does not honour the trainer's val_check_interval=0.5: leave it out\n"


@pytest.mark.parametrize("value", [None, 0, -1.0])
def test_a_trainer_that_clips_at_nothing_above_zero_does_not_clip(value: float | None) -> None:
    assert regime_of(quiet_trainer(max_epochs=1, gradient_clip_val=value)).clip is None
