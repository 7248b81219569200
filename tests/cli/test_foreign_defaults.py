"""Classes from outside get their own defaults and what was given, through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from tests.reading import run_folder

MODEL, DATA = ["--model", "tests.foreign.MLP"], ["--data", "tests.foreign.Data"]
SHORT = ["--trainer.max_epochs=1", "--trainer.log_every_n_steps=1", "--trainer.enable_progress_bar=false"]
OWN_MODEL = {"in_features": 10, "hidden": 128, "depth": 1}
OWN_DATA = {"batch_size": 64, "seed": 1234, "num_workers": 0, "standardize": True, "rows": 128}


@pytest.fixture(autouse=True)
def _listening(caplog):
    caplog.set_level("INFO", logger="lightning.pytorch")


def saved(key: str, number: int = 0) -> dict:
    return yaml.safe_load((run_folder(number) / "config.yaml").read_text())[key]["init_args"]


def built(number: int = 0) -> tuple[dict, dict]:
    """What model and data were really built with, as the checkpoint has it."""
    checkpoint = torch.load(run_folder(number) / "checkpoints" / "last.ckpt", weights_only=True)
    parts = (checkpoint["hyper_parameters"], checkpoint["datamodule_hyper_parameters"])
    model, data = ({name: value for name, value in part.items() if name[0] != "_"} for part in parts)
    return model, data


def test_foreign_classes_get_their_own_defaults(command):
    assert command("fit", *MODEL, *DATA, *SHORT) == 0
    assert built() == (OWN_MODEL, OWN_DATA)
    assert (saved("model"), saved("data")) == (OWN_MODEL, OWN_DATA)


def test_foreign_classes_in_a_configuration_get_what_it_gives(command):
    Path("mine.yaml").write_text(
        "model: {class_path: tests.foreign.MLP, init_args: {depth: 2}}\n"
        "data:\n  class_path: tests.foreign.Data\n  init_args: {rows: 64}\n"
    )
    assert command("fit", "--config=mine.yaml", "--model.hidden=5", *SHORT) == 0
    assert built() == ({**OWN_MODEL, "depth": 2, "hidden": 5}, {**OWN_DATA, "rows": 64})
    assert command("fit", "--config", str(run_folder() / "config.yaml")) == 0
    assert built(1) == built()


@pytest.mark.parametrize(
    "typed", [["--model.hidden=34", *MODEL], [*MODEL, "--model.hidden=34"]], ids=["before", "after"]
)
def test_what_is_typed_counts_wherever_it_stands(command, typed):
    assert command("fit", *typed, *DATA, "--data.batch_size=24", *SHORT) == 0
    assert built() == ({**OWN_MODEL, "hidden": 34}, {**OWN_DATA, "batch_size": 24})


def test_a_configuration_keeps_its_arguments_to_its_own_class(command, caplog):
    assert command("fit", *SHORT, "--model.hidden=7", "--optimizer=SGD", "--optimizer.lr=0.3") == 0
    config = str(run_folder() / "config.yaml")
    assert command("fit", "--config", config, *MODEL, *DATA, "--optimizer=AdamW", "--lr_scheduler=Cosine") == 0
    run = 1
    assert built(run) == (OWN_MODEL, OWN_DATA)
    assert (saved("optimizer", run)["lr"], saved("optimizer", run)["weight_decay"]) == (1e-3, 1e-2)
    replaced = (
        "--model tests.foreign.MLP takes the place of IonosphereClassifier, the arguments of IonosphereClassifier "
    )
    assert f"{replaced}included." in caplog.messages


def test_a_checkpoint_of_a_foreign_model_brings_its_own_arguments(command):
    assert command("fit", *MODEL, *DATA, "--model.depth=2", *SHORT) == 0
    checkpoint = str(run_folder() / "checkpoints" / "last.ckpt")
    assert command("test", *DATA, "--ckpt_path", checkpoint) == 0
    assert "test_acc" in command.out
    assert command("test", "--ckpt_path", checkpoint) == 2
    assert "error: MLP has no data" in command.err


def test_hyperparameters_of_a_checkpoint_that_replace_what_was_given_are_told(command, caplog):
    assert command("fit", *MODEL, *DATA, "--model.hidden=5", *SHORT) == 0
    checkpoint = ["--ckpt_path", str(run_folder() / "checkpoints" / "last.ckpt")]
    caplog.clear()
    assert command("validate", *DATA, *MODEL, "--model.hidden=5", *checkpoint) == 0
    assert "takes the place" not in caplog.text
    Path("mine.yaml").write_text("model: {class_path: tests.foreign.MLP, init_args: {depth: 2}}\n")
    assert command("validate", *DATA, "--config=mine.yaml", "--model.hidden=7", *checkpoint) == 0
    assert "The checkpoint's model.hidden=5 takes the place of 7." in caplog.messages
    assert "The checkpoint's model.depth=1 takes the place of 2." in caplog.messages
    caplog.clear()
    assert command("validate", *DATA, "--model=tests.foreign.Decayed", *checkpoint) == 0
    (told,) = [message for message in caplog.messages if "takes the place" in message]
    assert told == "The checkpoint's model=tests.foreign.MLP takes the place of tests.foreign.Decayed."


def test_preview_shows_the_run_of_the_foreign_data(command):
    assert command("preview", *MODEL, *DATA, "--trainer.max_epochs=3") == 0
    assert "6 steps, 3 epochs of 2" in command.out  # 128 rows by 64


@pytest.mark.parametrize("subcommand", ["fit", "validate", "preview", "compare"])
def test_a_foreign_model_without_data_is_not_given_the_examples(command, subcommand):
    assert command(subcommand, *MODEL) == 2
    assert command.err.startswith("error: MLP has no data: give --data with a LightningDataModule")
    assert command.err.count("\n") == 1
    assert command(subcommand, *MODEL, "--data.batch_size=8") == 2  # arguments choose no class
    assert command.err.startswith("error: MLP has no data")
    assert not Path("lightning_logs").exists()


def test_the_examples_data_are_there_for_who_asks(command):
    options = ["--data", "IonosphereDataModule", "--model.in_features", "34"]
    assert command("fit", *MODEL, *options, *SHORT) == 0
    assert built()[0] == {**OWN_MODEL, "in_features": 34}
    Path("given.yaml").write_text("data: {class_path: IonosphereDataModule}\n")
    assert command("fit", *MODEL, "--config=given.yaml", *options[2:], *SHORT) == 0


def test_a_model_keeps_its_own_data_unless_others_are_asked_for(command):
    model = ["--model", "tests.foreign.SelfFed"]
    assert command("preview", *model, "--trainer.max_epochs=1") == 0
    assert "2 steps, one epoch" in command.out
    assert command("preview", *model, "--data=IonosphereDataModule", "--trainer.max_epochs=1") == 0
    assert "11 steps, one epoch" in command.out


def test_a_function_that_makes_the_model_is_no_different(command):
    model = ["--model", "tests.foreign.made_by_a_function"]
    assert command("preview", *model) == 2
    assert command("fit", *model, *DATA, *SHORT) == 0
    assert saved("model") == {"hidden": 3}


def test_a_foreign_model_keeps_its_width_and_the_examples_follows_the_data(command):
    wide = ["--data", "tests.foreign.WideData"]
    assert command("fit", *wide, *SHORT) == 0
    assert built()[0]["in_features"] == 10
    assert command("fit", *MODEL, "--data", "tests.foreign.OtherwiseWide", *SHORT) == 0
    assert built(1)[0]["in_features"] == 10
    assert command("fit", *DATA, "--model.in_features=10", *SHORT) == 0  # data that do not say how wide they are


@pytest.mark.parametrize("width", [34, 12])
def test_a_width_that_the_data_do_not_have_is_refused(command, width):
    assert command("fit", "--data", "tests.foreign.WideData", f"--model.in_features={width}", *SHORT) == 2
    assert command.err.startswith(f"error: model.in_features={width}, but WideData has 10 features")
    assert not Path("lightning_logs").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--optimizer=SGD"], "SGD (lr 0.001) and no schedule"),
        (["--lr_scheduler=Cosine"], "Adam (lr 0.001) and Cosine"),
        (["--optimizer=SGD", "--lr_scheduler=StepLR", "--lr_scheduler.step_size=1"], "SGD (lr 0.001) and StepLR"),
    ],
)
def test_parameters_that_mean_something_else_by_the_names_of_options(command, options, told):
    model = ["--model", "tests.foreign.OtherWords"]
    assert command("fit", *model, *DATA, *options, *SHORT, "--trainer.max_epochs=2") == 0
    assert told in command.out
    assert saved("model") == {"optimizer": "adam", "lr_scheduler": None}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--optimizer=SGD", "--optimizer.lr=0.1"], "SGD (lr 0.1, 0.4) and no schedule"),
        (["--lr_scheduler=Cosine"], "AdamW (lr 0.001, 0.004) and Cosine"),
        (["--optimizer=SGD", "--lr_scheduler=Cosine"], "SGD (lr 0.001, 0.004) and Cosine"),
    ],
)
def test_parameters_without_a_type_are_left_alone(command, options, told):
    assert command("fit", "--model", "tests.foreign.Untyped", *DATA, *options, *SHORT) == 0
    assert told in command.out
    assert saved("model") == {"optimizer": None, "lr_scheduler": None}
