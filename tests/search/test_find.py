"""The search as a whole: what it finds, what it leaves untouched, what it refuses, and the command."""

from __future__ import annotations

import copy
import csv
import io
import json
import os
import random
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from matplotlib.figure import Figure
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lit_lrsched import Linear, WarmupCosine, compare, find_lr
from lit_lrsched.comparison.builds import build_from
from lit_lrsched.comparison.engine.training import Training
from lit_lrsched.comparison.engine.vectorized import VectorizedRace
from lit_lrsched.comparison.records import stored_records
from lit_lrsched.errors import InputError
from lit_lrsched.search import engines, subject
from lit_lrsched.search.engines import TRAINING_LOSS, Engines
from lit_lrsched.search.rates import spread
from lit_lrsched.search.terminal import show
from tests.foreign import GAN, MLP, Data, Decayed, Grouped, NoOptimizer, Several
from tests.reading import run_folder, scalars

DATA = partial(Data, 16, rows=64)
SMALL = {"epochs": 4, "points": 8, "seeds": 2}


def search(folder, model=MLP, data=DATA, **options):
    return find_lr(model, data, folder=folder, **{**SMALL, **options})


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return search(tmp_path_factory.mktemp("found"), epochs=8, points=12)


def test_what_is_found_in_python(found, tmp_path):
    rates = [row["lr"] for row in found.table]
    assert rates == sorted(set(rates))
    assert len(rates) == 12
    assert 1e-6 < rates[0] < rates[-1] <= 1.0  # where something happens between 1e-3 and 1e3 times MLP's 0.001
    assert rates == spread(rates[0], rates[-1], 12).tolist()
    assert set(found.table[0]) == {"lr", "loss", "low", "high", "val_acc", "diverged"}
    assert all(row["low"] <= row["loss"] <= row["high"] for row in found.table if not row["diverged"])
    assert found.interval[0] <= found.best <= found.interval[1]
    assert found.best <= found.lr <= found.largest_safe
    assert found.outcome.judged_by == "val_loss"
    lowest = min(found.table, key=lambda row: row["loss"] or np.inf)["lr"]
    assert lowest / 4 <= found.best <= lowest * 4
    found.write_csv(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open() as file:
        assert [float(row["lr"]) for row in csv.DictReader(file)] == rates


def test_how_it_is_shown(found, capsys):
    figure, axes = found.plot()
    assert (axes.get_xscale(), axes.get_ylabel()) == ("log", "val_loss")
    marks = " ".join(text.get_text() for text in axes.texts)
    assert all(name in marks for name in ("best", "suggested", "largest safe"))
    axes = Figure().add_subplot()
    assert found.plot(axes) == (axes.figure, axes)
    assert figure is not axes.figure
    lines = repr(found).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    assert found.verdict.partition(":")[0] in " ".join(repr(found).split())
    assert found._repr_html_().count("<img") == 1
    found.show()
    assert f"{found.lr:.3g}" in capsys.readouterr().out


def test_a_finished_search_is_not_run_again(found, monkeypatch):
    monkeypatch.setattr(Engines, "_chunks", lambda *_: pytest.fail("trained again"))
    again = search(found.folder, epochs=8, points=12)
    assert again.table == found.table
    assert again.judgement == found.judgement


def hashed(*things) -> list:
    return [copy.deepcopy(thing) for thing in (random.getstate(), np.random.get_state()[1].tolist(), *things)]


class ShuffledByItsOwn(Data):
    """A loader with a generator of its own."""

    def __init__(self) -> None:
        super().__init__(16, rows=64)
        self.hparams.clear()  # by which it would be made anew
        self.generator = torch.Generator().manual_seed(5)

    def train_dataloader(self):
        return DataLoader(self.rows, self.batch_size, shuffle=True, generator=self.generator)


@pytest.mark.parametrize("ask", [find_lr, partial(compare, schedules={"linear": Linear()})], ids=["find", "compare"])
def test_nothing_of_the_user_changes(tmp_path, monkeypatch, ask):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    monkeypatch.setenv("PL_SEED_WORKERS", "1")
    module, data = Grouped(), ShuffledByItsOwn()
    logger = CSVLogger(tmp_path / "logs")
    trainer = Trainer(max_epochs=2, accelerator="cpu", logger=logger, callbacks=[], enable_checkpointing=False)
    callbacks, optimizer = list(trainer.callbacks), torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)

    def state():
        tensors = [*module.state_dict().values(), torch.get_rng_state(), data.generator.get_state()]
        return hashed(optimizer.state_dict(), vars(data.hparams), dict(os.environ)), [t.clone() for t in tensors]

    before, tensors = state()
    ask(module, data, epochs=2, seeds=2, lrs=(1e-3, 1e-1), trainer=trainer, folder=tmp_path / "found")
    after, now = state()
    assert before == after
    assert all(map(torch.equal, tensors, now))
    assert trainer.callbacks == callbacks
    assert trainer.logger is logger
    assert not (tmp_path / "logs").exists()
    assert module._trainer is None


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("model", "options"),
    [
        (MLP, {"schedule": WarmupCosine("10%")}),
        (Grouped, {}),
        (Decayed, {"steps": "2ep"}),
    ],
)
def test_the_engines_agree_run_by_run_also_within_an_epoch(tmp_path, model, options):
    # Four steps an epoch: seven end amid the second.
    options = {"steps": "7st", "lrs": (1e-3, 1e-2), "points": 5, **options}
    fast, slow = (search(tmp_path / engine, model, engine=engine, **options) for engine in ("vectorized", "sequential"))
    assert fast.outcome.metrics.keys() == slow.outcome.metrics.keys()
    for name, values in fast.outcome.metrics.items():
        assert values == pytest.approx(slow.outcome.metrics[name], rel=1e-4, abs=1e-5), name
        assert fast.outcome.untrained[name] == pytest.approx(slow.outcome.untrained[name], rel=1e-4, abs=1e-5), name
    assert fast.lr == pytest.approx(slow.lr)


@pytest.mark.parametrize("steps", ["3st", "4st"])
def test_the_engines_accumulate_alike_also_within_an_epoch(tmp_path, steps):
    # Steps of 3 batches and of 1: three end amid the second epoch, and of four the first fifth is one step.
    trainer = Trainer(accumulate_grad_batches=3, gradient_clip_val=0.5, accelerator="cpu", logger=False)
    options = {"steps": steps, "points": 5, "model": Grouped, "trainer": trainer, "schedule": Linear()}
    folders = [tmp_path / engine for engine in ("vectorized", "sequential")]
    fast, slow = (search(folder, engine=folder.name, **options) for folder in folders)
    assert fast.lr == pytest.approx(slow.lr)
    for found in ("", "scouts"):
        one, other = (stored_records(folder / found) for folder in folders)
        for key, record in one.items():
            near = next(twin for twin in other if twin.lr == pytest.approx(key.lr) and twin.seed == key.seed)
            assert record.metrics == pytest.approx(other[near].metrics, rel=1e-4, abs=1e-5), key
    fast.export(tmp_path / "peak.yaml")
    exported = yaml.safe_load((tmp_path / "peak.yaml").read_text())["trainer"]
    assert exported == {
        "accumulate_grad_batches": 3,
        "gradient_clip_val": 0.5,
        "gradient_clip_algorithm": "norm",
        "max_epochs": 4,
    }


def test_a_rate_that_does_nothing_has_not_diverged_whatever_the_last_batches_are(tmp_path):
    found = search(tmp_path, lrs=(1e-12, 1e-11), points=5, steps="7st")
    assert [row["diverged"] for row in found.table] == [0] * 5


class Validated(MLP):
    """Its metric of validation refuses nan, as those of other libraries do."""

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        if np.isnan(found := self.network(batch[0]).mean().item()):
            raise ValueError(f"Input contains {found}.")


def test_a_run_whose_module_raises_on_nan_has_diverged(tmp_path, caplog):
    caplog.set_level("INFO")
    found = search(tmp_path / "found", Validated, engine="sequential", lrs=(1e-3, 1e21), points=5, steps="8st")
    assert [row["diverged"] for row in found.table][:2] == [0, 2]
    assert found.largest_safe == pytest.approx(1e-3)
    told = "The rate 1e+21, seed 0, counts as diverged: Validated raised ValueError: Input contains nan (line "
    assert told in caplog.text

    class Untrained(MLP):
        def validation_step(self, batch, batch_idx):
            torch.distributions.Normal(torch.tensor(torch.nan), 1.0, validate_args=True)  # compilers turn it off

    with pytest.raises(
        InputError, match="the untrained module breaks off, Untrained raised ValueError: Expected param"
    ):
        search(tmp_path / "untrained", Untrained, engine="sequential", steps="8st")


def test_the_engines_agree_on_the_first_fifth_of_a_run(tmp_path):
    # Of 16 steps four, of 7 two: amid an epoch.
    for steps in ("16st", "7st"):
        folders = [tmp_path / f"{engine} {steps}" for engine in ("vectorized", "sequential")]
        for folder in folders:
            engine = folder.name.partition(" ")[0]
            search(folder, engine=engine, steps=steps, points=5, schedule=WarmupCosine("10%"))
        fast, slow = (stored_records(folder / "scouts") for folder in folders)
        assert fast.keys() == slow.keys()
        assert {key.lr for key in fast} == {0.0, 1e-6, 1e-3, 1.0}
        for key, record in fast.items():
            assert record.metrics == pytest.approx(slow[key].metrics, rel=1e-4, abs=1e-5), key


def test_param_groups_keep_their_ratios_and_a_run_is_what_fit_does(tmp_path):
    found = search(tmp_path, Grouped, lrs=(1e-3, 1e-2), points=5)
    place, lr = 3, found.table[3]["lr"]

    class AtThatRate(Grouped):
        def configure_optimizers(self):
            first, last = self.network[0], self.network[-1]
            groups = [
                {"params": first.parameters(), "lr": lr},
                {"params": last.parameters(), "lr": 4 * lr, "weight_decay": 0.0},
            ]
            optimizer = torch.optim.AdamW(groups, weight_decay=0.2)
            one_cycle = OneCycleLR(optimizer, [lr, 4 * lr], total_steps=int(self.trainer.estimated_stepping_batches))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": one_cycle, "interval": "step"}}

    torch.manual_seed(1)
    module, trainer = (
        AtThatRate(),
        Trainer(
            max_epochs=4,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        ),
    )
    trainer.fit(module, DATA(seed=1))
    assert float(trainer.callback_metrics["val_loss"]) == pytest.approx(
        found.outcome.metrics["val_loss"][place, 1], rel=1e-4
    )


class Quadratic(LightningModule):
    """Half of the sum of curvature times weight squared: gradient descent holds up to 2 / 50."""

    def __init__(self, momentum: float = 0.0) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(3))
        self.momentum = momentum

    def training_step(self, batch, batch_idx):
        return 0.5 * (torch.tensor([1.0, 5.0, 50.0]) * self.weights**2).sum() + 0.0 * batch[0].sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=self.momentum)


class Nothing(LightningDataModule):
    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.zeros(20, 1)))


@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_the_largest_safe_rate_of_a_quadratic(tmp_path, beta, caplog):
    caplog.set_level("INFO", logger="lightning.pytorch")
    found = search(tmp_path, partial(Quadratic, beta), Nothing, lrs=(1e-3, 1.0), points=24, epochs=20)
    rates = [row["lr"] for row in found.table]
    limit = 2 * (1 + beta) / 50
    assert found.largest_safe <= limit < rates[rates.index(found.largest_safe) + 1]
    assert found.outcome.judged_by == TRAINING_LOSS
    assert found.outcome.metric is None
    assert "training loss" in found.verdict
    assert caplog.messages[-1].startswith("No loss or error of validation is logged: the training loss")


class Errors(MLP):
    """Logs errors of validation, and losses that are none of it."""

    def validation_step(self, batch, batch_idx):
        x, y = batch
        error = self.network(x) - y
        self.log("val_mae", error.abs().mean())
        self.log("val_mse", error.square().mean())
        self.log("value_loss", -error.square().mean())
        self.log("val_r2", 1 - error.square().mean())


def test_an_error_of_validation_judges_where_no_loss_is_logged(tmp_path):
    found = search(tmp_path, Errors, lrs=(1e-4, 0.1), points=5)
    assert (found.outcome.judged_by, found.outcome.metric) == ("val_mae", "val_r2")
    assert "val_mae" in found.verdict


class Parts(MLP):
    """Logs the losses of two tasks, and not their sum."""

    def validation_step(self, batch, batch_idx):
        x, y = batch
        error = self.network(x) - y
        self.log("val/b_loss", error.abs().mean())
        self.log("val/other_loss", error.square().mean())


class Whole(Parts):
    def validation_step(self, batch, batch_idx):
        x, y = batch
        super().validation_step(batch, batch_idx)
        self.log("val/total_loss", (self.network(x) - y).square().mean())


def test_the_loss_of_one_task_does_not_judge_all(tmp_path, caplog):
    caplog.set_level("INFO", logger="lightning.pytorch")
    found = search(tmp_path / "parts", Parts, lrs=(1e-4, 0.1), points=5)
    assert (found.outcome.judged_by, found.outcome.metric) == (TRAINING_LOSS, None)
    assert caplog.messages[-1] == (
        "val/b_loss, val/other_loss may each be a part of the loss, and the whole is not logged as val_loss: the "
        "training loss over the last tenth of the steps judges."
    )
    found = search(tmp_path / "whole", Whole, lrs=(1e-4, 0.1), points=5)
    assert found.outcome.judged_by == "val/total_loss"


class Branching(MLP):
    """Asks for the value of its loss, which no traced program can."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss * 2 if loss.item() > 1e9 else loss


def test_a_module_that_cannot_be_traced_has_short_runs_and_is_told_so(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", logger="lightning.pytorch")
    monkeypatch.setattr(engines, "SHORT", 6)
    trained, taken = [], []
    one_by_one, chunks = Engines.train, Engines._chunks
    monkeypatch.setattr(Engines, "train", lambda self, keys: trained.append(keys) or one_by_one(self, keys))

    def noted(self, keys):
        for chunk in chunks(self, keys):
            taken.append(chunk.losses.shape[1])
            yield chunk

    monkeypatch.setattr(Engines, "_chunks", noted)
    options = {"lrs": (1e-2, 1e38), "points": 5, "optimizer": partial(torch.optim.SGD, lr=0.1)}
    found = search(tmp_path, Branching, **options)
    (said,) = [message for message in caplog.messages if message.startswith("One Trainer.fit a run")]
    assert "of 6 steps, since a step branches on the values of its tensors" in said
    assert "short runs prefer other rates than long ones" in said
    # The untrained module, then one rate after another with its two seeds, until both break down.
    assert [len(keys) for keys in trained] == [2, 2, 2]
    assert taken[:4] == [6] * 4
    assert all(steps < 6 for steps in taken[4:])  # those stop as soon as they break down
    assert [row["diverged"] for row in found.table] == [0, 2, 2, 2, 2]
    assert found.largest_safe == 0.01
    trained.clear()
    assert search(tmp_path, Branching, **options).table == found.table
    assert trained == []


class OfOtherLength(Data):
    def __init__(self, seed: int) -> None:
        super().__init__(batch_size=16, rows=64 - seed)


def test_seeds_that_cannot_share_a_program_are_found_before_it_trains(tmp_path, caplog):
    caplog.set_level("INFO")
    found = search(tmp_path / "found", data=OfOtherLength, epochs=1, points=5)
    assert "One Trainer.fit a run of 1 epoch, since seed 1 has batches of other sizes than seed 0." in caplog.text
    assert len(found.table) == 5


def test_an_interrupted_search_is_taken_up(tmp_path, monkeypatch):
    options = {"lrs": (1e-3, 1e-1), "points": 20}
    expected = search(tmp_path / "whole", **options)
    chunks = Engines._chunks

    def stopped(self, keys):
        yield next(iter(chunks(self, keys)))
        raise KeyboardInterrupt

    monkeypatch.setattr(Engines, "_chunks", stopped)
    folder = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        search(folder, **options)
    assert {path.name for path in folder.iterdir()} == {"parts", "results.csv"}
    assert [path.suffix for path in (folder / "parts").iterdir()] == [".npz"]
    monkeypatch.setattr(Engines, "_chunks", chunks)
    assert search(folder, **options).table == expected.table
    assert (folder / "results.csv").read_bytes() == (tmp_path / "whole" / "results.csv").read_bytes()
    with pytest.raises(InputError, match=r"holds other runs \(.*steps=16, here 8"):
        search(folder, steps="2ep", **options)


def test_a_race_and_a_search_share_no_folder(tmp_path):
    given = {"seeds": 2, "epochs": 1, "optimizer": partial(torch.optim.SGD, lr=0.1)}
    race = partial(compare, MLP, DATA, {"Linear": Linear()}, lrs=[0.1], **given)
    race(folder=tmp_path / "race")
    with pytest.raises(InputError, match=r"race holds other runs \(steps=those of a race, here 4\)"):
        search(tmp_path / "race", schedule=Linear(), lrs=(0.01, 0.1), **given)
    search(tmp_path / "search", schedule=Linear(), lrs=(0.01, 0.1), **given)
    with pytest.raises(InputError, match=r"search holds other runs \(steps=4, here those of a race\)"):
        race(folder=tmp_path / "search")


def test_runs_are_kept_where_the_trainer_keeps_its_logs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"seeds": 2, "epochs": 1, "lrs": (0.01, 0.1)}
    for root, expected in ((tmp_path, Path("lightning_logs")), (tmp_path.parent, tmp_path.parent / "lightning_logs")):
        given["trainer"] = Trainer(default_root_dir=root, accelerator="cpu", logger=False)
        assert compare(MLP, DATA, {"linear": Linear()}, **given).folder.parent == expected
        assert search(None, points=5, **given).folder.parent == expected
    assert len(list(Path("lightning_logs").iterdir())) == 2


class NotANumber(MLP):
    def validation_step(self, batch, batch_idx):
        self.log("val_loss", torch.tensor(float("nan")))


class Ranger(torch.optim.SGD):
    """Has a schedule of its own, as Ranger21 of pytorch_optimizer does."""

    disable_lr_scheduler = False


class Ranging(MLP):
    def configure_optimizers(self):
        return Ranger(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"lrs": (0.1, 0.01)}, "no range of rates"),
        ({"lrs": (0.0, 1.0)}, "no range of rates"),
        ({"lrs": 0.1}, "no range of rates"),
        ({"points": 4}, "points=4 has to be a whole number of at least 5"),
        ({"seeds": 1}, "cannot tell a rate from luck"),
        ({"seeds": [3, 3]}, "cannot tell a rate from luck"),
        ({"seeds": [3, 2**32]}, "seeds: 4294967296 is no seed: give whole numbers from 0 to 4294967295"),
        ({"model": NotANumber}, "val_loss is nan in the untrained module: look at how the module computes it"),
        ({"epochs": 0}, "epochs=0"),
        ({"steps": "100"}, "has no unit"),
        ({"steps": "17st"}, "steps='17st' is more than the whole run of 16"),
        ({"ray_cpus": 2}, "says nothing without ray"),
        ({"engine": "vectorised"}, r"engine='vectorised' is unknown \(did you mean 'vectorized'\?\)"),
        ({"model": GAN}, "GAN optimizes by hand"),
        ({"model": Several}, "several optimizers"),
        ({"model": NoOptimizer}, "no optimizer"),
        ({"model": Ranging}, "Ranger has a schedule of its own"),
        ({"optimizer": partial(Ranger, lr=0.1)}, "Ranger has a schedule of its own"),
        ({"schedule": partial(OneCycleLR, max_lr=0.1, total_steps=16)}, "sets rates of its own, whatever"),
        ({"model": Decayed, "groups": {"momentum": Linear()}}, "groups go with a schedule that is given"),
        ({"model": Branching, "engine": "vectorized"}, "cannot be vectorized"),
        ({"trainer": Trainer(max_steps=2, accelerator="cpu", logger=False)}, "max_steps"),
        ({"lrs": (1e9, 1e12), "optimizer": partial(torch.optim.SGD, lr=0.1)}, "diverged at the lowest rate tried, 1e"),
    ],
)
def test_mistakes(tmp_path, options, told):
    with pytest.raises(InputError, match=told) as refused:
        search(tmp_path / "found", **options)
    assert "\n" not in str(refused.value)


class Stream(IterableDataset):
    """Rows of ten, one after another; nobody knows how many."""

    def __iter__(self):
        generator = torch.Generator().manual_seed(0)
        for _ in range(50):
            x = torch.randn(10, generator=generator)
            yield x, (x[:1] > 0).float()


class Streamed(Data):
    def train_dataloader(self):
        return DataLoader(Stream(), batch_size=10)


@pytest.mark.parametrize(("steps", "taken", "schedule"), [(None, 8, "warmed-up constant"), ("12st", 12, "constant")])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_data_without_a_length_are_searched_by_steps(tmp_path, monkeypatch, caplog, steps, taken, schedule, accumulate):
    caplog.set_level("INFO", logger="lightning.pytorch")
    for module in (engines, subject):
        monkeypatch.setattr(module, "SHORT", 8)
    lengths = []
    monkeypatch.setattr(engines, "check_rates", lambda grid, key, used, horizon: lengths.append((len(used), grid)))
    trainer = Trainer(accumulate_grad_batches=accumulate, accelerator="cpu", logger=False)
    found = search(tmp_path, data=Streamed, steps=steps, lrs=(1e-4, 0.1), points=5, trainer=trainer)
    assert found.outcome.judged_by == "val_loss"
    assert {length for length, _ in lengths} == {taken}
    assert {name for _, grid in lengths for name in grid.schedules} == {schedule}
    said = " ".join(caplog.messages)
    assert f"One Trainer.fit a run of {taken} steps, since its training data has no length." in said
    assert ("steps, like '80st', trains so long under the schedule" in said) == (steps is None)


def test_a_limit_gives_data_a_length(tmp_path, caplog):
    caplog.set_level("INFO", logger="lightning.pytorch")
    trainer = Trainer(limit_train_batches=3, accelerator="cpu", logger=False)
    found = search(tmp_path, data=Streamed, steps="50%", lrs=(1e-4, 0.1), points=5, trainer=trainer)
    assert found.outcome.judged_by == "val_loss"
    assert "In each run limit_train_batches=3. One Trainer.fit a run of 2 epochs" in " ".join(caplog.messages)


@pytest.mark.parametrize("steps", ["10%", "2ep"])
def test_of_data_without_a_length_there_is_no_share(tmp_path, steps):
    with pytest.raises(InputError, match=f"steps='{steps}' is a share of a length, .*: give a number of steps, like"):
        search(tmp_path, data=Streamed, steps=steps)


def test_a_run_that_ends_within_an_epoch_needs_no_validation(tmp_path):
    class TrainingAlone(Data):
        val_dataloader = LightningDataModule.val_dataloader

    found = search(tmp_path, data=TrainingAlone, engine="sequential", steps="3st", lrs=(1e-4, 0.1), points=5)
    assert found.outcome.judged_by == TRAINING_LOSS


class Contrary(MLP):
    """Begins without an opinion, and is validated on the opposite of what it trains."""

    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.network[-1].weight)
        nn.init.zeros_(self.network[-1].bias)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        super().validation_step((x, 1 - y), batch_idx)


def test_where_training_gains_nothing_no_rate_is_named(tmp_path):
    told = r"no rate from 1e-05 to 0\.1 brings val_loss below the untrained module's, 0\.6931, within 16 steps: train"
    with pytest.raises(InputError, match=told):
        search(tmp_path, model=Contrary, lrs=(1e-5, 0.1))


def test_a_metric_may_have_brackets(found):
    text = io.StringIO()
    show(found.table, found.judgement, "val_loss[/all]", None, text)
    assert "val_loss[/all]" in text.getvalue().splitlines()[0]


def test_numbers_of_numpy_will_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = search(None, lrs=np.array([2**-8, 2**-4], np.float32), seeds=np.arange(2), points=5, epochs=1)
    assert found.folder == search(None, lrs=(2**-8, 2**-4), seeds=2, points=5, epochs=1).folder


def test_what_is_exported(found, tmp_path):
    found.export(tmp_path / "peak.yaml", {"data": {"class_path": "tests.foreign.Data"}})
    text = (tmp_path / "peak.yaml").read_text()
    assert text.startswith(f"# {found.verdict}")
    assert yaml.safe_load(text) == {
        "data": {"class_path": "tests.foreign.Data"},
        "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": found.lr}},
        "trainer": {"max_epochs": 8},
    }


class OfAnArgument(Decayed):
    """Its rate is an argument, and its schedule its own."""

    def __init__(self, lr: float = 0.02) -> None:
        super().__init__(hidden=4)
        self.lr = lr

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]


class TwoRates(Decayed):
    """Its param groups have an argument each; another is equal to a rate and sets none."""

    def __init__(self, unused_lr: float = 0.02, lr: float = 0.02, optim: dict = {"head_lr": 0.1}) -> None:  # noqa: B006
        super().__init__(hidden=4)
        self.rates = lr, optim["head_lr"]

    def configure_optimizers(self):
        first, last = self.network[0].parameters(), self.network[-1].parameters()
        groups = [{"params": first}, {"params": last, "lr": self.rates[1]}]
        optimizer = torch.optim.SGD(groups, lr=self.rates[0])
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10, eta_min=1e-6)]


class OneOfTwo(TwoRates):
    """Gives one of its groups a rate that no argument changes."""

    def __init__(self, lr: float = 0.02) -> None:
        super().__init__(lr=lr)


QUICK = ["--trainer.max_epochs=2", "--points=5", "--seeds=2", "--lrs=0.001,0.1"]
OF_FOREIGN = ["--data", "tests.foreign.Data", "--data.rows=64", "--data.batch_size=16"]


def test_the_command(command):
    written = ["--export=peak.yaml", "--csv=rates.csv", "--png=rates.png"]
    assert command("find", *QUICK, *written, "--optimizer=Adam", "--lr_scheduler=Cosine") == 0, command.err
    assert "10 trainings: 5 rates x 2 seeds, from 0.001 to 0.1." in command.out
    assert "own Adam, rate 0.001; schedule: IonosphereClassifier's own Cosine." in " ".join(command.out.split())
    assert max(map(len, command.out.splitlines())) <= 100
    assert Path("rates.png").read_bytes().startswith(b"\x89PNG")
    assert len(Path("rates.csv").read_text().splitlines()) == 6
    peak = yaml.safe_load(Path("peak.yaml").read_text())
    assert peak["optimizer"]["class_path"] == "torch.optim.Adam"
    assert command("fit", "--config=peak.yaml", "--trainer.max_epochs=1") == 0, command.err
    config = yaml.safe_load((run_folder() / "config.yaml").read_text())
    assert config["model"]["init_args"]["optimizer"]["init_args"]["lr"] == peak["optimizer"]["init_args"]["lr"]
    assert config["model"]["init_args"]["lr_scheduler"]["class_path"] == "lit_lrsched.Cosine"


def test_what_is_found_for_another_optimizer_is_what_fit_trains(command, caplog):
    caplog.set_level("INFO", logger="lightning.pytorch")
    model = ["--model=tests.foreign.Grouped", *OF_FOREIGN, "--optimizer=SGD", "--optimizer.lr=0.4"]
    assert command("find", *model, *QUICK, "--lr_scheduler=Constant", "--export=peak.yaml", "--json") == 0, command.err
    found = json.loads(command.out)["lr"]
    said = " ".join(f"{command.err} {caplog.text}".split())
    assert said.count("takes the place of Grouped.configure_optimizers") == 1
    assert command("fit", "--config=peak.yaml", "--trainer.max_epochs=1", "--trainer.log_every_n_steps=1") == 0
    assert scalars(run_folder(), "lr/first") == pytest.approx([found])
    assert scalars(run_folder(), "lr/last") == pytest.approx([4 * found])


ONE_OF_TWO = ["--model=tests.search.test_find.OneOfTwo"]
TWO_RATES = ["--model=tests.search.test_find.TwoRates"]


def test_all_arguments_that_set_a_rate_are_exported(command):
    assert command("find", *TWO_RATES, *OF_FOREIGN, *QUICK, "--export=peak.yaml", "--json") == 0, command.err
    found = json.loads(command.out)["lr"]
    assert found != 0.02
    arguments = yaml.safe_load(Path("peak.yaml").read_text())["model"]["init_args"]
    assert arguments.pop("unused_lr") == 0.02
    assert arguments == {"lr": pytest.approx(found), "optim": {"head_lr": pytest.approx(5 * found)}}
    assert command("fit", "--config=peak.yaml", "--trainer.max_epochs=1", "--trainer.log_every_n_steps=1") == 0
    assert scalars(run_folder(), "lr/group0")[0] == pytest.approx(found)
    assert scalars(run_folder(), "lr/group1")[0] == pytest.approx(5 * found)


def test_all_arguments_that_set_a_rate_are_exported_in_python(tmp_path, monkeypatch):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    # What fit refuses without a schedule is left out.
    found = search(tmp_path, TwoRates, lrs=(1e-3, 0.1), points=5, interval="epoch", monitor="val_loss")
    model = {"class_path": "tests.search.test_find.TwoRates", "init_args": {"lr": 0.02, "optim": {"head_lr": 0.1}}}
    found.export(tmp_path / "peak.yaml", {"model": model})
    peak = yaml.safe_load((tmp_path / "peak.yaml").read_text())
    assert peak.keys() == {"model", "trainer"}
    arguments = peak["model"]["init_args"]
    assert arguments == {"lr": pytest.approx(found.lr), "optim": {"head_lr": pytest.approx(5 * found.lr)}}
    assert model["init_args"]["lr"] == 0.02
    assert "PL_GLOBAL_SEED" not in os.environ
    with pytest.raises(InputError, match=r"config does not say how it is made, .*: give config=\{'model': "):
        found.export(tmp_path / "none.yaml")


def test_schedules_of_groups_alone_are_exported_with_the_constant_one_beside_them(tmp_path):
    found = search(tmp_path, lrs=(1e-3, 0.1), points=5, groups={"weight_decay": Linear()}, optimizer=AdamW)
    found.export(tmp_path / "peak.yaml")
    peak = yaml.safe_load((tmp_path / "peak.yaml").read_text())
    assert peak["lr_scheduler"] == {"class_path": "lit_lrsched.Constant", "init_args": {"factor": 1.0}}
    assert peak["lr_groups"].keys() == {"weight_decay"}


def test_the_command_on_a_module_with_a_schedule_of_its_own(command):
    model = ["--model=tests.search.test_find.OfAnArgument"]
    assert command("find", *model, *OF_FOREIGN, *QUICK, "--export=peak.yaml") == 0, command.err
    assert "schedule: OfAnArgument's own ExponentialLR" in " ".join(command.out.split())
    peak = yaml.safe_load(Path("peak.yaml").read_text())
    assert "optimizer" not in peak
    assert peak["model"]["init_args"]["lr"] != 0.02
    assert command("fit", "--config=peak.yaml", "--trainer.max_epochs=1", "--trainer.log_every_n_steps=1") == 0
    grouped = ["--model=tests.foreign.Grouped", *OF_FOREIGN, *QUICK, "--export=no.yaml"]
    assert command("find", *grouped) == 2
    assert "Grouped sets the rate 0.001 and a schedule of its own in configure_optimizers" in command.err
    assert command("find", *ONE_OF_TWO, *OF_FOREIGN, *QUICK, "--export=no.yaml") == 2
    assert "OneOfTwo sets the rate 0.02 and a schedule of its own in configure_optimizers, and lr does" in command.err
    assert not Path("no.yaml").exists()
    assert len(list(Path("lightning_logs").glob("find-*"))) == 1  # refused before it trained


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--lrs=0.1"], "no range of rates"),
        (["--steps=100"], "write '100ep'"),
        (["--export=no/such/folder/peak.yaml"], "there is no folder no/such/folder"),
        (["--csv=."], "csv='.' cannot be written: it is a folder"),
        (["--png=find.jpg"], "png='find.jpg' cannot be written: a picture ends in .png, .pdf or .svg"),
        (["--trainer.val_check_interval=0.5"], "a search does not honour the trainer's val_check_interval=0.5"),
        (["--model=tests.foreign.GAN", *OF_FOREIGN], "optimizes by hand"),
    ],
)
def test_mistakes_on_the_command_line(command, arguments, told):
    assert command("find", *QUICK, *arguments) == 2
    assert told in command.err
    assert command.err.count("\n") == 1
    assert not Path("lightning_logs").exists()


class Diabetes(LightningDataModule):
    """Ten measures of 442 patients and how their illness went on, split by the seed."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        x, y = pytest.importorskip("sklearn.datasets").load_diabetes(return_X_y=True, scaled=True)
        rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        x, y = torch.tensor(x, dtype=torch.float32) * len(x) ** 0.5, torch.tensor(y, dtype=torch.float32)
        y = ((y - y.mean()) / y.std())[:, None]
        self.parts = [TensorDataset(x[part], y[part]) for part in torch.split(rows, [242, 100, 100])]

    def train_dataloader(self):
        return DataLoader(self.parts[0], 32, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.parts[1], 100)

    def test_dataloader(self):
        return DataLoader(self.parts[2], 100)


class Regression(MLP):
    def step(self, stage, batch):
        loss = nn.functional.mse_loss(self.network(batch[0]), batch[1])
        self.log(f"{stage}_loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def test_the_rate_found_does_as_well_as_any_on_rows_and_seeds_that_it_has_not_seen(tmp_path):
    model = partial(Regression, 10, 16)
    found = search(tmp_path, model, Diabetes, epochs=10, points=14, seeds=4)
    rates, seeds = [found.lr, *spread(1e-3, 1.0, 13).tolist()], range(50, 60)
    race = VectorizedRace(
        build_from(model, Diabetes),
        [Training(seed, np.full(80, rate)) for rate in rates for seed in seeds],  # eight steps an epoch
        optimizer=partial(torch.optim.SGD, lr=0.01),
        epochs=10,
    )
    losses = np.zeros(len(rates) * len(seeds))
    for chunk in race:
        losses[chunk.runs] = chunk.final["test_loss"]
    at_found, *dense = losses.reshape(len(rates), len(seeds)).mean(axis=1)
    assert at_found <= 1.05 * np.nanmin(dense)
    assert np.nanmax(dense) > 1.5 * np.nanmin(dense)  # so it matters which
