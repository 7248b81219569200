"""What TensorBoard gets to show, read back through its own HTTP interface."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.tensorboard import SummaryWriter

from lit_lrsched import Horizon, Linear, Schedule, schedule_config
from lit_lrsched.trainer.callbacks.tensorboard_run import CHARTS, TensorBoardRun
from tests.training import Tiny, tiny_trainer


@pytest.fixture
def get():
    """Starts TensorBoard over lightning_logs on a free loopback port; yields what fetches from it."""
    from tensorboard import program

    # Lightning and torch may have configured absl before.
    board = program.TensorBoard()
    # Read once, before it answers: a thread that reads again and again would outlive the folder.
    once = ["--load_fast", "false", "--reload_interval", "0", "--reload_task", "blocking"]
    board.configure(argv=[None, "--logdir", "lightning_logs", "--port", "0", "--host", "127.0.0.1", *once])
    address = board.launch()

    def fetch(path: str, body: dict | None = None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            content = response.read()
        return json.loads(content) if response.headers["Content-Type"].startswith("application/json") else content

    return fetch


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore:.*pkg_resources.*")
@pytest.mark.filterwarnings("ignore:Resumed")
def test_tensorboard_shows_a_resumed_fit_and_a_race(command, request):
    warmup = ["--lr_scheduler=WarmupCosine", "--lr_scheduler.warmup=20%"]
    options = [*warmup, "--optimizer=SGD", "--optimizer.lr=0.3"]
    assert command("fit", *options, "--trainer.max_epochs=5") == 0
    assert command("fit", *options, "--trainer.max_epochs=6", "--ckpt_path=last") == 0
    race = ["--schedules=[Constant, Cosine]", "--lrs=[0.1]", "--momenta=[0.9]", "--seeds=2"]
    assert command("compare", *race, "--trainer.max_epochs=2", "--folder=lightning_logs/race") == 0
    get = request.getfixturevalue("get")

    run = "WarmupCosine-0.3"
    tags = get("data/plugin/scalars/tags")
    # Each once, and for its colour the plan; on the first screen are the first two groups of tags: loss and lr.
    assert set(tags) == {run, f"{run}/planned", "race/tensorboard/Constant", "race/tensorboard/Cosine"}
    assert {"train_loss", "val_loss", "train_acc", "val_acc"} < set(tags[run])
    groups = sorted({tag.partition("/")[0] for tag in [*tags[run], *get("data/plugin/images/tags")[run]]})
    assert groups[:2] == ["loss", "lr"]
    assert set(tags[f"{run}/planned"]) == {"lr/group0"}
    used, planned = (
        get(f"data/plugin/scalars/scalars?run={quote(folder)}&tag=lr%2Fgroup0") for folder in (run, f"{run}/planned")
    )
    assert len(used) == 66
    assert [point[1:] for point in used] == [point[1:] for point in planned]

    layout = get("data/plugin/custom_scalars/layout")
    charts = [chart["title"] for category in layout["category"] for chart in category["chart"]]
    assert charts == ["learning rate", "loss", "accuracy"]
    shown = get(f"data/plugin/custom_scalars/scalars?run={run}&tag={quote(CHARTS['loss'][0])}")
    assert set(shown["tag_to_events"]) == {"train_loss", "val_loss"}

    assert set(get("data/plugin/images/tags")[run]) == {"schedule"}
    text = get(f"data/plugin/text/text?run={run}&tag=configuration%2Ftext_summary")
    assert "WarmupCosine" in text[0]["text"]

    experiment = get("data/plugin/hparams/experiment", {"experimentName": ""})
    columns = {info["name"] for info in experiment["hparamInfos"]}
    assert {"optimizer", "lr", "momentum", "schedule", "schedule.warmup"} <= columns
    metrics = {info["name"]["tag"] for info in experiment["metricInfos"]}
    assert {"val_acc", "test_acc", "val_loss"} <= metrics
    wanted = {
        "experimentName": "",
        "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
        "colParams": [{"metric": {"tag": "test_acc"}}],
        "startIndex": 0,
        "sliceSize": 100,
    }
    groups = get("data/plugin/hparams/session_groups", wanted)["sessionGroups"]
    schedules = {group["hparams"]["schedule"] for group in groups}
    assert schedules == {"WarmupCosine", "Constant", "Cosine"}
    assert all(any(value["name"]["tag"] == "test_acc" for value in group["metricValues"]) for group in groups)


@pytest.mark.parametrize("logger", ["CSVLogger", "false"])
def test_other_loggers_work_as_well(command, logger):
    options = ["--trainer.logger.save_dir=logs"] if logger == "CSVLogger" else []
    for _ in range(2):
        assert command("fit", f"--trainer.logger={logger}", *options, "--trainer.max_epochs=2") == 0
    assert not Path("config.yaml").exists()
    if logger == "CSVLogger":
        table, _ = Path("logs").rglob("metrics.csv")
        header = table.read_text().splitlines()[0].split(",")
        assert {"lr/group0", "planned_lr/group0", "val_acc"} <= set(header)


@dataclass(frozen=True)
class Labelled(Schedule):
    """Constant, with a text among its arguments."""

    label: str

    def __call__(self, step: int, horizon: Horizon) -> float:
        return 1.0


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*pkg_resources.*")
def test_a_text_cannot_break_the_table(tmp_path, monkeypatch):
    texts: dict[str, str] = {}
    monkeypatch.setattr(SummaryWriter, "add_text", lambda self, tag, text: texts.update({tag: text}))
    module = Tiny(lambda own: schedule_config(own.make_optimizer(), Labelled("a|b\n| c |"), own.trainer))
    tiny_trainer(callbacks=[TensorBoardRun()], logger=TensorBoardLogger(tmp_path), max_epochs=1).fit(module)
    rows = texts["configuration"].splitlines()
    assert rows[:3] == ["| | |", "|---|---|", "| optimizer | SGD |"]
    assert rows[-2:] == ["| schedule | Labelled |", r"| schedule.label | a\|b \| c \| |"]


def test_columns_hold_the_optimizers_own_values(tmp_path):
    groups = {"momentum": Linear(0.5, 1.0)}
    module = Tiny(lambda own: schedule_config(own.make_optimizer(), Linear(0.1, 1.0), own.trainer, groups=groups))
    logger = CSVLogger(tmp_path)
    tiny_trainer(callbacks=[TensorBoardRun()], logger=logger, max_epochs=1).fit(module)
    assert (logger.experiment.hparams["lr"], logger.experiment.hparams["momentum"]) == (0.03, 0.9)


class Tabulated(LRScheduler):
    """Takes its factors from a tensor."""

    def __init__(self, optimizer):
        self.factors, self.power = torch.linspace(1, 0.5, 5), torch.tensor(2.0)
        super().__init__(optimizer)

    def get_lr(self):
        return [base * float(self.factors[min(self.last_epoch, 4)]) for base in self.base_lrs]


@pytest.mark.parametrize(
    ("schedule", "columns"),
    [
        (lambda step, horizon: 1.0, {"schedule": "<lambda>"}),
        (Linear() * 0.5 * (lambda step, horizon: 1.0), {"schedule": "Linear * Constant(factor=0.5) * <lambda>"}),
        (Tabulated, {"schedule": "Tabulated", "schedule.power": 2.0}),
    ],
    ids=["function", "product", "table"],
)
def test_schedules_that_no_path_and_no_numbers_describe(tmp_path, schedule, columns):
    module = Tiny(lambda own: schedule_config(own.make_optimizer(), schedule, own.trainer))
    logger = CSVLogger(tmp_path)
    tiny_trainer(callbacks=[TensorBoardRun()], logger=logger, max_epochs=1).fit(module)
    logged = logger.experiment.hparams
    assert {name: value for name, value in logged.items() if name.startswith("schedule")} == columns
