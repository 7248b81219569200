"""What ``ScheduleReport`` leaves in real loggers of any trainer, read back from their files."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import StepLR

from lit_lrsched import ApplySchedule, Horizon, InputError, ScheduleReport, WarmupCosine, preview, table
from lit_lrsched.trainer.callbacks.learning_rate_logger import LearningRateLogger, Spacing
from lit_lrsched.trainer.callbacks.receipt import Receipt
from lit_lrsched.trainer.callbacks.start_audit import StartAudit
from lit_lrsched.trainer.callbacks.tensorboard_run import TensorBoardRun
from lit_lrsched.trainer.lightning_internals import callbacks_of
from tests.reading import offline_records, scalars
from tests.training import Tiny, tiny_trainer

PARTS = (LearningRateLogger, Receipt, TensorBoardRun, StartAudit)
RECEIPT = "learning rate followed the plan (22 of 22 steps)"
HORIZON = Horizon(22, steps_per_epoch=11)


def of_torch(module: Tiny):
    optimizer = module.make_optimizer()
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": StepLR(optimizer, 11), "interval": "step"}}


def one_group(module: Tiny):
    return SGD(module.parameters(), lr=0.1)


def fit(logger, *callbacks, configure=one_group, **options):
    callbacks = callbacks or (ApplySchedule(WarmupCosine("50%")), ScheduleReport())
    trainer = tiny_trainer(callbacks=list(callbacks), logger=logger, **{"max_epochs": 2, **options})
    trainer.fit(Tiny(configure))
    return trainer


def planned() -> list[float]:
    return [0.1 * factor for factor in table(WarmupCosine("50%"), HORIZON)]


def test_tensorboard(tmp_path: Path, capsys) -> None:
    fit(TensorBoardLogger(tmp_path, name="", version="run"))
    run = tmp_path / "run"
    assert capsys.readouterr().out.count(RECEIPT) == 1
    for folder in (run, run / "planned"):
        assert scalars(folder, "lr/group0") == pytest.approx(planned(), rel=1e-6)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run)).Reload()
    assert events.Tags()["images"] == ["schedule"]
    texts = {
        name: events.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0].decode()
        for name in ("configuration", "receipt")
    }
    assert "| schedule | WarmupCosine |" in texts["configuration"]
    assert "| optimizer | SGD |" in texts["configuration"]
    assert texts["receipt"] == RECEIPT
    assert events.SummaryMetadata("_hparams_/session_start_info").plugin_data.plugin_name == "hparams"


def test_csv(tmp_path: Path) -> None:
    fit(CSVLogger(tmp_path, name="", version="run"), ScheduleReport(), configure=of_torch)
    run = tmp_path / "run"
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    used = [float(row["lr/group1"]) for row in rows if row["lr/group1"]]
    assert used == [float(row["planned_lr/group1"]) for row in rows if row["planned_lr/group1"]]
    assert used == pytest.approx([0.1, 0.01])  # one for each rate
    known = yaml.safe_load((run / "hparams.yaml").read_text())
    assert (known["optimizer"], known["schedule"], known["schedule.step_size"]) == ("SGD", "StepLR", 11)
    assert (run / "schedule.png").read_bytes().startswith(b"\x89PNG")
    assert (run / "receipt.txt").read_text() == f"{RECEIPT}\n"
    with (run / "schedule.csv").open() as file:
        moments = list(csv.DictReader(file))
    assert (moments[0]["step"], moments[-1]["step"]) == ("0", "21")


@pytest.mark.filterwarnings("ignore")  # W&B's own
def test_what_the_config_of_weights_and_biases_has_is_not_replaced_without_a_word(tmp_path: Path, monkeypatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(mode="offline", dir=tmp_path, config={"lr": 0.3, "optimizer": "SGD", "depth": 2})
    told = r"take the place of those in the config of the W&B run: lr 0.3 -> 0.1$"
    with pytest.warns(UserWarning, match=told):
        fit(WandbLogger(experiment=run))
    assert (run.config["lr"], run.config["depth"]) == (0.1, 2)


@pytest.mark.filterwarnings("ignore")  # W&B's own
def test_weights_and_biases(tmp_path: Path, monkeypatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    fit(WandbLogger(offline=True, project="mine", save_dir=tmp_path))
    wandb.finish()
    (file,) = tmp_path.rglob("*.wandb")
    config, history, summary = {}, [], {}
    for record in offline_records(file):
        for update in record.config.update:
            config[update.key or ".".join(update.nested_key)] = json.loads(update.value_json)
        if record.HasField("history"):
            history.append(
                {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            )
        for update in record.summary.update:
            summary[update.key or ".".join(update.nested_key)] = json.loads(update.value_json)
    assert (config["optimizer"], config["schedule"], config["schedule.warmup"]) == ("SGD", "WarmupCosine", "50%")
    for name in ("lr/group0", "planned_lr/group0"):
        points = {row["trainer/global_step"]: row[name] for row in history if name in row}
        assert [points[step] for step in range(22)] == pytest.approx(planned())
    assert summary["receipt"] == RECEIPT
    assert any(row.get("schedule._type") == "images/separated" for row in history)
    assert len(list(tmp_path.rglob("schedule_*.png"))) == 1
    (moments,) = tmp_path.rglob("schedule_moments*.table.json")
    assert json.loads(moments.read_text())["columns"] == ["moment", "step", "epoch", "lr"]


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # it prefers a data base
    logger = MLFlowLogger("mine", tracking_uri=tmp_path.as_uri())
    fit(logger)
    run = logger.experiment.get_run(logger.run_id)
    assert (run.data.params["optimizer"], run.data.params["schedule"]) == ("SGD", "WarmupCosine")
    assert run.data.params["schedule.warmup"] == "50%"
    assert run.data.tags["receipt"] == RECEIPT
    for name in ("lr/group0", "planned_lr/group0"):
        points = logger.experiment.get_metric_history(logger.run_id, name)
        assert [point.value for point in sorted(points, key=lambda point: point.step)] == pytest.approx(planned())
    assert {one.path for one in logger.experiment.list_artifacts(logger.run_id)} == {"schedule.csv", "schedule.png"}
    again = MLFlowLogger("mine", tracking_uri=tmp_path.as_uri(), run_id=logger.run_id)
    fit(again, ApplySchedule(WarmupCosine("10%")), ScheduleReport())  # which MLflow alone would refuse
    assert again.experiment.get_run(logger.run_id).data.params["schedule.warmup"] == "50%"


def test_what_the_module_calls_its_own_stays(tmp_path: Path) -> None:
    module = Tiny(of_torch)
    module.save_hyperparameters({"schedule": "mine"})
    tiny_trainer(callbacks=[ScheduleReport()], logger=CSVLogger(tmp_path, name="", version="a"), max_epochs=2).fit(
        module
    )
    known = yaml.safe_load((tmp_path / "a" / "hparams.yaml").read_text())
    assert (known["schedule"], known["optimizer"]) == ("mine", "SGD")


def test_a_failure_is_refused_and_nothing_is_written(tmp_path: Path, capsys) -> None:
    def short(module: Tiny):
        optimizer = module.make_optimizer()
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": StepLR(optimizer, 1, 0.0), "interval": "step"}}

    logger = CSVLogger(tmp_path, name="", version="run")
    with pytest.raises(InputError, match="the learning rate is 0 from step 1"):
        fit(logger, ScheduleReport(), configure=short)
    assert not list(tmp_path.rglob("metrics.csv"))
    fit(logger, ScheduleReport(audit="warn"), configure=short)
    assert "warning: the learning rate is 0 from step 1" in capsys.readouterr().out
    with pytest.raises(InputError, match="audit='no' is unknown"):
        ScheduleReport(audit="no")


def test_what_is_there_is_not_done_twice(tmp_path: Path, capsys) -> None:
    report = ScheduleReport()
    trainer = fit(CSVLogger(tmp_path), ScheduleReport(), report, Receipt(), LearningRateLogger(), configure=of_torch)
    kinds = [type(one) for one in callbacks_of(trainer)]
    assert all(kinds.count(part) == 1 for part in PARTS)
    assert capsys.readouterr().out.count(RECEIPT) == 1
    trainer.fit_loop.max_epochs = 3
    trainer.fit(Tiny(of_torch))
    assert [type(one) for one in callbacks_of(trainer)].count(Receipt) == 1


class OwnRates(Optimizer):
    """Works out its own rates, as Adafactor of transformers does without one."""

    def __init__(self, module: Tiny) -> None:
        super().__init__(module.parameters(), {"lr": None})

    def step(self, closure):
        return closure()


@pytest.mark.parametrize("configure", [OwnRates, lambda module: None])
@pytest.mark.filterwarnings("ignore:.*this fit will run with no optimizer")
def test_where_there_is_no_rate_none_is_reported(configure, tmp_path: Path, capsys) -> None:
    fit(CSVLogger(tmp_path, name="", version="run"), ScheduleReport(), configure=configure)
    assert "lr" not in (tmp_path / "run" / "metrics.csv").read_text()
    assert not (tmp_path / "run" / "schedule.png").exists()
    assert capsys.readouterr().out == ""


def test_in_the_command(command) -> None:
    assert command("fit", "--trainer.callbacks=lit_lrsched.ScheduleReport", "--trainer.max_epochs=2") == 0, command.err
    assert command.out.count("followed the plan") == 1


def test_without_loggers_and_with_checkpoints(tmp_path: Path, capsys) -> None:
    checkpoints = ModelCheckpoint(tmp_path, save_last=True)
    fit(False, ScheduleReport(), checkpoints, configure=of_torch, enable_checkpointing=True)
    fit(True, ScheduleReport(), configure=of_torch, fast_dev_run=True)
    assert RECEIPT in capsys.readouterr().out
    assert (tmp_path / "last.ckpt").is_file()
    assert preview(WarmupCosine("50%"), HORIZON).table[-1]["step"] == 21


@pytest.mark.parametrize("steps", [11, 1000, 1001, 50_000, 1_000_000])
def test_points_are_about_a_thousand_and_close_at_the_beginning(steps: int) -> None:
    spacing, points = Spacing(steps), []
    for step in range(steps):
        if spacing.is_due(step):
            spacing.last = step
            points.append(step)
    assert len(points) == steps if steps <= 1000 else 500 < len(points) < 1500
    assert points[: min(steps, 100)] == list(range(min(steps, 100)))
    gaps = [after - before for before, after in pairwise(points)]
    assert max(gaps) <= -(-steps // 1000)


def test_points_of_a_run_without_a_known_end() -> None:
    spacing = Spacing(float("inf"))
    assert [spacing.between(step) for step in (0, 999, 1000, 100_000)] == [1, 1, 2, 101]
