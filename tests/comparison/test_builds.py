"""What is built for a seed, and how long an epoch of its data is."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.utilities import CombinedLoader
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, IterableDataset, Subset

from lit_lrsched import Linear, compare, find_lr
from lit_lrsched.comparison import runner
from lit_lrsched.comparison.builds import build_from, steps_per_epoch
from lit_lrsched.comparison.engine.regime import Regime
from lit_lrsched.comparison.engine.setting_up import set_up
from lit_lrsched.comparison.engine.vectorized import VectorizedRace
from lit_lrsched.errors import InputError
from lit_lrsched.trainer.fit_plan import configure
from tests.foreign import MLP, Data, Grouped, WideData


class Stream(IterableDataset[torch.Tensor]):
    def __iter__(self) -> Any:
        return iter([torch.ones(32)] * 5)


def rows(count: int) -> DataLoader[Any]:
    return DataLoader(torch.ones(count, 32), batch_size=2)  # type: ignore[arg-type]


LOADERS = {
    "one": lambda: rows(12),
    "dict": lambda: {"a": rows(12), "b": rows(8)},
    "list": lambda: [rows(8), rows(12), rows(4)],
    "shortest": lambda: CombinedLoader({"a": rows(12), "b": rows(8)}, "min_size"),
    "one after another": lambda: CombinedLoader([rows(12), rows(8)], "sequential"),
    "with a stream": lambda: CombinedLoader([rows(12), DataLoader(Stream())], "min_size"),
    "stream": lambda: DataLoader(Stream()),
    "no loader": Stream,
}


@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*Skipping val loop", "ignore:.*`IterableData"
)
@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("name", LOADERS)
def test_an_epoch_has_as_many_steps_as_the_trainer_takes(name: str, accumulate: int) -> None:
    class Data(LightningDataModule):
        def train_dataloader(self) -> Any:
            return LOADERS[name]()

    trainer = Trainer(max_steps=3, accelerator="cpu", logger=False, enable_checkpointing=False)
    configure(trainer, BoringModel(), Data())
    counted = steps_per_epoch(lambda seed: (BoringModel(), Data()), 0, Regime(accumulate))
    batches = trainer.num_training_batches
    assert counted == (None if batches == float("inf") else -(-batches // accumulate))


class AsksItsTrainer(Data):
    """Divides its batches among the processes of its trainer, as many data modules do."""

    def setup(self, stage: str) -> None:
        assert self.trainer is not None
        self.each = self.batch_size // self.trainer.world_size

    def train_dataloader(self) -> Any:
        return DataLoader(self.rows, self.each // self.trainer.num_devices, shuffle=True)


@pytest.mark.parametrize("engine", ["vectorized", "sequential"])
def test_a_data_module_may_ask_its_trainer(tmp_path: Path, engine: Any) -> None:
    options = {"lrs": [0.01], "seeds": 2, "epochs": 1, "engine": engine}
    asks, plain = (
        compare(MLP, data, {"linear": Linear()}, folder=tmp_path / data.__name__, **options).results.records
        for data in (AsksItsTrainer, Data)
    )
    assert [record.metrics for record in asks] == [record.metrics for record in plain]


def test_the_trainer_that_it_may_ask_is_taken_away_again() -> None:
    data = AsksItsTrainer()
    with set_up(data, "fit"):
        assert data.train_dataloader().batch_size == 64
    assert data.trainer is None


class OfRows(LightningDataModule):
    """Keeps its seed among its hyperparameters, and not the rows that it was given."""

    def __init__(self, given: Any = None, seed: int = 0) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["given"])
        self.given = given


def test_an_instance_of_data_that_cannot_be_built_anew_as_it_is_is_refused() -> None:
    told = "OfRows is built anew for every seed, and its hyperparameters do not tell its given: give a function"
    with pytest.raises(InputError, match=told):
        build_from(MLP, OfRows("rows"))(0)
    _, data = build_from(MLP, lambda seed: OfRows("rows", seed=seed))(3)
    assert (data.given, data.hparams.seed) == ("rows", 3)


def test_an_instance_of_data_whose_class_fixes_the_seed_keeps_it() -> None:
    _, data = build_from(MLP, WideData(16))(3)  # the seed is a hyperparameter of its base class
    assert (data.batch_size, data.hparams.seed) == (16, 1234)


class NoBatches(Data):
    def train_dataloader(self) -> Any:
        return DataLoader(self.rows, batch_size=1000, drop_last=True)


class TwoTests(Data):
    def test_dataloader(self) -> Any:
        return [super().test_dataloader(), super().test_dataloader()]


class Unvalidated(MLP):
    validation_step = LightningModule.validation_step


class NotANumber(MLP):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_acc", torch.tensor(float("nan")))


class OnTwo(MLP):
    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.step("test", batch)


LINEAR = {"linear": Linear()}


@pytest.mark.parametrize(
    ("arguments", "options", "told"),
    [
        (
            (MLP, DataLoader([1])),
            {},
            "data is of the class DataLoader: give a LightningDataModule, its class, or a "
            "function that makes one, such as LightningDataModule.from_datasets",
        ),
        ((MLP, lambda: DataLoader([1])), {}, "data is of the class DataLoader"),
        ((MLP, None), {}, "data is of the class NoneType"),
        (
            ("MLP", Data),
            {},
            "model is of the class str: give a LightningModule, its class, or a function",
        ),
        ((torch.nn.Linear(1, 1), Data), {}, "model is of the class Linear"),
        ((lambda: torch.nn.Linear(1, 1), Data), {}, "model is of the class Linear"),
        (
            (MLP, Data),
            {"optimizer": torch.optim.SGD(MLP().parameters(), 0.1)},
            r"optimizer=SGD\(...\) has its parameters",
        ),
        ((Grouped, Data), {"optimizer": torch.optim.SGD(MLP().parameters(), 0.1)}, "give what makes one, like SGD its"),
        ((MLP, NoBatches), {}, "nothing to train|has no batches"),
    ],
)
@pytest.mark.parametrize("ask", [find_lr, partial(compare, schedules=LINEAR)], ids=["find_lr", "compare"])
def test_what_is_no_model_no_data_no_optimizer(
    ask: Any, arguments: Any, options: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told) as refused:
        ask(*arguments, folder=tmp_path / "none", **options)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"schedules": [Linear()]}, r"schedules=\[Linear\(.*have no names: give a dict, like \{'linear': Linear\(\)\}"),
        ({"schedules": Linear()}, "have no names"),
        ({"schedules": {1: Linear()}}, "schedules: 1 is no name that a line can hold: rename it"),
        ({"schedules": {"two\nlines": Linear()}}, "is no name that a line can hold"),
        (
            {"schedules": {"a": "Linear"}},
            r"schedules\['a'\]='Linear' is text: give the schedule itself, like Linear",
        ),
        ({"schedules": {"a": Linear}}, "is a class: give the schedule itself"),
        ({"schedules": {"a": StepLR}}, "the scheduler cannot be made: TypeError: .*step_size.*: correct its arguments"),
        ({"lrs": 0.1}, r"lrs=0\.1 is no list: write \[0\.1\]"),
        ({"momenta": 0.9}, "momenta=0.9 is no list"),
        (
            {"metric": "test_acc"},
            r"metric='test_acc' is not logged: give one that the module logs and its test too, val_acc, val_loss$",
        ),
        ({"data": TwoTests, "model": OnTwo}, "metric='val_acc' is judged by 'test_acc', which the test does not log"),
        ({"metric": "train_acc"}, "is judged by 'test_train_acc', which the test does not log: give one .*, val_acc, "),
        (
            {"model": Unvalidated},
            "metric='val_acc' is not logged, nor any metric of validation and test: train_acc, train_loss and "
            "test_acc, test_loss are logged; log one in both",
        ),
        ({"seeds": [-1]}, "seeds: -1 is no seed: give whole numbers from 0 to 4294967295"),
        (
            {"model": NotANumber},
            "val_acc is nan after every run, and 2 runs of 2 did not diverge: look at how",
        ),
        (
            {"model": NotANumber, "budget": 16, "seeds": 8, "lrs": [0.1, 0.2]},
            "val_acc is nan after every run, and 4 runs of 4 did not diverge",
        ),
    ],
)
def test_what_is_no_race(options: dict[str, Any], told: str, tmp_path: Path) -> None:
    given = {"model": MLP, "data": Data, "schedules": LINEAR, "lrs": [0.1], "seeds": 2, "epochs": 1, **options}
    with pytest.raises(InputError, match=told):
        compare(**given, folder=tmp_path / "none")


def test_a_metric_that_is_not_logged_is_told_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(VectorizedRace, "chunks", None)
    with pytest.raises(InputError, match=r"metric='val_ac' is not logged \(did you mean 'val_acc'\?\): give one "):
        compare(MLP, Data, LINEAR, lrs=[0.1], seeds=2, metric="val_ac", mode="max", folder=tmp_path / "race")
    assert not (tmp_path / "race").exists()


def test_a_metric_that_no_source_names_is_told_before_runs_train_one_by_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(runner, "race_one_by_one", None)
    told = r"metric='val_f1', and MLP does not log 'val_f1' \(its source names \*_acc, \*_loss\): give one that"
    with pytest.raises(InputError, match=told):
        compare(MLP, Data, LINEAR, lrs=[0.1], seeds=2, metric="val_f1", engine="sequential", folder=tmp_path / "race")
    assert not (tmp_path / "race").exists()


@pytest.mark.parametrize("engine", ["vectorized", "sequential"])
def test_a_finished_race_is_asked_for_a_metric_that_was_not_logged(engine: Any, tmp_path: Path) -> None:
    race = partial(compare, MLP, Data, LINEAR, lrs=[0.1], seeds=2, epochs=1, engine=engine, folder=tmp_path)
    race(metric="val_acc")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(InputError, match=r"metric='val_ac' is not logged \(did you mean 'val_acc'\?\): give one "):
        race(metric="val_ac", mode="max")
    assert before == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert race(metric="val_loss").results.trained == 0


class Unseeded(Data):
    """Splits its rows by a generator that no seed reaches."""

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.order = np.random.default_rng().permutation(len(super().test_dataloader().dataset))

    def test_dataloader(self) -> Any:
        return DataLoader(Subset(super().test_dataloader().dataset, self.order.tolist()), batch_size=8)


@pytest.mark.parametrize("ask", [partial(compare, schedules={"linear": Linear()}, metric="val_loss"), find_lr])
def test_data_of_one_seed_that_is_another_each_time_is_refused(ask: Any, tmp_path: Path) -> None:
    told = r"Unseeded has other test rows each time it is built with the same seed, .*: seed its generator"
    with pytest.raises(InputError, match=told):
        ask(MLP, Unseeded, epochs=2, seeds=2, folder=tmp_path)
