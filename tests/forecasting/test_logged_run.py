"""Logged runs: what is put right, and what is refused in a line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lit_lrsched import InputError, Linear, LoggedRun, forecast
from lit_lrsched.comparison.evidence.runs import RunKey
from lit_lrsched.comparison.records import Record, RecordStore
from lit_lrsched.forecasting.reading import read_runs

RATES = np.full(100, 0.1)
FALLING = np.linspace(3.0, 2.0, 10)


def test_rows_are_sorted_and_counted():
    run = LoggedRun([30, 10, 20, 20, 40, 0], [1.0, 3.0, 9.0, 2.0, 0.9, 5.0], RATES)
    assert run.steps.tolist() == [10, 20, 30, 40]
    assert run.losses.tolist() == [3.0, 2.0, 1.0, 0.9]  # of two rows of step 20 the last
    assert run.left_out == 2


def test_rows_whose_step_is_no_number_are_counted():
    run = LoggedRun([10, np.nan, 30, np.inf], [3.0, 2.5, 2.0, 1.0], RATES)
    assert (run.steps.tolist(), run.left_out) == ([10, 30], 2)


def test_a_gap_of_nan_is_left_out():
    run = LoggedRun([10, 20, 30], [3.0, np.nan, 2.0], RATES)
    assert (run.steps.tolist(), run.left_out) == ([10, 30], 1)


def test_a_row_that_only_fills_a_table_is_left_out():
    """As where the loss of validation stands in a row of its own, and an export writes nan into what is empty."""
    run = LoggedRun([10, 10, 20, 20], [3.0, np.nan, 2.0, np.nan], RATES)
    assert (run.steps.tolist(), run.losses.tolist(), run.left_out) == ([10, 20], [3.0, 2.0], 2)


@pytest.mark.parametrize(
    ("steps", "losses", "rates", "message"),
    [
        ([1, 2], [1.0], RATES, "has 2 steps and 1 losses"),
        ([1, 2], [np.nan, np.nan], RATES, "has no finite loss"),
        ([10, 20], [3.0, np.inf], RATES, "diverged: its loss is not finite after step 10"),
        ([0, -1], [2.0, 1.0], RATES, "has no finite loss after a step of 1 or more"),
        ([10, 200], [3.0, 2.0], RATES, "has a loss after step 200 and rates for 100 steps"),
        ([0.25, 0.5, 1], [3.0, 2.5, 2.0], RATES, "has a loss after step 0.25: count whole optimizer steps"),
        ([1.2, 1.7, 3.5], [3.0, 2.5, 2.0], RATES, "has a loss after step 1.2: count whole optimizer steps"),
        ([10, 20], ["3", "x"], RATES, "losses=.'3', 'x'. cannot be read as numbers, ValueError"),
        ([10, 20], [[3.0], [2.0, 1.0]], RATES, "losses=.* cannot be read as numbers, ValueError"),
        ([10, 20], [3.0, 2.0], Linear(), "rates=Linear.* cannot be read as numbers, TypeError"),
        ([10, 20], torch.tensor([3.0, 2.0], requires_grad=True), RATES, "losses=tensor.* RuntimeError.*detach"),
        (range(10, 110, 10), FALLING[::-1], RATES, "the losses of a run do not fall, from 2.056 to 2.944"),
        (range(10, 110, 10), np.full(10, 2.0), RATES, "the losses of a run do not fall, from 2 to 2"),
        (range(10, 110, 10), [4, 3, 2, 2, 2, 2, 2, 2, 3, 3], RATES, "the losses of a run rise again, from 2 to 3"),
        (range(10, 110, 10), FALLING[::-1] ** 4, RATES, "diverged: its loss rises"),
        ([10, 20], [1.0, -1.0], RATES, "has the loss -1"),
        ([10, 20], [3.0, 2.0], np.arange(100) >= 20, "the rates of all steps before its last loss are 0"),
        ([10, 20], [3.0, 2.0], [0.1, np.nan], "rates have to be finite"),
        ([10, 20], [3.0, 2.0], [0.0, 0.0], "rates have to be finite"),
    ],
)
def test_what_tells_nothing_is_refused(steps, losses, rates, message):
    with pytest.raises(InputError, match=message):
        LoggedRun(list(steps), losses, rates)


@pytest.mark.parametrize("length", [100, 2000, 20_000])
def test_a_decay_is_told_however_slow(length):
    assert LoggedRun([length // 2, length], [3.0, 2.0], np.linspace(0.1, 0.0, length)).falls
    assert not LoggedRun([length // 2, length], [3.0, 2.0], np.linspace(0.0, 0.1, length)).falls
    assert not LoggedRun([length // 2, length], [3.0, 2.0], np.full(length, 0.1)).falls


def test_too_few_runs_are_refused():
    run = LoggedRun(range(10, 110, 10), FALLING, RATES, name="base")
    falling = LoggedRun(range(10, 110, 10), FALLING, 0.1 * np.linspace(1, 0, 100))
    with pytest.raises(InputError, match="base is a single run of a constant rate"):
        forecast([run])
    with pytest.raises(InputError, match="1 run is given: at least two are needed"):
        forecast(falling)
    with pytest.raises(InputError, match="all 2 runs have the same constant rate"):
        forecast([run, LoggedRun(range(10, 110, 10), FALLING - 0.1, RATES)])
    with pytest.raises(InputError, match="is not a run: give paths, or LoggedRun"):
        forecast([run, 3])


def test_a_race_is_read_as_mean_curves(tmp_path):
    keys = [RunKey(name, lr, 0.9, 0.0, seed) for name in ("a", "b") for lr in (0.1, 9.0) for seed in (0, 1)]
    records = []
    for key in keys:
        end = 1.0 + key.seed - 0.1 * (key.schedule == "b")  # else a copy of the other
        losses = np.linspace(2.0, end, 10) if key.lr == 0.1 else np.linspace(1.0, 3.0, 10)
        curves = {"train_loss": losses, "train_acc": np.linspace(0.5, 0.9, 10), "lr": np.linspace(key.lr, 0, 10)}
        records.append(Record(key, {"val_acc": 0.5}, curves, diverged=key.lr == 9.0 and key.schedule == "b"))
    store = RecordStore(tmp_path / "race", ["val_acc"])
    store.append(records)
    store.finish()
    read = read_runs(tmp_path / "race")
    assert [run.name for run in read.runs] == ["a at 0.1", "b at 0.1"]
    assert read.runs[0].losses[[0, -1]].tolist() == [2.0, 1.5]
    assert read.runs[0].rates == pytest.approx(np.linspace(0.1, 0, 10))
    assert "each curve is the mean train_loss over seeds." in read.notes[0]
    assert "1 of its 4 settings diverged" in read.notes[1]
    assert "1 settings are left out: their train_loss does not fall." in read.notes[2]
    with pytest.raises(InputError, match=r"has no curve of train_los \(did you mean 'train_loss'\?\)"):
        read_runs(tmp_path / "race", "train_los")
    errors = [replace(record, curves={"val_mae": record.curves["train_loss"]}) for record in records]
    store = RecordStore(tmp_path / "errors", ["val_acc"])
    store.append(errors)
    store.finish()
    with pytest.raises(InputError, match="has no curve of a loss: it has val_mae; name one of them with loss"):
        read_runs(tmp_path / "errors")
    with pytest.raises(InputError, match="its train_acc falls in no setting: a forecast needs a loss"):
        read_runs(tmp_path / "race", "train_acc")
    (tmp_path / "log.csv").write_text("step,lr,train_loss\n1,0.2,3\n2,0.1,2\n")
    with pytest.raises(InputError, match="of a race an epoch counts as a step, of other logs an optimizer step"):
        read_runs([tmp_path / "race", tmp_path / "log.csv"])


def folder_of(tmp_path, config: str):
    (tmp_path / "metrics.csv").write_text("step,lr,val_loss\n0,0.2,3\n1,0.1,2\n")
    (tmp_path / "config.yaml").write_text(config)
    return tmp_path


@pytest.mark.parametrize("config", ["a: [", "a: !!python/object:some.Class {}"])
def test_a_configuration_that_is_no_yaml_is_refused(tmp_path, config):
    with pytest.raises(InputError, match=r"config\.yaml cannot be read as YAML: correct it, or take it away"):
        read_runs(folder_of(tmp_path, config))


@pytest.mark.parametrize("config", ["trainer: gpu", "trainer: {max_steps: '${steps}', max_epochs: null}", "[1]"])
def test_a_configuration_of_another_tool_leaves_the_logged_rates(tmp_path, config):
    assert read_runs(folder_of(tmp_path, config)).runs[0].rates.tolist() == [0.2, 0.1]


def test_the_log_of_a_folder_stands_for_the_folder(tmp_path):
    config = "{lr_scheduler: {class_path: lit_lrsched.Linear}, trainer: {max_steps: 2}}"
    folder = tmp_path / "version_0"
    folder.mkdir()
    (folder_of(folder, config) / "hparams.yaml").write_text("{}")
    for path in (folder, folder / "metrics.csv"):
        read = read_runs(path)
        assert (read.runs[0].steps.tolist(), read.notes) == ([1, 2], [])
    assert len(read_runs([folder, folder / "metrics.csv"]).runs) == 1
    with pytest.raises(InputError, match=r"give a folder of fit or compare, like .*version_0$"):
        read_runs(tmp_path)


def test_a_run_that_ended_early_is_told(tmp_path):
    folder_of(tmp_path, "{lr_scheduler: {class_path: lit_lrsched.Constant}, trainer: {max_steps: 10}}")
    (tmp_path / "metrics.csv").write_text("step,lr,val_loss\n0,0.1,3\n1,0.1,2\n")
    read = read_runs(tmp_path)
    assert read.runs[0].length == 10
    assert read.notes == [f"{tmp_path} has its last loss after 2 of 10 steps."]


def test_before_the_log_of_a_resumed_run_the_schedule_tells_the_rates(tmp_path):
    folder_of(tmp_path, "{lr_scheduler: {class_path: lit_lrsched.Linear}, trainer: {max_steps: 10}}")
    (tmp_path / "metrics.csv").write_text("step,lr,val_loss\n" + "".join(f"{s},{1 - s / 10},2\n" for s in range(4, 10)))
    read = read_runs(tmp_path)
    assert read.runs[0].rates == pytest.approx([1 - step / 10 for step in range(10)])
    assert read.notes == [f"{tmp_path}: its log begins at step 4; until there its schedule tells the rates."]


@pytest.mark.parametrize("schedule", ["Cosine}, lr_interval: epoch", "WarmupCosine, init_args: {warmup: 1ep}}"])
def test_a_schedule_in_epochs_of_unknown_length_leaves_the_logged_rates(tmp_path, schedule):
    read = read_runs(folder_of(tmp_path, f"{{lr_scheduler: {{class_path: lit_lrsched.{schedule}}}"))
    assert read.runs[0].rates.tolist() == [0.2, 0.1]
    why = "its schedule counts in epochs, and its log does not say how long they are, so the rates are those logged"
    assert why in read.notes[0]


def test_a_log_of_a_spreadsheet_is_read(tmp_path):
    path = tmp_path / "sheet.csv"
    path.write_text("\ufeffstep, lr, loss\r\n1, 0.1, 3.0\r\n2, 0.1, 2.0\r\n", encoding="utf-8")
    assert read_runs(path).runs[0].losses.tolist() == [3.0, 2.0]


def test_a_late_log_rises_from_0(tmp_path):
    path = tmp_path / "late.csv"
    path.write_text("step,lr,loss\n30,0.1,2.0\n20,0.2,2.5\n10,0.1,3\n40,,1.9\n")
    read = read_runs(path)
    assert read.runs[0].rates[[0, 5, 10, 39]].tolist() == [0.0, 0.05, 0.1, 0.1]
    assert read.runs[0].steps.tolist() == [10, 20, 30, 40]
    notes = [
        "Rows out of order, as of a resumed run, are sorted by step; of one step the last finite loss counts.",
        "Between logged rows the learning rate is interpolated.",
        "Where a log begins late, the rate is taken to rise from 0 until there.",
        "Where a log's rates end before its losses, the last one is taken to stay.",
    ]
    assert read.notes == notes
    (tmp_path / "runs.yaml").write_text("[{log: late.csv}]")
    assert read_runs(tmp_path / "runs.yaml").notes == notes
    path.rename(tmp_path / "metrics.csv")  # as in the folder of a run that was resumed
    assert read_runs(tmp_path).notes[1:] == notes


@pytest.mark.parametrize(
    ("schedule", "contradicted"),
    [("{class_path: Linear}", False), ("Constant", True)],
)
@pytest.mark.parametrize("offset", [0, 1])  # the rate of the next step, or of the step that is done
def test_rates_beside_a_stated_schedule_are_compared(tmp_path, schedule, contradicted, offset):
    rows = [f"{step + offset},{0.1 * (4 - step):g},{3 - step / 10}" for step in range(5 - offset)]
    (tmp_path / "a.csv").write_text("\n".join(["step,lr,loss", *rows]))
    (tmp_path / "runs.yaml").write_text(f"[{{log: a.csv, lr: 0.4, steps: 4, schedule: {schedule}}}]")
    notes = [note for note in read_runs(tmp_path / "runs.yaml").notes if "rows were" not in note]
    told = f"a.csv: lr at step 3 is {0.1 * (1 + offset):g}, and 0.4 by the schedule that is stated, which is taken."
    assert notes == ([told] if contradicted else [])


def panel_of(path, *titles: str) -> None:
    """Writes what Weights & Biases exports of a panel: every column with its least and greatest value beside it."""
    every = [f"{title}{ending}" for title in titles for ending in ("", "__MIN", "__MAX")]
    rows = [",".join([str(step), *(3 * [str(3 - step / 10 / len(path.stem))] * len(titles))]) for step in (1, 2)]
    path.write_text("\n".join([",".join(["step", *every]), *rows]))


def test_copies_count_once(tmp_path):
    (tmp_path / "a.csv").write_text("step,lr,loss\n1,0.2,3\n2,0.1,2\n")
    (tmp_path / "b.csv").write_text("step,lr,loss\n1,0.2,3\n2,0.1,2\n")
    (tmp_path / "c.csv").write_text("step,lr,loss\n1,0.2,3\n2,0.1,1\n")
    (tmp_path / "runs.yaml").write_text("[{log: a.csv}, {log: c.csv}]")
    read = read_runs([tmp_path / f"{name}" for name in ("a.csv", "b.csv", "c.csv", "runs.yaml")])
    assert [run.name for run in read.runs] == ["a", "c"]
    assert read.notes == [f"{copy} is a copy of {first}, which counts once." for copy, first in ("ba", "aa", "cc")]


def test_a_panel_of_weights_and_biases_is_read(tmp_path):
    for name in ("fast", "slow - 2"):
        panel_of(tmp_path / f"{name}.csv", f"{name} - train/loss", f"{name} - lr-AdamW/pg1")
    read = read_runs([tmp_path / "fast.csv", tmp_path / "slow - 2.csv"])
    assert (read.losses, read.notes) == (["train/loss", "train/loss"], [])
    assert (read.runs[1].losses.tolist(), read.runs[1].rates.tolist()) == ([2.9875, 2.975], [2.9875, 2.9875])
    assert read_runs(tmp_path / "fast.csv", "fast - train/loss").losses == ["train/loss"]


def test_the_runs_of_one_panel_are_listed(tmp_path):
    panel_of(tmp_path / "all.csv", "fast - train/loss", "slow - train/loss", "slow - lr")
    told = r"all\.csv has the columns of several runs, fast - train/loss, .*: write a YAML list with an entry for each"
    for loss in (None, "train/loss"):
        with pytest.raises(InputError, match=told):
            read_runs(tmp_path / "all.csv", loss)
    stated = "loss: fast - train/loss, schedule: {class_path: Cosine}, lr: 0.2, steps: 4"
    (tmp_path / "runs.yaml").write_text(f"[{{log: all.csv, {stated}}}, {{log: all.csv, loss: slow - train/loss}}]")
    read = read_runs(tmp_path / "runs.yaml")
    assert read.losses == ["train/loss", "train/loss"]
    assert [run.path.peak for run in read.runs] == [0.2, 3 - 0.1 / 3]


@pytest.mark.parametrize(
    ("titles", "loss", "notes"),
    [
        ("val_loss,train_loss", None, ["The loss is val_loss, not train_loss: name another with loss."]),
        ("loss_scale,a/loss", None, ["The loss is loss_scale, not a/loss: name another with loss."]),
        ("val_loss,train_loss", "train_loss", []),
        ("val_loss,loss/val", None, []),  # the same, where fit repeats it
        ("val_loss,test_loss", None, []),
    ],
)
def test_which_loss_was_taken_of_several_is_said(tmp_path, titles, loss, notes):
    path = tmp_path / "log.csv"
    path.write_text(f"step,lr,{titles}\n1,0.2,3,4\n2,0.1,2,3\n")
    (tmp_path / "runs.yaml").write_text("[{log: log.csv}]")
    (tmp_path / "metrics.csv").write_text(path.read_text())
    for given in (path, tmp_path / "runs.yaml", tmp_path):
        assert [note for note in read_runs(given, loss).notes if "those logged" not in note] == notes


@pytest.mark.parametrize(
    ("rows", "rates"),
    [
        ("1,0.2,3\n2,0.2,2.5\n4,0.1,2\n", [0.2, 0.2, 0.2, 0.15]),  # the rate of step 4 is not used
        ("2,0.2,3\n4,0.1,2\n6,0.1,\n", [0.0, 0.1, 0.2, 0.15, 0.1, 0.1]),
        ("0,0.2,3\n3,0.1,2\ninf,0.1,1\n", [0.2, 0.2 - 0.1 / 3, 0.2 - 0.2 / 3]),
    ],
)
def test_a_log_is_as_long_as_its_last_step_says(tmp_path, rows, rates):
    path = tmp_path / "log.csv"
    path.write_text(f"step,lr,loss\n{rows}")
    assert read_runs(path).runs[0].rates == pytest.approx(rates)


@pytest.mark.parametrize(
    ("second", "third", "words"),
    [
        ((0.2, 0.1), (0.2, 0.1), None),
        ((0.1, 0.05), (0.6, 0.3), "those of lr/b, lr/c keep their ratio to it"),
        ((0.1, 0.05), (0.6, 0.6), "those of lr/b, lr/c do not keep their ratio to it, which no law knows of"),
    ],
)
def test_param_groups_with_rates_of_their_own_are_told(tmp_path, second, third, words):
    path = tmp_path / "groups.csv"
    rows = [
        f"{2 * i + 1},{rate[0]},{rate[1]},{rate[2]},0.9,{3 - i}"
        for i, rate in enumerate(zip((0.2, 0.1), second, third, strict=True))
    ]
    path.write_text("\n".join(["step,lr/a,lr/b,lr/c,lr-SGD-momentum,loss", *rows]))
    notes = [note for note in read_runs(path).notes if "interpolated" not in note]
    assert notes == ([f"The learning rate is that of the first param group, lr/a; {words}."] if words else [])
