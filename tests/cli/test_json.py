"""``--json``: standard output holds one JSON document, which says what the Python objects say."""

from __future__ import annotations

import csv
import inspect
import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

import lit_lrsched
from lit_lrsched import Cosine, Horizon, Linear, preview
from lit_lrsched.forecasting.forecast import Forecast, forecast
from lit_lrsched.plain import plain
from lit_lrsched.search.find import Found
from tests.foreign import MLP

HAND = ["preview", "--epochs=10", "--steps_per_epoch=5", "--png=null"]
OF_FOREIGN = ["--model=tests.cli.test_json.Loud", "--data=tests.foreign.Data", "--data.rows=64", "--data.batch_size=16"]


class Loud(MLP):
    """Writes on standard output whatever way there is."""

    def __init__(self) -> None:
        super().__init__()
        print("made")

    def training_step(self, batch, batch_idx):
        print("stepped")
        os.write(1, b"written below Python\n")
        return super().training_step(batch, batch_idx)


def nothing_else(text: str) -> dict:
    """Returns the document, which must have no number that JSON does not know."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("typed", [["--json"], ["--json", "true"], ["--json=true"]])
def test_a_preview_by_hand(command, typed):
    assert command(*HAND, *typed, "--lr=0.1", "--lr_scheduler=Cosine", "--csv=ticks.csv") == 0
    assert nothing_else(command.out) == preview(Cosine(), Horizon(50, 5), lr=0.1).as_dict()
    assert "Every tick: ticks.csv" in command.err
    assert "50 steps, 10 epochs of 5" in command.err


def test_several_and_what_theory_says(command):
    assert command(*HAND, "--json", "--theory", "--schedules=Linear,Cosine") == 0
    found = nothing_else(command.out)
    assert found["table"] == preview({"Linear": Linear(), "Cosine": Cosine()}, Horizon(50, 5)).table
    assert [row["schedule"] for row in found["theory"]] == ["Linear", "Cosine"]
    assert found["theory"][0]["best peak"] == 1


def test_a_failure_is_a_finding_and_the_status(command):
    short = ["--lr_scheduler=Linear", "--lr_scheduler.over=5ep", "--json"]
    assert command(*HAND, *short) == 1
    (by_hand,) = nothing_else(command.out)["findings"]
    assert command("preview", *short, "--png=null", "--trainer.max_epochs=10") == 1
    (of_run,) = nothing_else(command.out)["findings"]
    assert by_hand["level"] == of_run["level"] == "failure"
    assert "the last 25 of 50 steps train nothing" in by_hand["text"]
    assert "the last 55 of 110 steps train nothing" in of_run["text"]
    nothing_fits = ["--schedules={a: {class_path: WarmupCosine, init_args: {warmup: 20ep}}}", "--json"]
    assert command("preview", *nothing_fits, "--png=null", "--trainer.max_epochs=10") == 1
    assert nothing_else(command.out)["table"] == []


def test_the_preview_of_a_run_that_prints(command):
    options = ["--lr_scheduler=Cosine", "--optimizer=SGD", "--optimizer.lr=0.1", "--trainer.max_epochs=10"]
    assert command("preview", *OF_FOREIGN, *options, "--png=null", "--json") == 0, command.err
    found = nothing_else(command.out)
    horizon = Horizon(found["steps"], found["steps_per_epoch"])
    assert found == preview(Cosine(), horizon, lr=0.1).as_dict()
    assert "made" in command.err


def test_what_the_models_module_prints_when_it_is_imported(command, monkeypatch):
    Path("talking.py").write_text("from tests.foreign import MLP\n\nprint('imported')\n\nclass Net(MLP): pass\n")
    monkeypatch.delitem(sys.modules, "talking", raising=False)
    data = ["--data=tests.foreign.Data", "--trainer.max_epochs=1"]
    assert command("preview", "--model=talking.Net", *data, "--png=null", "--json") == 0, command.err
    assert nothing_else(command.out)["findings"] == []
    assert command.err.splitlines()[0] == "imported"


def test_a_search(command, monkeypatch):
    finished: list = []
    monkeypatch.setattr(Found, "show", lambda found: finished.append(found))
    options = ["--points=5", "--seeds=2", "--lrs=0.001,0.1", "--trainer.max_epochs=1", "--engine=sequential"]
    assert command("find", *OF_FOREIGN, *options, "--png=null", "--json", "--trainer.enable_progress_bar=true") == 0
    found = nothing_else(command.out)
    assert found == finished[0].as_dict()
    assert (found["lr"], found["interval"], found["table"]) == (
        finished[0].lr,
        list(finished[0].interval),
        finished[0].table,
    )
    assert len(found["table"]) == 5
    assert {"made", "stepped", "written below Python"} <= set(command.err.splitlines())


def test_a_forecast(command):
    for name, rates in {"constant": [0.1] * 200, "linear": [0.1 * (1 - step / 200) for step in range(200)]}.items():
        with open(f"{name}.csv", "w", newline="") as file:
            rows = [[step + 1, rate, 1 / (1 + step) + rate] for step, rate in enumerate(rates)]
            csv.writer(file).writerows([["step", "lr", "loss"], *rows])
    assert command("forecast", "constant.csv", "linear.csv", "--schedules=Cosine,Linear", "--json") == 0, command.err
    asked = {"Cosine": Cosine(), "Linear": Linear()}
    assert nothing_else(command.out) == forecast(["constant.csv", "linear.csv"], asked).as_dict()
    assert "Law: " in command.err


def test_the_keys_are_documented(command):
    page = Path(lit_lrsched.__file__).parents[1] / "docs" / "recipes.md"
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", page.read_text(), flags=re.MULTILINE)
    said = {name: re.findall(r"`(\w+)`", keys) for name, keys in rows}
    assert list(said) == ["preview", "find", "compare", "forecast"]
    (shown,) = re.findall(r"^lit-lrsched (preview .* --json) \|", page.read_text(), flags=re.MULTILINE)
    assert command(*shlex.split(shown)) == 0
    assert nothing_else(command.out)["steps"] == 5000
    without = {"level", "text"}  # of a finding
    assert [key for key in said["preview"] if key not in without] == list(preview(Cosine(), Horizon(9)).as_dict())
    for name, kind in {"find": Found, "forecast": Forecast}.items():
        assert [key for key in said[name] if f"``{key}``" not in inspect.getdoc(kind.as_dict)] == []


def test_mistakes_leave_standard_output_empty(command):
    for arguments in (
        [*HAND, "--json", "--lr_scheduler=Cosin"],
        ["preview", "--json", "--lr_scheduler=Cosin"],
        ["compare", "--json", "--metric=val_ac", "--seeds=2", "--trainer.max_epochs=1"],
        ["forecast", "--json", "no.csv"],
    ):
        assert command(*arguments) == 2
        assert command.out == ""
        assert command.err.splitlines()[-1].startswith("error: ")


def test_a_configuration_cannot_ask_for_it(command):
    Path("asks.yaml").write_text("json: true\n")
    for arguments in (HAND, ["preview", "--png=null"]):
        assert command(*arguments, "--config=asks.yaml", "--lr_scheduler=Cosine") == 2
        assert "type --json" in command.err
    assert command(*HAND, "--config=asks.yaml", "--json=false", "--lr_scheduler=Cosine") == 0
    assert "50 steps" in command.out


def test_without_it_nothing_is_kept(command):
    before = sys.stdout
    assert command(*HAND, "--lr_scheduler=Cosine", "--json", "false") == 0
    assert command.out.startswith("50 steps, 10 epochs of 5")
    assert sys.stdout is before


def test_what_is_no_number_is_null():
    assert plain({"a": (float("nan"), [-float("inf"), 1]), "b": Path("c")}) == {"a": [None, [None, 1]], "b": "c"}
