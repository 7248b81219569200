"""Member by member, trainings that run together equal ``Trainer.fit`` of each alone."""

from __future__ import annotations

import csv
import gc
import random
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    TensorDataset,
    default_collate,
    get_worker_info,
    random_split,
)
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import BinaryAccuracy, BinaryF1Score

from lit_lrsched import Constant, compare
from lit_lrsched.comparison.engine import batches
from lit_lrsched.comparison.engine.batches import Rows, module_and_rows
from lit_lrsched.comparison.engine.held import held
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.comparison.engine.training import Chunk, Training, tables_by_epoch
from lit_lrsched.comparison.engine.vectorized import VectorizedRace
from lit_lrsched.errors import InputError
from lit_lrsched.ionosphere.data import IonosphereDataModule
from lit_lrsched.ionosphere.model import IonosphereClassifier
from lit_lrsched.optim.torch_internals import tree_leaves
from lit_lrsched.schedules.plateau import Plateau

CSV = Path(__file__).parents[2] / "lit_lrsched" / "ionosphere" / "ionosphere.csv"
SGD = partial(torch.optim.SGD, lr=0.1)

pytestmark = [
    pytest.mark.filterwarnings("ignore::lightning.pytorch.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:.*litlogger.*"),
]


class Data(LightningDataModule):
    """Stock data set and loader, whose random split comes from the global generator."""

    def __init__(self, **loader: Any) -> None:
        super().__init__()
        self.options = {"batch_size": 24, **loader}

    def setup(self, stage: str) -> None:
        if stage == "fit":
            rows = list(csv.reader(CSV.read_text().splitlines()))
            x = torch.tensor([[float(cell) for cell in row[:-1]] for row in rows])
            y = torch.tensor([[float(row[-1] == "g")] for row in rows])
            order = torch.randperm(len(x))
            self.parts = [TensorDataset(x[part], y[part]) for part in order.split([245, 53, 53])]

    def train_dataloader(self) -> Any:
        return DataLoader(self.parts[0], shuffle=True, **self.options)

    def val_dataloader(self) -> Any:
        return DataLoader(self.parts[1], batch_size=24)

    def test_dataloader(self) -> Any:
        return DataLoader(self.parts[2], batch_size=24)


class Net(LightningModule):
    """Logs in all the ways that Lightning offers within a step."""

    def __init__(self, dropout: float = 0.0, width: int = 34) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(34, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 1))
        self.unused = nn.Linear(3, 3)
        self.acc = BinaryAccuracy()
        self.several = MetricCollection([BinaryAccuracy(), BinaryF1Score()], prefix="val_")
        self.test_mean = MeanMetric()

    def training_step(self, batch: Any) -> dict[str, Tensor]:
        x, y = batch
        loss = nn.functional.binary_cross_entropy_with_logits(self.net(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        self.log("last_loss", loss)
        self.log("most_loss", loss, on_step=False, on_epoch=True, reduce_fx="max")
        return {"loss": loss}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        logits = self.net(x)
        self.log("val_loss", nn.functional.binary_cross_entropy_with_logits(logits, y))
        self.acc(logits, y)
        self.log("val_acc", self.acc)
        self.several.update(logits, y)
        self.log_dict(self.several)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        logits = self.net(x)
        self.log_dict({"test_acc": ((logits > 0) == y).float().mean()}, batch_size=len(x))
        self.test_mean.update(logits, weight=2.0)

    def on_test_epoch_end(self) -> None:
        self.log("test_logit", self.test_mean.compute())


def recipe(seed: int, module: Callable[[], LightningModule] = Net, data: Callable[[], Any] = Data) -> tuple[Any, Any]:
    seed_everything(seed, verbose=False)
    return module(), data()


def shipped(seed: int) -> tuple[Any, Any]:
    seed_everything(seed, verbose=False)
    return IonosphereClassifier(), IonosphereDataModule(seed=seed)


def ramp(epochs: int, start: float = 0.1, end: float = 0.02) -> np.ndarray:
    return np.linspace(start, end, epochs * 11)


def race(trainings: list[Training], make: Any = recipe, **options: Any) -> dict[int, dict[str, Any]]:
    """Returns everything that came out, by training."""
    out: dict[int, dict[str, Any]] = {}
    together = VectorizedRace(make, trainings, **{"optimizer": SGD, "epochs": 1, "keep_weights": True} | options)
    for chunk in together:
        for foreseen, logged in ((together.curves, chunk.curves), (together.final, chunk.final)):
            assert foreseen is None or foreseen == logged.keys()
        for place, run in enumerate(chunk.runs):
            tables = {**chunk.curves, **chunk.final, **chunk.weights}
            out[run] = {name: table[place] for name, table in tables.items()}
            out[run] |= {"diverged": chunk.diverged[place], "rates": chunk.rates[place]}
    assert sorted(out) == list(range(len(trainings)))
    return out


class Drive(Callback):
    """Sets the rates of a training by hand, and keeps what was logged."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.epochs: list[dict[str, float]] = []
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        for group in trainer.optimizers[0].param_groups:
            if self.training.plateau is None:
                group["lr"] = float(self.training.rates[trainer.global_step])
            if self.training.momenta is not None:
                momenta = np.broadcast_to(self.training.momenta, self.training.rates.shape)
                group["momentum"] = float(momenta[trainer.global_step])
            self.rates.append(group["lr"])

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.current_epoch:
            self.on_train_end(trainer, module)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.epochs.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def alone(
    training: Training, make: Any, optimizer: Any, epochs: int, scheduler: Any = None, **options: Any
) -> dict[str, Any]:
    """Trains one by itself with ``Trainer.fit``."""
    module, data = make(training.seed)

    def configure() -> Any:
        made = optimizer(module.parameters())
        if scheduler is None:
            return made
        return {"optimizer": made, "lr_scheduler": {"scheduler": scheduler(made), "monitor": training.plateau.monitor}}

    module.configure_optimizers = configure
    drive = Drive(training)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = Trainer(max_epochs=epochs, callbacks=[drive], enable_model_summary=False, **quiet, **options)
    trainer.fit(module, data)
    curves = {name: np.array([epoch[name] for epoch in drive.epochs]) for name in drive.epochs[0]}
    weights = {name: parameter.detach().numpy() for name, parameter in module.named_parameters()}
    tested = {
        name: value for of_loader in trainer.test(module, data, verbose=False) for name, value in of_loader.items()
    }
    return {**curves, **tested, **weights, "rates": np.array(drive.rates)}


def assert_equal(together: dict[str, Any], single: dict[str, Any], atol: float) -> None:
    assert single.keys() - together.keys() <= {"unused.weight", "unused.bias", "rates"}
    np.testing.assert_array_equal(together["rates"], single["rates"])
    for name in together.keys() - {"rates", "diverged"}:
        np.testing.assert_allclose(together[name], single[name], rtol=0, atol=atol, err_msg=name)


OPTIMIZERS = {
    "sgd": SGD,
    "momentum": partial(SGD, momentum=0.9),
    "nesterov": partial(SGD, momentum=0.9, nesterov=True, weight_decay=1e-2),
    "dampened": partial(SGD, momentum=0.9, dampening=0.3),
    "adam": partial(torch.optim.Adam, weight_decay=1e-2, amsgrad=True),
    "adamw": partial(torch.optim.AdamW, betas=(0.8, 0.99), weight_decay=0.1),
}


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(made, id=name, marks=[] if name in ("momentum", "adamw") else pytest.mark.exhaustive)
        for name, made in OPTIMIZERS.items()
    ],
)
def test_every_member_equals_fit(optimizer: Any) -> None:
    start = 0.01 if "Adam" in repr(optimizer) else 0.1
    trainings = [Training(seed, ramp(2, start * factor)) for seed, factor in ((3, 1), (3, 2), (8, 1))]
    together = race(trainings, optimizer=optimizer, epochs=2)
    for run, training in enumerate(trainings):
        assert_equal(together[run], alone(training, recipe, optimizer, 2), atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("sgd", marks=pytest.mark.exhaustive),
        "momentum",
        pytest.param("adamw", marks=pytest.mark.exhaustive),
    ],
)
def test_members_still_equal_fit_after_fifty_epochs(name: str, run_all: bool) -> None:
    seeds, optimizer = range(200) if run_all else (5, 17), OPTIMIZERS[name]
    trainings = [Training(seed, ramp(50, 0.01 if name == "adamw" else 0.1)) for seed in seeds]
    together = race(trainings, shipped, epochs=50, optimizer=optimizer)
    singles = [alone(training, shipped, optimizer, 50) for training in trainings]
    same = [together[run]["test_acc"] == np.float32(single["test_acc"]) for run, single in enumerate(singles)]
    assert np.mean(same) >= 0.99


def test_momentum_follows_its_table() -> None:
    training = Training(1, ramp(2), momenta=np.linspace(0.95, 0.85, 22))
    optimizer = partial(SGD, momentum=0.9)
    assert_equal(race([training], optimizer=optimizer, epochs=2)[0], alone(training, recipe, optimizer, 2), atol=1e-6)


@pytest.mark.parametrize(("monitor", "mode"), [("val_loss", "min"), ("val_acc", "max")])
def test_plateau_equals_reduce_on_plateau(monitor: str, mode: Any) -> None:
    # A rate far too high, so that the metric stalls at once and by different epochs for different seeds.
    plateau = Plateau(monitor=monitor, mode=mode, factor=0.5, patience=0)
    scheduler = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, mode=mode, factor=0.5, patience=0, eps=0)
    trainings = [Training(seed, np.full(66, 2.0), plateau=plateau) for seed in (1, 2)]
    together = race(trainings, optimizer=partial(SGD, lr=2.0), epochs=6)
    for run, training in enumerate(trainings):
        single = alone(training, recipe, partial(torch.optim.SGD, lr=2.0), 6, scheduler)
        assert single["rates"][-1] < 2.0
        assert_equal(together[run], single, atol=1e-4)


def bits(result: dict[str, Any]) -> dict[str, bytes]:
    return {name: np.asarray(value).tobytes() for name, value in result.items()}


def test_few_runs_have_no_more_places_than_they_need() -> None:
    make, trainings = partial(recipe, module=Net), [Training(0, ramp(1))] * 10
    assert VectorizedRace(make, trainings, optimizer=SGD, epochs=1).chunk_size == 16


def test_weights_lie_as_products_take_them_and_are_returned_as_the_module_has_them() -> None:
    together = VectorizedRace(recipe, [Training(0, ramp(1))], optimizer=SGD, epochs=1, keep_weights=True)
    (chunk,) = together
    assert together.turned == ["net.0.weight"]  # the gradient of the other layer's input takes its weight as it is
    assert chunk.weights["net.0.weight"].shape == (1, 34, 34)
    assert chunk.weights["net.3.weight"].shape == (1, 1, 34)


class Viewed(Net):
    """Looks at a weight in another shape, which takes that it lies as the module has it."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.log("norm", self.net[0].weight.view(-1).norm())


def test_a_weight_that_is_viewed_in_another_shape_lies_as_it_was() -> None:
    make = partial(recipe, module=Viewed)
    assert VectorizedRace(make, [Training(0, ramp(1))], optimizer=SGD, epochs=1).turned == []


class Fixed(Data):
    """The same rows for every seed, in an order of its own."""

    def setup(self, stage: str) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            super().setup(stage)


def test_data_that_is_the_same_for_all_seeds_is_held_once() -> None:
    rows = [module_and_rows(partial(recipe, data=Fixed), seed, 2)[1]["train"] for seed in range(2)]
    assert rows[1].data is not rows[0].data
    shared = rows[1].sharing(rows[:1])
    assert shared.data is rows[0].data
    assert shared.order is rows[1].order
    other = module_and_rows(recipe, 1, 2)[1]["train"]
    assert other.sharing(rows) is other


def test_of_the_data_of_one_seed_there_is_no_copy() -> None:
    together = VectorizedRace(recipe, [Training(0, ramp(1))], optimizer=SGD, epochs=1)
    member = together._members({0})[0]
    stack = together._program_of_chunk.stack([member] * 16, torch.zeros(16, dtype=torch.int64))
    assert stack._data["train"][0] is member.rows["train"].data[0] is together._fetched["train"].data[0]


def test_what_is_traced_with_keeps_few_rows_in_memory() -> None:
    rows = module_and_rows(recipe, 0, 1)[1]["train"]
    assert rows.few().data[0].untyped_storage().nbytes() == 24 * 34 * 4


class Splitting(Data):
    """Divides the same rows for each seed in another way."""

    def setup(self, stage: str) -> None:
        if stage == "fit":
            with torch.random.fork_rng():
                torch.manual_seed(5)
                super().setup(stage)
            parts = zip(*(part.tensors for part in self.parts), strict=True)
            self.parts = random_split(TensorDataset(*map(torch.cat, parts)), [245, 53, 53])


def test_rows_that_seeds_divide_in_other_ways_are_held_once() -> None:
    one, other = (module_and_rows(partial(recipe, data=Splitting), seed, 2)[1] for seed in range(2))
    assert len(one["train"].data[0]) == 351
    assert one["train"].data is one["val"].data
    assert one["train"].data is one["test"].data
    assert other["train"].sharing([one["train"]]).data is one["train"].data
    assert not torch.equal(one["val"].order, other["val"].order)


def test_runs_on_rows_that_their_seeds_divide_equal_trainer_fit() -> None:
    make, trainings = partial(recipe, data=Splitting), [Training(seed, ramp(2)) for seed in (3, 4)]
    for run, result in race(trainings, make, epochs=2).items():
        assert_equal(result, alone(trainings[run], make, SGD, 2), 1e-6)


def test_of_long_runs_the_tables_of_few_steps_are_stacked_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [[np.broadcast_to(0.1, (100_000, 1))] * 3] * 16
    tracemalloc.start()
    try:
        assert sum(len(rates) for rates, *_ in tables_by_epoch(tables, 7)) == 100_000
        assert tracemalloc.get_traced_memory()[1] < 1 << 20  # of 38 MB
    finally:
        tracemalloc.stop()
    falling = Plateau(monitor="val_loss", factor=0.5, patience=0, threshold=10.0)
    trainings = [Training(0, ramp(4), 0.9, plateau) for plateau in (None, falling)]
    at_once = race(trainings, epochs=4)
    monkeypatch.setattr("lit_lrsched.comparison.engine.training._STACKED", 1)
    for run, result in race(trainings, epochs=4).items():
        assert_equal(result, at_once[run], 0.0)
    assert at_once[1]["rates"][-1] < at_once[0]["rates"][-1]


class Fetching(TensorDataset):
    """Says which rows are fetched."""

    fetched: ClassVar[list[int]] = []

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        self.fetched.append(index)
        return super().__getitem__(index)


class Shared(Fixed):
    """Every seed trains on the same rows, and is tested on others."""

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.parts[0] = Fetching(*self.parts[0].tensors)


def test_a_race_makes_no_tensors_that_stay() -> None:
    # Small ones between the large ones of each step would keep the heap from being used again: gigabytes in the end.
    there: list[int] = []

    def count(epochs: int) -> None:
        gc.collect()
        there.append(sum(issubclass(type(thing), Tensor) for thing in gc.get_objects()))

    together = VectorizedRace(recipe, [Training(0, ramp(4))], optimizer=torch.optim.SGD, epochs=4, workers=1)
    assert len(list(together.chunks(count))) == 1
    assert len(there) == 4
    assert len(set(there[1:])) == 1


def test_rows_that_all_seeds_share_are_fetched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_WORTH_A_LOOK", 0.0)
    monkeypatch.setattr(Fetching, "fetched", [])
    together = VectorizedRace(
        partial(recipe, data=Shared), [Training(seed, ramp(1)) for seed in range(3)], optimizer=SGD, epochs=1, workers=1
    )
    each = len(Fetching.fetched)
    together.know(range(3))
    looked_at = 2 * 24 + 245 % 24  # the first batch, twice: whether its rows change; and the last, of 5 rows
    assert len(Fetching.fetched) == each + 3 * looked_at
    first, second = (together._known[seed].rows["train"] for seed in (0, 2))
    assert first.data is second.data
    assert not torch.equal(first.order, second.order)


def test_rows_of_other_splits_are_fetched_for_each_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_WORTH_A_LOOK", 0.0)
    rows = module_and_rows(recipe, 0, 1)[1]
    again, other = (module_and_rows(recipe, seed, 1, known=rows)[1]["train"] for seed in (0, 1))
    assert again.data is rows["train"].data
    assert other.data is not rows["train"].data
    assert not torch.equal(tree_leaves(other.data)[0], tree_leaves(again.data)[0])


def test_to_tell_whether_a_data_set_is_known_it_is_not_copied() -> None:
    dataset = TensorDataset(torch.zeros(1000, 1000))
    tracemalloc.start()
    try:
        source = batches._source(dataset, default_collate, range(1000))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20  # of 4 MB
    finally:
        tracemalloc.stop()
    assert source == batches._source(TensorDataset(torch.zeros(1000, 1000)), default_collate, range(1000))
    assert source != batches._source(TensorDataset(torch.ones(1000, 1000)), default_collate, range(1000))


def test_rows_of_a_data_set_that_cannot_be_pickled_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_WORTH_A_LOOK", 0.0)

    class Local(Fetching):
        """Pickle does not find it."""

    class LocalData(Shared):
        def setup(self, stage: str) -> None:
            super().setup(stage)
            self.parts[0] = Local(*self.parts[0].tensors)

    rows = module_and_rows(partial(recipe, data=LocalData), 0, 1)[1]
    assert rows["train"].source is None
    assert rows["test"].source is not None
    again = module_and_rows(partial(recipe, data=LocalData), 1, 1, known=rows)[1]
    assert again["train"].data is not rows["train"].data
    assert again["test"].data is rows["test"].data


def test_seeds_that_share_their_data_equal_those_that_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    trainings = [Training(seed, ramp(1)) for seed in (0, 1, 0, 2)]
    make = partial(recipe, data=Fixed)
    shared = {run: bits(result) for run, result in race(trainings, make).items()}
    monkeypatch.setattr(Rows, "sharing", lambda self, others: self)
    assert shared == {run: bits(result) for run, result in race(trainings, make).items()}


def test_a_diverged_run_is_told_and_leaves_the_others_alone() -> None:
    calm = [Training(seed, ramp(1)) for seed in range(3)]
    wild = Training(0, np.full(11, 1e30))
    together = race([calm[0], wild, *calm[1:]])
    assert [bool(together[run]["diverged"]) for run in range(4)] == [False, True, False, False]
    assert not np.isfinite(together[1]["net.0.weight"]).all()
    apart = race(calm)
    assert [bits(together[run]) for run in (0, 2, 3)] == [bits(apart[run]) for run in range(3)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, within its compiler
def test_compiled_equals_traced(run_all: bool) -> None:
    if not run_all or shutil.which("g++") is None:
        pytest.skip("compiling takes a C++ compiler and half a minute: run with --all")
    trainings = [Training(seed, ramp(2)) for seed in range(3)]
    options = {"optimizer": partial(SGD, momentum=0.9), "epochs": 2}
    traced, compiled = (race(trainings, compile=compile, **options) for compile in (False, True))
    for run in range(3):
        assert_equal(compiled[run], traced[run], atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"num_workers": 1, "persistent_workers": True}])
def test_rows_are_what_the_loaders_yield(options: Any) -> None:
    make = partial(recipe, data=partial(Data, **options))
    _, data = make(4)
    data.setup("fit")
    loader, validation = data.train_dataloader(), data.val_dataloader()
    expected = []
    for _ in range(3):
        expected.append([x for x, _ in loader])
        list(validation)
    _, rows, _ = module_and_rows(make, 4, 3)
    for epoch, epoch_batches in enumerate(expected):
        drawn = rows["train"].data[0][rows["train"].order[epoch]].split(rows["train"].sizes)
        assert all(map(torch.equal, drawn, epoch_batches))


class ByName(Dataset[Any]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, name: str) -> Any:
        return torch.full((4,), float("abcd".index(name)))


def test_rows_with_names_train_one_by_one() -> None:
    def make(seed: int) -> Any:
        module, rows = recipe(seed, data=LightningDataModule)
        rows.train_dataloader = lambda: DataLoader(ByName(), batch_size=2, sampler=["a", "c", "b", "d"])
        return module, rows

    with pytest.raises(NotVectorizable, match="its sampler gives other things than numbers of rows"):
        module_and_rows(make, 0, 1)


class WithoutLength(Dataset[Any]):
    """Has whatever row it is asked for."""

    def __getitem__(self, index: int) -> Any:
        return torch.tensor([float(index)])


class FromBothEnds(Dataset[Any]):
    """Has four rows."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return torch.tensor([float(range(4)[index])])


@pytest.mark.parametrize(("dataset", "numbers"), [(WithoutLength(), [17, 5, -3, 8]), (FromBothEnds(), [0, -3, 2, -1])])
def test_rows_have_the_numbers_that_the_sampler_gives(dataset: Any, numbers: list[int]) -> None:
    def make(seed: int) -> Any:
        module, rows = recipe(seed, data=LightningDataModule)
        rows.train_dataloader = lambda: DataLoader(dataset, batch_size=2, sampler=numbers)
        return module, rows

    rows = module_and_rows(make, 0, 1)[1]["train"]
    assert rows.data[rows.order[0]].flatten().tolist() == [float(dataset[index]) for index in numbers]
    assert rows.order.min() == 0  # before them lie the rows of another seed


@pytest.mark.parametrize("draw", [random.random, np.random.rand])
def test_augmentation_that_leaves_most_rows_alone_is_told(draw: Callable[[], float]) -> None:
    class Rarely(TensorDataset):
        def __getitem__(self, index: int) -> Any:
            return torch.zeros(3) if draw() < 1e-9 else super().__getitem__(index)

    def make(seed: int) -> Any:
        module, rows = recipe(seed, data=LightningDataModule)
        rows.train_dataloader = lambda: DataLoader(Rarely(torch.ones(8, 3)), batch_size=4)
        return module, rows

    with pytest.raises(NotVectorizable, match="its rows change from one fetch to the next"):
        module_and_rows(make, 0, 1)


def by_epoch(data: Any) -> Any:
    part = data.parts[0]
    return DataLoader(part, batch_size=24, sampler=DistributedSampler(part, num_replicas=1, rank=0, shuffle=True))


def test_samplers_are_told_which_epoch_it_is() -> None:
    make = partial(recipe, data=type("ByEpoch", (Data,), {"train_dataloader": by_epoch}))
    order = module_and_rows(make, 4, 3)[1]["train"].order
    assert not torch.equal(order[0], order[1])
    sampler = DistributedSampler(range(245), num_replicas=1, rank=0, shuffle=True)
    for epoch, rows in enumerate(order.tolist()):
        sampler.set_epoch(epoch)
        assert rows == list(sampler)


class Doubling(DataLoader[Any]):
    """Changes the batches that it yields."""

    def __iter__(self) -> Any:
        return (2 * x for x in super().__iter__())


class Opened(TensorDataset):
    """Has its file only in workers."""

    file: Any = None

    def __getitem__(self, index: int) -> Any:
        return self.file(super().__getitem__(index))


class Scaled(TensorDataset):
    """Has other rows in workers."""

    factor = 1

    def __getitem__(self, index: int) -> Any:
        return tuple(self.factor * part for part in super().__getitem__(index))


def open_file(worker: int) -> None:
    vars(get_worker_info().dataset)["file"] = tuple


def scale(worker: int) -> None:
    vars(get_worker_info().dataset)["factor"] = 2


def only_seed(worker: int) -> None:
    np.random.seed(worker)


def in_workers(kind: Any, init: Any) -> Callable[[Any], Any]:
    def train_dataloader(self: Any) -> Any:
        return DataLoader(kind(*self.parts[0].tensors), batch_size=24, num_workers=1, worker_init_fn=init)

    return train_dataloader


def short_ones_doubled(self: Any) -> Any:
    def collate(items: Any) -> Any:
        return [(1 + (len(items) < 24)) * torch.stack(parts) for parts in zip(*items, strict=True)]

    return DataLoader(self.parts[0], batch_size=24, collate_fn=collate)


def tripled(self: Any, batch: Any, *_: Any) -> Any:
    return [3 * part for part in batch]


@pytest.mark.parametrize(
    ("hook", "function", "told"),
    [
        ("on_before_batch_transfer", tripled, "its data module overrides on_before_batch_transfer"),
        ("on_after_batch_transfer", tripled, "its data module overrides on_after_batch_transfer"),
        ("transfer_batch_to_device", tripled, "its data module overrides transfer_batch_to_device"),
        ("train_dataloader", short_ones_doubled, "a batch depends on which rows it holds"),
        ("train_dataloader", lambda self: Doubling(self.parts[0]), "its Doubling makes batches in a way of its own"),
        ("train_dataloader", in_workers(Opened, open_file), r"rows cannot be fetched by themselves \(TypeError: 'None"),
        ("train_dataloader", in_workers(Scaled, scale), r"others in a worker of its loader \(worker_init_fn\)"),
    ],
)
def test_data_that_reach_a_step_otherwise_than_as_rows_are_told(hook: str, function: Any, told: str) -> None:
    kind = type("Other", (Data,), {hook: function})
    with pytest.raises(NotVectorizable, match=told):
        race([Training(0, ramp(1))], partial(recipe, data=kind))


def test_workers_that_only_seed_generators_are_no_reason_to_train_alone() -> None:
    kind = type("Seeding", (Data,), {"train_dataloader": in_workers(Scaled, only_seed)})
    before = torch.get_rng_state()
    race([Training(0, ramp(1))], partial(recipe, data=kind))
    assert torch.equal(before, torch.get_rng_state())


def test_a_race_over_rows_that_only_workers_can_fetch(tmp_path: Path) -> None:
    kind = type("Other", (Data,), {"train_dataloader": in_workers(Opened, open_file)})
    raced = compare(Net, kind, {"constant": Constant()}, lrs=[0.1], seeds=2, epochs=1, optimizer=SGD, folder=tmp_path)
    assert raced.results.reason.startswith("its rows cannot be fetched by themselves")
    assert raced.results.trained == 2


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    race([Training(1, ramp(1))])
    assert torch.equal(before, torch.get_rng_state())


class Augmented(Dataset[Any]):
    def __len__(self) -> int:
        return 48

    def __getitem__(self, index: int) -> Any:
        return torch.rand(34), torch.ones(1)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([(torch.rand(34), torch.ones(1))] * 48)


def variant(**members: Any) -> type[Net]:
    return type("Variant", (Net,), members)


def loss_of(module: Any, batch: Any, factor: Any = 1.0) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(module.net(batch[0]) * factor, batch[1])


class ByHand(Net):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


class Remembering(Net):
    def __init__(self) -> None:
        super().__init__()
        self.losses: list[Tensor] = []

    def training_step(self, batch: Any) -> Tensor:
        self.losses.append(loss_of(self, batch))
        return self.losses[-1]


class Averaging(Remembering):
    def training_step(self, batch: Any) -> Tensor:
        loss = loss_of(self, batch)
        self.losses.append(loss.detach())
        return loss - torch.stack(list(self.losses)).mean()

    def on_train_epoch_end(self) -> None:
        self.losses.clear()


class Stacking(Averaging):
    def training_step(self, batch: Any) -> Tensor:
        loss = loss_of(self, batch)
        self.losses.append(loss.detach())
        return loss - torch.stack(self.losses).mean()  # which looks into a list without its methods


class Looking(Remembering):
    def on_train_epoch_start(self) -> None:
        if len(self.losses) > 100:
            self.losses = []
        self.losses.clear()


class Naming(Remembering):
    def training_step(self, batch: Any) -> Tensor:
        self.losses.append("a batch")
        return loss_of(self, batch)

    def on_train_epoch_end(self) -> None:
        self.losses.clear()


class Starting(Net):
    def on_train_epoch_start(self) -> None:
        self.started = object()


def branching(self: Any, batch: Any) -> Tensor:
    loss = loss_of(self, batch)
    return loss if loss > 0.5 else 2 * loss


def from_numpy(self: Any, batch: Any) -> Tensor:
    return loss_of(self, batch, float(np.random.rand()))


def from_a_generator(self: Any, batch: Any) -> Tensor:
    return loss_of(self, batch, torch.rand((), generator=torch.Generator()))


def by_a_name_of_its_own(self: Any, batch: Any) -> Tensor:
    loss = loss_of(self, batch)
    self.log(f"loss {loss:.1f}", loss)
    return loss


def repeating(self: Any, batch: Any) -> Tensor:
    for factor in (1, 2):
        self.log("loss", loss_of(self, batch, factor))
    return loss_of(self, batch)


def by_step(self: Any, batch: Any) -> Tensor:
    return loss_of(self, batch, 1 / (1 + float(self.global_step)))


REFUSED = {
    r"optimizes by hand": ByHand,
    r"changes self.losses": Remembering,
    r"reads a list of what earlier steps appended": Averaging,
    r"^a step reads a list of what earlier steps appended$": Stacking,
    r"^a step reads a list of what earlier steps appended": Looking,
    r"appends more than tensors and numbers to self.losses": Naming,
    r"changes self.started": Starting,
    r"branches on the values": variant(training_step=branching),
    r"takes the numbers out of its tensors, as numpy\(\) does": variant(
        validation_step=lambda self, batch: self.log("val_loss", float(self.net(batch[0]).numpy().mean()))
    ),
    r"draws from Python's or NumPy's generator": variant(training_step=from_numpy),
    r"generator": variant(training_step=from_a_generator),
    r"logs 'loss' twice": variant(training_step=repeating),
    r"logs under a name that differs from run to run": variant(training_step=by_a_name_of_its_own),
    r"for over 64 values of batch_idx or current_epoch": variant(training_step=by_step),
    r"uses self.trainer.callbacks": variant(training_step=lambda self, batch: self.trainer.callbacks),
    r"overrides optimizer_step": variant(optimizer_step=lambda *_: None),
    r"on_train_batch_start ends an epoch": variant(on_train_batch_start=lambda self, batch, batch_idx: -1),
    r"setup for the test changes it": variant(setup=lambda self, stage: setattr(self, "stage", stage)),
    r"its setup draws random numbers after it asks": variant(
        setup=lambda self, stage: torch.rand(self.trainer.estimated_stepping_batches)
    ),
    r"its setup uses self.trainer.callbacks": variant(setup=lambda self, stage: self.trainer.callbacks),
    r"returns NoneType, not a loss": variant(training_step=lambda self, batch: None),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_share_a_program_is_told_why(reason: str) -> None:
    with pytest.raises(NotVectorizable, match=reason) as told:
        race([Training(0, ramp(6))], partial(recipe, module=REFUSED[reason]), epochs=6)
    assert "\n" not in str(told.value)


class Incomplete(dict[str, Any]):
    """Raises when it is looked through, as the configurations of some libraries do where a value is missing."""

    def items(self) -> Any:
        raise LookupError("missing")


class Masked(Net):
    """Holds what its initial draws made, outside of its buffers."""

    def __init__(self, make: Callable[[], Any]) -> None:
        super().__init__()
        self.held = make()
        self.example_input_array = torch.randn(1, 34)

    def training_step(self, batch: Any) -> Tensor:
        return loss_of(self, batch)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.rand(34),
        lambda: [torch.rand(3)],
        lambda: float(torch.rand(())),
        lambda: {"of": torch.rand(3).numpy()},
        lambda: {int(torch.randint(1000, ()))},
    ],
)
def test_what_seeds_do_not_share_outside_of_parameters_and_buffers_is_told(make: Callable[[], Any]) -> None:
    both = [Training(seed, ramp(1)) for seed in (0, 1)]
    with pytest.raises(NotVectorizable, match=r"all runs would share self\.held, and seed 1 has another than seed 0"):
        race(both, partial(recipe, module=partial(Masked, make)), workers=1)
    race(both[:1], partial(recipe, module=partial(Masked, make)), workers=1)


def test_a_sparse_tensor_is_told() -> None:
    with pytest.raises(NotVectorizable, match="it holds a sparse tensor"):
        race([Training(0, ramp(1))], partial(recipe, module=partial(Masked, torch.eye(3).to_sparse)))


def test_what_seeds_share_is_no_reason_to_train_alone() -> None:
    both = [Training(seed, ramp(1)) for seed in (0, 1)]
    makes = (lambda: torch.ones(2), lambda: [1, {"a": (2.5, {3})}], lambda: float("nan"), nn.Identity, object)
    for make in (*makes, Incomplete):
        race(both, partial(recipe, module=partial(Masked, make)), workers=1)


@pytest.mark.exhaustive  # loads torch's compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_numbers_of_compiled_layers_are_no_reason_to_train_alone() -> None:
    one, other = (held(Masked(lambda: torch.compile(nn.Linear(2, 2), backend="eager"))) for _ in range(2))
    assert one == other


def test_an_attribute_that_shows_a_parameter_is_told() -> None:
    class Showing(Net):
        def __init__(self) -> None:
            super().__init__()
            self.shown = self.net[0].weight.detach()

    with pytest.raises(NotVectorizable, match=r"self\.shown shows the memory of a parameter"):
        race([Training(0, ramp(1))], partial(recipe, module=Showing))


@pytest.mark.parametrize(
    ("dataset", "reason"), [(Augmented(), "change from one fetch to the next"), (Stream(), "a stream, not rows")]
)
def test_data_that_are_not_rows_are_told(dataset: Any, reason: str) -> None:
    class Other(Data):
        def train_dataloader(self) -> Any:
            return DataLoader(dataset, batch_size=24)

    with pytest.raises(NotVectorizable, match=reason):
        race([Training(0, ramp(1))], partial(recipe, data=Other))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (None, "its batches hold None, which is no tensor"),
        (0.5, "its batches hold a float, which is no tensor"),
        (torch.tensor(24), "its batches hold a tensor that has no row for every item"),
        (torch.zeros(25), "its batches hold a tensor that has no row for every item"),
    ],
)
def test_batches_that_hold_more_than_rows_are_told(more: Any, reason: str) -> None:
    collated = Data(collate_fn=lambda items: [*default_collate(items), more])
    with pytest.raises(NotVectorizable, match=reason):
        race([Training(0, ramp(1))], partial(recipe, data=lambda: collated))


def test_a_list_of_one_loader_makes_lists_of_batches_in_training_alone() -> None:
    class Listed(Data):
        def val_dataloader(self) -> Any:
            return [super().val_dataloader()]

    class AllListed(Listed):
        def train_dataloader(self) -> Any:
            return [super().train_dataloader()]

    training = Training(0, ramp(1))
    assert_equal(race([training], partial(recipe, data=Listed))[0], race([training])[0], atol=0)
    with pytest.raises(NotVectorizable, match="its batches come from a list, not from one DataLoader"):
        race([training], partial(recipe, data=AllListed))


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.RMSprop])
def test_a_momentum_that_is_zero_at_some_steps_is_told(optimizer: Any) -> None:
    made = partial(optimizer, lr=0.1, momentum=0.9)
    passing, without = (Training(0, ramp(1), momenta) for momenta in (np.linspace(0.9, 0.0, 11), np.zeros(11)))
    for trainings in ([passing], [without, passing]):
        with pytest.raises(NotVectorizable, match="a momentum is 0 at some steps and not at others"):
            race(trainings, optimizer=made)
    together = VectorizedRace(recipe, [without], optimizer=made, epochs=1)
    with pytest.raises(NotVectorizable, match="a momentum is 0"):
        together.then([passing])
    race([passing], optimizer=partial(torch.optim.AdamW, lr=0.1))


def test_other_optimizers_are_told() -> None:
    with pytest.raises(NotVectorizable, match="Adamax is none of torch's SGD, Adam, AdamW, NAdam, RMSprop, Adagrad"):
        race([Training(0, ramp(1))], optimizer=torch.optim.Adamax)


def test_mistakes_are_told_in_one_line() -> None:
    with pytest.raises(InputError, match="takes 11 optimizer steps but 10 learning rates"):
        race([Training(0, ramp(1)[1:])])
    with pytest.raises(InputError, match=r"monitor='val_los' is not logged .did you mean 'val_loss'"):
        race([Training(0, ramp(1), plateau=Plateau(monitor="val_los", mode="min"))])


def test_chunks_come_as_they_finish_and_hold_each_training_once() -> None:
    trainings = [Training(run % 3, ramp(1)) for run in range(40)]
    together = VectorizedRace(recipe, trainings, optimizer=SGD, epochs=1, chunk_size=32)
    chunks: list[Chunk] = list(together)
    assert together.chunk_size == 32
    assert sorted(run for chunk in chunks for run in chunk.runs) == list(range(40))
    assert all(chunk.curves["val_acc"].shape == (len(chunk.runs), 1) for chunk in chunks)


@pytest.mark.parametrize(
    "workers", [pytest.param(1, marks=pytest.mark.exhaustive), 2, pytest.param(5, marks=pytest.mark.exhaustive)]
)
def test_results_do_not_depend_on_how_many_workers_there_are(workers: int) -> None:
    trainings = [Training(run % 7, ramp(1, start=0.1 + run / 100), name=str(run)) for run in range(40)]
    make = partial(recipe, module=partial(Net, dropout=0.3))
    one, many = race(trainings, make), race(trainings, make, workers=workers, chunk_size=32)
    for run, values in one.items():
        for name, value in values.items():
            np.testing.assert_array_equal(many[run][name], value)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_epoch_is_told_no_later_than_its_chunk(workers: int) -> None:
    trainings = [Training(0, ramp(3)) for _ in range(40)]
    together = VectorizedRace(recipe, trainings, optimizer=SGD, epochs=3, chunk_size=32, workers=workers)
    told: list[int] = []
    finished = 0
    for chunk in together.chunks(told.append):
        finished += len(chunk.runs)
        assert 3 * finished <= sum(told) <= 3 * 40
    assert sum(told) == 3 * 40
