"""Each run keeps its configuration and its checkpoint in a folder of its own, whatever logs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import yaml
from lightning.fabric.utilities.cloud_io import get_filesystem

SHORT = ["fit", "--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--trainer.limit_train_batches=3"]
TRACKER = "tests.foreign.Tracker"


def logged_by(*loggers: tuple[str, dict]) -> list[str]:
    written = [{"class_path": name, "init_args": arguments} for name, arguments in loggers]
    Path("logger.yaml").write_text(yaml.safe_dump({"trainer": {"logger": written}}))
    return [*SHORT, "--config=logger.yaml"]


def runs() -> list[str]:
    """The folders that hold the files of one run: configuration and checkpoint."""
    folders = [path.parent for path in sorted(Path().rglob("config.yaml"))]
    assert all((folder / "checkpoints" / "last.ckpt").is_file() for folder in folders)
    assert len(list(Path().rglob("last.ckpt"))) == len(folders)
    return [str(folder) for folder in folders]


LOGGERS = {
    "no log_dir": ([(TRACKER, {})], "tracked/mine"),
    "a log_dir of all runs": ([(TRACKER, {"has_log_dir": True})], "tracked/mine"),
    "no folder": ([(TRACKER, {"folder": None})], "mine"),
    "one name for all runs": ([(TRACKER, {"version": "same"})], "tracked/mine"),
    "no name at all": ([(TRACKER, {"folder": None, "project": None, "version": None})], "lightning_logs"),
    "csv": ([("CSVLogger", {"save_dir": "logs", "name": "mine"})], "logs/mine"),
    "several": ([(TRACKER, {}), ("TensorBoardLogger", {"save_dir": "board"})], "tracked/mine"),
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", LOGGERS)
def test_two_runs_have_a_folder_each(command, name):
    loggers, parent = LOGGERS[name]
    arguments = logged_by(*loggers)
    for hidden in (3, 4):
        assert command(*arguments, f"--model.hidden={hidden}") == 0, command.err
    folders = runs()
    assert len(folders) == 2
    assert {os.path.dirname(folder) for folder in folders} == {parent}
    saved = [yaml.safe_load(Path(folder, "config.yaml").read_text()) for folder in folders]
    assert {config["model"]["init_args"]["hidden"] for config in saved} == {3, 4}
    tensorboard = "TensorBoard: tensorboard --logdir board/lightning_logs/version_1"
    assert ("TensorBoard" in command.out) == (name == "several")
    assert (tensorboard in command.out) == (name == "several")


def test_no_logger_no_folder(command):
    assert command(*SHORT, "--trainer.logger=false") == 0
    assert not Path("config.yaml").exists()
    assert command(*SHORT, "--trainer.fast_dev_run=true") == 0
    assert not Path("lightning_logs").exists()


@pytest.mark.parametrize("logger", ["CSVLogger", "TensorBoardLogger"])
def test_the_folder_of_another_run_is_refused_and_left_alone(command, logger):
    arguments = logged_by((logger, {"save_dir": "logs", "name": "mine", "version": "same"}))
    assert command(*arguments) == 0
    (folder,) = runs()
    before = {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    assert command(*arguments, "--model.hidden=3") == 2
    assert command.err == f"error: an earlier run is in {folder}: give the logger another name or version\n"
    assert {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()} == before


def test_a_run_goes_on_in_its_folder(command):
    arguments = logged_by((TRACKER, {"version": "same"}))
    assert command(*arguments) == 0
    checkpoint = str(Path("tracked/mine/same/checkpoints/last.ckpt"))
    assert command(*arguments, "--trainer.max_epochs=2", "--ckpt_path", checkpoint) == 0
    assert runs() == ["tracked/mine/same"]


@pytest.mark.parametrize("option", ["check_val_every_n_epoch=2", "check_val_every_n_epoch=9", "val_check_interval=2"])
def test_the_last_checkpoint_is_of_the_last_epoch_whenever_the_validations_are(command, option):
    assert command(*SHORT, "--trainer.max_epochs=3", f"--trainer.{option}") == 0
    (folder,) = runs()
    assert torch.load(Path(folder, "checkpoints/last.ckpt"), weights_only=True)["global_step"] == 9
    assert f"Checkpoint: {folder}/checkpoints/last.ckpt" in command.out


def test_the_root_may_lie_below_the_home_folder(command, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    root = "--trainer.default_root_dir=~/runs"
    assert command(*SHORT, root) == 0, command.err
    assert command(*SHORT, root, "--trainer.max_epochs=2", "--ckpt_path=last") == 0, command.err
    assert {path.name for path in tmp_path.iterdir()} == {"home"}
    assert len(runs()) == 1


def test_the_root_may_be_remote(command):
    root = "--trainer.default_root_dir=memory://runs"
    run = "memory://runs/lightning_logs/LinearLR-0.1"
    assert command(*SHORT, root) == 0, command.err
    assert f"TensorBoard: tensorboard --logdir {run}\nCheckpoint: {run}/checkpoints/last.ckpt\n" in command.out
    assert command("predict", root, "--trainer.enable_progress_bar=false") == 0, command.err
    assert command.out == f"351 predictions: {run}-v1/predictions.csv\n"
    assert len(get_filesystem(run).cat(f"{run}-v1/predictions.csv").splitlines()) == 352
    assert not list(Path().iterdir())


def test_a_refused_start_leaves_nothing(command):
    arguments = logged_by((TRACKER, {}))
    assert command(*arguments, "--lr_scheduler=WarmupCosine", "--lr_scheduler.warmup=10ep") == 2
    assert not list(Path().rglob("config.yaml"))


def test_predictions_stand_beside_the_configuration(command):
    arguments = logged_by((TRACKER, {}))
    assert command(*arguments) == 0
    (folder,) = runs()
    checkpoint = str(Path(folder, "checkpoints", "last.ckpt"))
    assert command("predict", "--config=logger.yaml", "--ckpt_path", checkpoint) == 0
    (predictions,) = Path().rglob("predictions.csv")
    assert (predictions.parent / "config.yaml").is_file()
    assert str(predictions.parent) != folder


@pytest.mark.filterwarnings("ignore")  # W&B's own
def test_weights_and_biases(command, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    arguments = logged_by(("WandbLogger", {"offline": True, "project": "mine", "save_dir": "tracked"}))
    assert command(*arguments) == 0, command.err
    import wandb

    wandb.finish()  # as the end of a process does
    assert command(*arguments) == 0, command.err
    assert len(runs()) == 2
