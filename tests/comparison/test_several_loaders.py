"""Modules that validate and test on several data loaders train together as ``Trainer.fit`` trains each alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, seed_everything
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from lit_lrsched import Constant, compare
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.comparison.engine.regime import Regime
from lit_lrsched.comparison.engine.training import Training
from tests.comparison.test_vectorized import alone, race

pytestmark = [
    pytest.mark.filterwarnings("ignore::lightning.pytorch.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:.*litlogger.*"),
]

EPOCHS, STEPS = 3, 3
SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


class Sets(LightningDataModule):
    """Three sets to validate and to test on, one of them shuffled, in batches of other sizes and types."""

    def setup(self, stage: str) -> None:
        draw = torch.Generator().manual_seed(1)

        def rows(count: int) -> TensorDataset:
            return TensorDataset(torch.randn(count, 4, generator=draw), torch.randint(3, (count,), generator=draw))

        self.sets = {"train": [rows(48)], "val": [rows(20), rows(13), rows(8)], "test": [rows(16), rows(11), rows(9)]}

    def train_dataloader(self) -> Any:
        return DataLoader(self.sets["train"][0], batch_size=16, shuffle=True)

    def val_dataloader(self) -> Any:
        return [DataLoader(rows, batch_size=8 + i, shuffle=i == 1) for i, rows in enumerate(self.sets["val"])]

    def test_dataloader(self) -> Any:
        return tuple(DataLoader(rows, batch_size=8) for rows in self.sets["test"])


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
        self.accuracies = nn.ModuleList(MulticlassAccuracy(3) for _ in range(3))
        self.seen = 0

    def loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("test_loss", self.loss(batch))


class OneName(Net):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val_loss", self.loss(batch))
        self.accuracies[dataloader_idx](self.net(batch[0]), batch[1])
        self.log("val_acc", self.accuracies[dataloader_idx], on_step=True, on_epoch=True)


class NamesOfItsOwn(Net):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log(f"val_{'abc'[dataloader_idx]}", self.loss(batch), add_dataloader_idx=False)


class OtherSteps(Net):
    """Does something else for each loader, and counts the batches of all."""

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.seen += 1

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        loss = self.loss(batch)
        if dataloader_idx == 1 and batch_idx == 0:
            loss = 2 * loss
        if dataloader_idx == 2:
            self.log("most", loss, reduce_fx="max")
        else:
            self.log("val_loss", loss)

    def on_validation_epoch_end(self) -> None:
        self.log("seen", float(self.seen))
        self.seen = 0


class AllInOneMetric(Net):
    """Updates one metric for all loaders, and logs it for the last of them."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.accuracies[0].update(self.net(batch[0]), batch[1])
        if dataloader_idx == 2:
            self.log("val_acc", self.accuracies[0])


class MetricOfEach(Net):
    """Logs one metric for each loader: Lightning computes it as each ends, of all batches so far."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.accuracies[0](self.net(batch[0]), batch[1])
        self.log("val_acc", self.accuracies[0])


class OneNameForAll(Net):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val_loss", self.loss(batch), add_dataloader_idx=False)


class WithoutPlace(Net):
    def validation_step(self, batch: Any, batch_idx: int, place: int = 0) -> None:
        self.log("val_loss", self.loss(batch))


class Drawing(Net):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("drawn", torch.rand(()))


def seeded(module: Callable[[], LightningModule]) -> Callable[[int], Any]:
    def make(seed: int) -> Any:
        seed_everything(seed, verbose=False)
        return module(), Sets()

    return make


def trainings(steps: int = STEPS) -> list[Training]:
    rates = np.linspace(0.1, 0.02, EPOCHS * steps)
    return [Training(seed, factor * rates, name=str(factor)) for seed, factor in ((3, 1), (3, 2), (8, 1))]


@pytest.mark.parametrize("module", [OneName, NamesOfItsOwn, OtherSteps, AllInOneMetric])
def test_every_run_equals_fit(module: type[LightningModule]) -> None:
    make = seeded(module)
    together = race(trainings(), make, optimizer=SGD, epochs=EPOCHS)
    for run, training in enumerate(trainings()):
        single = alone(training, make, SGD, EPOCHS, num_sanity_val_steps=0)
        assert together[run].keys() - {"diverged"} == single.keys()
        for name in single:
            np.testing.assert_allclose(together[run][name], single[name], rtol=0, atol=1e-6, err_msg=name)
    assert len([name for name in together[0] if name.startswith("test_loss/dataloader_idx_")]) == 3


def test_a_limit_holds_for_each_loader() -> None:
    make, regime = seeded(OneName), Regime(limit_train=2, limit_val=2, limit_test=0.5)
    together = race(trainings(steps=2), make, optimizer=SGD, epochs=EPOCHS, regime=regime)
    single = alone(trainings(steps=2)[0], make, SGD, EPOCHS, num_sanity_val_steps=0, **regime.options())
    for name in single:
        np.testing.assert_allclose(together[0][name], single[name], rtol=0, atol=1e-6, err_msg=name)


def test_each_loader_has_draws_of_its_own() -> None:
    together = race(trainings(), seeded(Drawing), optimizer=SGD, epochs=EPOCHS)
    drawn = [together[0][f"drawn/dataloader_idx_{i}"] for i in range(3)]
    assert len({*np.concatenate(drawn).tolist()}) == 3 * EPOCHS


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (MetricOfEach, "'val_acc/dataloader_idx_0' is a metric that batches of a later loader update too"),
        (OneNameForAll, "'val_loss' is logged for several loaders"),
        (WithoutPlace, "there are several loaders, and validation_step takes no dataloader_idx"),
    ],
)
def test_what_lightning_computes_in_another_way_or_refuses(module: type[LightningModule], reason: str) -> None:
    with pytest.raises(NotVectorizable, match=reason):
        race(trainings(), seeded(module), optimizer=SGD, epochs=EPOCHS)


def test_compare_judges_by_one_of_them(tmp_path: Any) -> None:
    class Tested(OneName):
        def configure_optimizers(self) -> Any:
            return SGD(self.parameters())

    metric = "val_loss/dataloader_idx_1"
    raced = compare(
        Tested, Sets, {"constant": Constant()}, lrs=[0.1], seeds=2, epochs=1, metric=metric, mode="min", folder=tmp_path
    )
    assert {"test_loss/dataloader_idx_1", metric} <= raced.results.records[0].metrics.keys()
    assert raced.results.engine == "vectorized"
