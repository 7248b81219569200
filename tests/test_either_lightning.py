"""Modules and data made with ``pytorch_lightning`` do as well as those of ``lightning.pytorch``."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from textwrap import dedent
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split
from torchmetrics import Accuracy

from lit_lrsched.cli.model_first import import_model
from tests.training import run_script

MODEL = """
from pytorch_lightning.demos.boring_classes import BoringDataModule, BoringModel


class Model(BoringModel):
    pass
"""


def made_with(lightning: Any) -> tuple[type, type]:
    """Returns a module and data as people write them: with hooks, setup, param groups, metrics and a scheduler."""

    class Net(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.save_hyperparameters()
            self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU())
            self.accuracy = Accuracy(task="binary")

        def setup(self, stage):
            if stage == "fit":
                self.head = nn.Linear(8, 1)
                self.steps = self.trainer.estimated_stepping_batches

        def loss(self, batch):
            x, y = batch
            logits = self.head(self.body(x)).squeeze(1)
            self.accuracy.update(logits, y.long())
            return nn.functional.binary_cross_entropy_with_logits(logits, y)

        def training_step(self, batch, batch_idx):
            return self.loss(batch) * (1 + 0.01 * self.current_epoch)

        def on_train_epoch_end(self):
            self.log("train_acc", self.accuracy.compute())
            self.accuracy.reset()

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.loss(batch))

        def on_validation_epoch_end(self):
            self.log("val_acc", self.accuracy.compute())
            self.accuracy.reset()

        def test_step(self, batch, batch_idx):
            self.log("test_loss", self.loss(batch))
            self.log("test_acc", self.accuracy)

        def configure_callbacks(self):
            return lightning.callbacks.EarlyStopping("val_loss")

        def configure_optimizers(self):
            groups = [{"params": self.body.parameters()}, {"params": self.head.parameters(), "lr": 0.02}]
            optimizer = torch.optim.AdamW(groups, lr=0.01)
            scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, [0.05, 0.1], total_steps=self.steps)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    class Data(lightning.LightningDataModule):
        def __init__(self, seed=0):
            super().__init__()
            self.save_hyperparameters()

        def setup(self, stage):
            assert self.trainer.max_epochs
            x = torch.randn(90, 6, generator=torch.Generator().manual_seed(1))
            whole = TensorDataset(x, (x[:, 0] * x[:, 1] > 0).float())
            self.parts = random_split(whole, [60, 15, 15], torch.Generator().manual_seed(self.hparams.seed))

        def train_dataloader(self):
            return DataLoader(self.parts[0], 16, shuffle=True)

        def val_dataloader(self):
            return DataLoader(self.parts[1], 16)

        def test_dataloader(self):
            return DataLoader(self.parts[2], 16)

    return Net, Data


def script(text: str) -> str:
    names = "from torch import nn\nfrom torch.utils.data import DataLoader, TensorDataset, random_split\n"
    imports = f"import torch\n{names}from torchmetrics import Accuracy\nfrom typing import Any\n"
    return imports + inspect.getsource(made_with) + dedent(text)


def test_races_and_searches_of_either_come_to_the_same(in_tmp):
    text = """
        import lightning.pytorch
        import pytorch_lightning
        from lit_lrsched import Constant, InputError, ScheduleCLI, compare, find_lr

        packages = {"new": lightning.pytorch, "old": pytorch_lightning}
        for name, package in packages.items():
            model, data = made_with(package)
            for engine in ("vectorized", "sequential"):
                given = {"epochs": 2, "seeds": 2, "engine": engine}
                quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
                trainer = package.Trainer(accelerator="cpu", gradient_clip_val=1.0, **quiet)
                schedules = {"constant": Constant()}
                compare(model, data, schedules, lrs=[0.01, 0.1], trainer=trainer, folder=f"{name} {engine}", **given)
            find_lr(model, data(), lrs=(0.01, 0.1), points=5, epochs=2, seeds=2, folder=f"{name} find")

        for one, other in (packages.values(), reversed(packages.values())):
            try:
                compare(made_with(one)[0], made_with(other)[1], {"constant": Constant()})
            except InputError as error:
                print(error)

        from mine import Model
        for given in ({"args": ["fit", "--model", "mine.Model"]}, {"model_class": Model, "args": ["fit"]}):
            try:
                ScheduleCLI(**given)
            except (InputError, SystemExit) as error:
                print(error)
        """
    (in_tmp / "mine.py").write_text(MODEL)
    said = run_script(script(text), in_tmp)
    for folder, lines in {"vectorized": 9, "sequential": 9, "find": 13}.items():
        found = [(in_tmp / f"{name} {folder}" / "results.csv").read_bytes() for name in ("new", "old")]
        assert found[0] == found[1]
        assert found[0].count(b"\n") == lines, found[0]
    assert said.count("Net's own EarlyStopping is left out.") == 6
    assert "Net is made with lightning.pytorch and Data with pytorch_lightning, and no trainer takes both" in said
    assert "Net is made with pytorch_lightning and Data with lightning.pytorch, and no trainer takes both" in said
    told = "it is made with pytorch_lightning, and lightning.pytorch is at work here: import pytorch_lightning alone,"
    assert f"model: 'mine.Model' does not fit: {told} and before lit_lrsched\n" in said
    assert f"Model: {told} and before lit_lrsched\n" in said


def test_where_only_the_older_name_is_in_use_the_other_is_not_loaded(in_tmp):
    text = """
        import sys

        import pytorch_lightning
        from lit_lrsched import Constant, CSVDataModule, IonosphereDataModule, compare

        model, data = made_with(pytorch_lightning)
        compare(model, data, {"constant": Constant()}, lrs=[0.1], seeds=2, epochs=1, folder="race")
        assert isinstance(IonosphereDataModule(), pytorch_lightning.LightningDataModule)
        assert "lightning.pytorch" not in sys.modules
        """
    run_script(script(text), in_tmp)
    assert (in_tmp / "race" / "report.html").exists()


def test_the_command_works_with_the_lightning_that_the_model_is_made_with(in_tmp):
    (in_tmp / "mine.py").write_text(MODEL)
    given = ["--model", "mine.Model", "--data", "mine.BoringDataModule", "--trainer.max_epochs", "1"]
    callback = ["--trainer.callbacks+", "ModelSummary", "--trainer.callbacks.max_depth", "2"]
    command = [sys.executable, "-m", "lit_lrsched", "fit", *given, *callback, "--lr_scheduler", "Cosine"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "learning rate followed the plan (64 of 64 steps)" in done.stdout + done.stderr
    assert "LeafSpec" not in done.stderr
    assert "GPU available" not in done.stderr
    (config,) = in_tmp.glob("lightning_logs/*/config.yaml")
    text = config.read_text()
    assert text.startswith("# pytorch_lightning==")
    assert "class_path: pytorch_lightning.callbacks.ModelSummary" in text


@pytest.mark.parametrize(
    "typed",
    [
        ["fit", "--model", "some_model.Net"],
        ["compare", "--model=some_model.Net"],
        ["fit", "--config", "plain.yaml"],
        ["fit", "--config=plain.yaml"],
        ["-c", "of_fit.yaml"],
    ],
)
def test_the_module_of_the_model_is_imported_first(in_tmp, monkeypatch, typed):
    (in_tmp / "some_model.py").write_text("")
    (in_tmp / "plain.yaml").write_text("model: some_model.Net")
    (in_tmp / "of_fit.yaml").write_text("fit: {model: {class_path: some_model.Net}, seed_everything: 1}")
    monkeypatch.syspath_prepend(in_tmp)
    monkeypatch.delitem(sys.modules, "some_model", raising=False)
    import_model(typed)
    assert "some_model" in sys.modules


@pytest.mark.parametrize(
    "typed",
    [
        ["fit", "--model", "broken.Net"],
        ["fit", "--model", "nowhere.Net"],
        ["fit", "--model"],
        ["fit", "--model", "IonosphereClassifier"],
        ["fit", "--config", "nowhere.yaml"],
        ["fit", "--config", "broken.py"],
        ["fit", "-c", "list.yaml"],
    ],
)
def test_what_is_wrong_with_it_is_left_for_the_parser_to_tell(in_tmp, monkeypatch, typed):
    (in_tmp / "broken.py").write_text("raise RuntimeError(]")
    (in_tmp / "list.yaml").write_text("[1, 2]")
    monkeypatch.syspath_prepend(in_tmp)
    import_model(typed)


def test_a_configuration_from_a_pipe_is_left_for_the_parser_to_read():
    reading, writing = os.pipe()
    os.write(writing, b"model: nowhere.Net")
    os.close(writing)
    import_model(["fit", "--config", f"/dev/fd/{reading}"])
    assert os.read(reading, 100) == b"model: nowhere.Net"
    os.close(reading)
