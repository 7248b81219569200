"""A command of another project: a ``ScheduleCLI`` in the place of its ``LightningCLI``."""

from __future__ import annotations

import os
import signal
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.loggers import CSVLogger

from lit_lrsched import InputError, Linear, ScheduleCLI
from lit_lrsched.cli.typed import program
from tests.foreign import MLP, Data

QUIET = {"max_epochs": 2, "log_every_n_steps": 1, "enable_progress_bar": False, "enable_model_summary": False}


class Interrupted(MLP):
    number = signal.SIGINT

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if batch_idx == 1:
            os.kill(os.getpid(), self.number)


class Terminated(Interrupted):
    number = signal.SIGTERM


@pytest.fixture
def own(in_tmp, monkeypatch):
    """Runs ``python train.py``, whose model is given."""
    before = signal.getsignal(signal.SIGINT)

    def run(model, *arguments, kind=ScheduleCLI, **options):
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        return kind(model, Data, **{"trainer_defaults": QUIET, "seed_everything_default": 1, **options})

    yield run
    signal.signal(signal.SIGINT, before)


def test_what_to_type_next_is_for_this_command(own, capfd):
    own(MLP, "find", "--points=5", "--seeds=2", "--export=found rate.yaml")
    assert "To train: python train.py fit --config 'found rate.yaml'\n" in capfd.readouterr().out
    own(MLP, "fit", "--config=found rate.yaml")


def test_a_command_of_a_package_is_typed_as_a_module(monkeypatch):
    for name, path in {"project.train": "/project/train.py", "project.__main__": "/project/__main__.py"}.items():
        monkeypatch.setattr(sys.modules["__main__"], "__spec__", ModuleSpec(name, None, origin=path))
        assert program(path) == ["python", "-m", name.removesuffix(".__main__")]
        assert program("train.py") == ["python", "train.py"]


def test_what_is_exported_keeps_the_rest_of_the_configuration(own):
    stopping = "{class_path: lightning.pytorch.callbacks.EarlyStopping, init_args: {monitor: val_loss, patience: 9}}"
    Path("project.yaml").write_text(f"seed_everything: 3\ntrainer: {{callbacks: [{stopping}]}}\npoints: 5\nseeds: 2\n")
    own(MLP, "find", "--config=project.yaml", "--export=peak.yaml", "--optimizer=SGD", "--optimizer.lr=0.1")
    exported = yaml.safe_load(Path("peak.yaml").read_text())
    assert set(exported) == {"seed_everything", "trainer", "model", "data", "optimizer"}
    assert exported["seed_everything"] == 3
    fitted = own(MLP, "fit", "--config=peak.yaml").trainer
    assert [one.patience for one in fitted.callbacks if isinstance(one, EarlyStopping)] == [9]


ACTIVATION = torch.nn.ReLU()


class OfInstances(MLP):
    def __init__(self, activation: torch.nn.Module = ACTIVATION, hidden: int = 4) -> None:
        super().__init__()


def test_what_no_text_says_stays_the_default(own):
    search = ["find", "--points=5", "--seeds=2", "--model.hidden=5", "--export=peak.yaml"]
    own(OfInstances, *search)
    assert yaml.safe_load(Path("peak.yaml").read_text())["model"] == {"hidden": 5}
    (folder,) = Path("lightning_logs").glob("find-*")
    own(OfInstances, *search)
    assert [*Path("lightning_logs").glob("find-*")] == [folder]  # the same search, wherever the instance lies
    own(OfInstances, "fit", "--config=peak.yaml", "--run_name=first")
    saved = Path("lightning_logs/first/config.yaml")
    assert saved.read_text().startswith("# lightning")
    assert yaml.safe_load(saved.read_text())["model"] == {"hidden": 5}
    own(OfInstances, "fit", f"--config={saved}", "--run_name=second")


class Required(MLP):
    def __init__(self, classes: int) -> None:
        super().__init__()


@pytest.mark.parametrize(
    ("model", "subclasses", "told"),
    [
        (MLP, True, "the command needs data, model: add --data VALUE --model VALUE"),
        (Required, False, "the command needs model.classes: add --model.classes VALUE"),
    ],
)
def test_what_a_command_needs(own, capfd, model, subclasses, told):
    with pytest.raises(SystemExit) as ended:
        own(model, "fit", subclass_mode_model=subclasses, subclass_mode_data=subclasses)
    assert ended.value.code == 2
    assert capfd.readouterr().err == f"error: {told}\n"


def test_a_horizon_by_hand_is_for_the_command_that_comes_with_the_package(own, capfd):
    with pytest.raises(SystemExit):
        own(MLP, "preview", "--epochs=5", "--steps_per_epoch=3")
    assert "are for lit-lrsched preview, typed both: give both there, or none" in capfd.readouterr().err


class AddsOptimizer(ScheduleCLI):
    def add_arguments_to_parser(self, parser) -> None:
        parser.add_optimizer_args(torch.optim.SGD)


class AddsScheduler(ScheduleCLI):
    def add_arguments_to_parser(self, parser) -> None:
        parser.add_lr_scheduler_args(torch.optim.lr_scheduler.ExponentialLR)


class AddsAnother(ScheduleCLI):
    def add_arguments_to_parser(self, parser) -> None:
        parser.add_optimizer_args(torch.optim.SGD, nested_key="critic")


class Configures(ScheduleCLI):
    @staticmethod
    def configure_optimizers(lightning_module, optimizer, lr_scheduler=None):
        return optimizer


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (AddsAnother, "--critic would not be used: give link_to, "),
        (Configures, "Configures.configure_optimizers would not be called: leave it out; --lr_interval and"),
    ],
)
def test_what_would_be_without_effect_is_refused(kind, told):
    with pytest.raises(InputError) as refused:
        kind(MLP, Data, args=["fit"])
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        (AddsOptimizer, {}, "--optimizer is there already: leave out add_optimizer_args and"),
        (AddsScheduler, {}, "--lr_scheduler is there already: leave out add_lr_scheduler_args and"),
        (ScheduleCLI, {"auto_configure_optimizers": True}, "and auto_configure_optimizers=True, and give a default by"),
    ],
)
def test_options_that_are_there_already_are_not_added_again(kind, options, told):
    with pytest.raises(InputError) as refused:
        kind(MLP, Data, args=["fit"], **options)
    assert told in str(refused.value)


@pytest.mark.parametrize(("model", "status"), [(Interrupted, 130), (Terminated, 143)])
def test_an_interrupted_run_ends_with_the_command_that_goes_on(own, capfd, model, status):
    with pytest.raises(SystemExit) as ended:
        own(model, "fit", "--lr_scheduler=Cosine")
    assert ended.value.code == status
    out = capfd.readouterr().out
    assert "To go on:\n  python train.py fit --config lightning_logs/Cosine/config.yaml --ckpt_path " in out


class SavesItsSeed(Data):
    """Splits its rows by the seed that ``save_hyperparameters`` saved."""

    seeds: ClassVar[set[int]] = set()

    def __init__(self, rows: int = 64, seed: int = 7) -> None:
        super().__init__(rows=rows, seed=seed)
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        self.seeds.add(self.hparams.seed)
        super().setup(stage)


def test_every_seed_splits_the_data_of_a_module_that_saves_its_arguments(command, monkeypatch):
    monkeypatch.setattr(SavesItsSeed, "seeds", set())
    options = ["--lrs=[0.01]", "--seeds=[3,4]", "--trainer.max_epochs=1", "--schedules=[Linear]", "--export=best.yaml"]
    assert command("compare", "--model=tests.foreign.MLP", f"--data={__name__}.SavesItsSeed", *options) == 0
    assert {3, 4} <= SavesItsSeed.seeds
    assert yaml.safe_load(Path("best.yaml").read_text())["data"]["init_args"]["seed"] == 7


class Hooked(ScheduleCLI):
    """Fills a hook of LightningCLI's that is empty there, and gives the trainer more."""

    def before_instantiate_classes(self) -> None:
        self.options_of(self.config).lr_scheduler.init_args.end = 0.5

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        return super().instantiate_trainer(callbacks=Timer(), logger=CSVLogger("logs"), **kwargs)


def test_what_a_subclass_overrides_counts(own, in_tmp):
    trainer = own(MLP, "fit", "--lr_scheduler=Linear", kind=Hooked).trainer
    assert trainer.lr_scheduler_configs[0].scheduler.schedule == Linear(end=0.5)
    assert isinstance(trainer.logger, CSVLogger)
    assert any(isinstance(callback, Timer) for callback in trainer.callbacks)
    assert (in_tmp / "logs/lightning_logs/version_0/receipt.txt").read_text().startswith("learning rate followed")


def test_the_defaults_of_fit_are_those_of_what_asks_about_a_fit(own, capfd):
    Path("mine.yaml").write_text("lr_scheduler: {class_path: Constant, init_args: {factor: 0.123}}\n")
    own(MLP, "preview", "--png=null", parser_kwargs={"fit": {"default_config_files": ["mine.yaml"]}})
    assert "0.000123" in capfd.readouterr().out


def test_a_configuration_is_read_from_a_pipe(own):
    reading, writing = os.pipe()
    os.write(writing, b"lr_scheduler: {class_path: Linear, init_args: {end: 0.5}}\n")
    os.close(writing)
    cli = own(MLP, "fit", f"--config=/dev/fd/{reading}")
    assert cli.trainer.lr_scheduler_configs[0].scheduler.schedule == Linear(end=0.5)


def bare_trainer(max_epochs: int = 2, callbacks: list[Callback] | None = None) -> Trainer:
    return Trainer(max_epochs=max_epochs, callbacks=callbacks, logger=False, enable_checkpointing=False)


def deaf_trainer(max_epochs: int = 2) -> Trainer:
    return Trainer(max_epochs=max_epochs)


def test_a_function_makes_the_trainer_and_takes_what_it_likes(own, capfd):
    def run(*arguments, trainer_class=bare_trainer):
        return own(MLP, *arguments, "--lr_scheduler=Linear", trainer_class=trainer_class, trainer_defaults={})

    run("preview", "--png=null")
    run("fit")
    assert "learning rate followed the plan" in capfd.readouterr().out
    for arguments, told in [
        (["fit", "--run_name=mine"], "run_name='mine' "),
        (["fit"], "trainer_class takes no callbacks, so it can have no schedule: give it that parameter"),
    ]:
        with pytest.raises(SystemExit):
            run(*arguments, trainer_class=bare_trainer if "mine" in told else deaf_trainer)
        assert told in capfd.readouterr().err
