"""What ``preview`` says in theory: the numbers of :mod:`lit_lrsched.theory`, for the plan of the run at hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from lit_lrsched import Constant, Cosine, Horizon, Linear, OneCycle, preview
from lit_lrsched.optim.run_plan import plan_of_torch
from lit_lrsched.plans.plan import plan_of
from lit_lrsched.plans.theory import best_peaks, theory
from lit_lrsched.plans.view import View
from lit_lrsched.schedules.plateau import Plateau
from lit_lrsched.theory import convex_bound, transfer, update_memory

BY_HAND = ["preview", "--epochs=50", "--steps_per_epoch=11", "--png=null"]
HORIZON = Horizon(550, 11)
DOCS = Path(__file__).parents[2] / "docs"


def rows_below(title: str, text: str) -> dict[str, list[str]]:
    """The rows of the table whose head begins with a title, by their first column."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.strip().startswith(title)) + 2
    rows = {}
    for line in lines[start:]:
        if not line.strip():
            break
        name, *cells = re.split(r"\s{2,}", line.strip())
        rows[name] = cells
    return rows


def test_schedules_side_by_side_have_their_best_peak(command):
    assert command(*BY_HAND, "--schedules=Constant,Linear,OneCycle") == 0
    told = {name: cells[-1] for name, cells in rows_below("schedule", command.out).items()}
    expected = {"Constant": Constant(), "Linear": Linear(), "OneCycle": OneCycle()}
    assert told == {name: f"{transfer(Constant(), one, HORIZON):.3g} x" for name, one in expected.items()}
    assert "within 11 % on a 124M language model" in " ".join(command.out.split())
    assert "in theory" not in command.out


def test_in_python_too():
    found = preview({"linear": Linear(), "none": Constant(0.0)}, Horizon(400))
    assert [row["best peak"] for row in found.table] == [1, None]
    assert "within 11 %" in " ".join(repr(found).split())


@pytest.mark.parametrize("option", ["--theory", "--theory=true"])
def test_one_schedule_stands_beside_a_constant_rate(command, option):
    assert command(*BY_HAND, "--lr_scheduler=Linear", option) == 0
    rows = rows_below("in theory", command.out)
    assert list(rows) == ["a constant rate", "Linear"]
    bound, constant = convex_bound(Linear(), HORIZON), convex_bound(Constant(), HORIZON)
    memory = update_memory(Linear(), HORIZON, lr=1.0, weight_decay=0.0)
    assert rows["a constant rate"] == ["1", "1", "10 %", "550"]
    assert rows["Linear"] == [
        f"{bound.peak / constant.peak:.3g}",
        f"{bound.value / constant.value:.3g}",
        f"{100 * memory.last_tenth:.2g} %",
        f"{memory.effective:.0f}",
    ]
    told = " ".join(command.out.split())
    assert "weight decay left out" in told
    assert told.count("within 11 %") == 1


def test_the_last_tenth_may_be_everything(command):
    assert (
        command("preview", "--epochs=1", "--steps_per_epoch=1", "--png=null", "--lr_scheduler=Linear", "--theory") == 0
    )
    assert rows_below("in theory", command.out)["Linear"] == ["1", "1", "100 %", "1"]


def test_a_run_has_the_weight_decay_of_its_optimizer(command):
    run = ["preview", "--png=null", "--theory", "--lr_scheduler=Linear", "--trainer.max_epochs=10"]
    adamw = ["--optimizer=AdamW", "--optimizer.lr=0.01", "--optimizer.weight_decay"]
    assert command(*run, *adamw, "2.0") == 0
    memory = update_memory(Linear(), Horizon(110, 11), lr=0.01, weight_decay=2.0)
    assert rows_below("in theory", command.out)["Linear"][2:] == [
        f"{100 * memory.last_tenth:.2g} %",
        f"{memory.effective:.0f}",
    ]
    assert "with weight decay 2;" in " ".join(command.out.split())
    assert "warning" not in command.out
    assert command(*run, *adamw, "0.1") == 0
    # 1 / (0.01 * 0.1)
    assert "warning: weights are forgotten over 1 / (lr x weight_decay) = 1,000 steps, longer than" in command.out


@pytest.mark.parametrize("options", ["--optimizer=Adam --optimizer.weight_decay=0.1", "--optimizer.momentum=0.9"])
def test_a_weight_decay_that_acts_in_another_way_is_left_out(command, options):
    decay = [] if "Adam" in options else ["--optimizer.weight_decay=0.1"]
    run = ["preview", "--png=null", "--theory", "--lr_scheduler=Linear"]
    assert command(*run, *options.split(), *decay) == 0
    assert "weight decay left out" in " ".join(command.out.split())
    groups = "{weight_decay: {class_path: Linear}}"
    assert command(*run, "--optimizer=AdamW", "--optimizer.weight_decay=0.1", "--lr_groups", groups) == 0
    assert "weight decay left out" in " ".join(command.out.split())  # a schedule drives it as well


def test_torch_schedulers_epochs_and_metrics():
    horizon = Horizon(5000, 10)
    views = {
        "ours": View.of(plan_of(Cosine(), horizon, "epoch")),
        "torch": View.of(plan_of_torch(lambda one: torch.optim.lr_scheduler.CosineAnnealingLR(one, 500), horizon)),
        "plateau": View.of(plan_of(Plateau(factor=0.1, patience=1), horizon, metric=[1.0] * 500)),
        "constant": View.of(plan_of(Constant(), horizon)),
    }
    found = best_peaks(views)
    # a stair of 500 is nearly the curve
    assert found["torch"] == pytest.approx(1, rel=1e-3)
    assert found["constant"] == pytest.approx(transfer(Cosine(), Constant(), horizon), rel=0.02)
    cut = convex_bound(lambda step, _: views["plateau"].plan.at(step)["factor"], horizon).peak
    assert found["plateau"] / found["ours"] == pytest.approx(cut / convex_bound(Cosine(), horizon).peak, rel=0.02)


def test_a_rate_of_zero_has_no_theory():
    views = {"none": View.of(plan_of(Constant(0.0), Horizon(9))), "some": View.of(plan_of(Linear(), Horizon(9)))}
    assert best_peaks(views) == {"none": None, "some": None}
    told = theory(views)
    assert [list(column.cells) for column in told.table.columns] == [["none", "some"], *[["-", "-"]] * 4]
    assert told.findings == []


def test_the_python_of_the_document_works(in_tmp):
    first, second = re.findall(r"```python\n(.*?)```", (DOCS / "theory.md").read_text(), flags=re.DOTALL)
    found: dict = {}
    exec(first, found)
    assert found["factor"] == pytest.approx(3.3, abs=0.05)
    memory = found["memory"]
    assert (round(memory.last_tenth, 3), f"{memory.effective:,.0f}", memory.warning) == (0.013, "8,171", None)
    exec(second, found)
    assert Path("refined.yaml").read_text().startswith("lr_scheduler:\n  class_path: lit_lrsched.Piecewise")
