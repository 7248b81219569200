"""The evidence page: its statistics against scipy, what they conclude, and the script on two tasks."""

from __future__ import annotations

import csv
import doctest
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, trim_mean

from lit_lrsched.comparison import race

pytest.importorskip("sklearn")

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "scripts"))
import evidence  # noqa: E402
import evidence_over_tasks  # noqa: E402
import evidence_statistics as statistics  # noqa: E402
from evidence_tasks import TASKS  # noqa: E402

TWO = ("iris", "diabetes")
THREE = ("Constant", "Linear", "Cosine")


@pytest.fixture
def scores():
    """Of 5 tasks, 3 schedules and 6 seeds; rounded, so that there are ties."""
    return np.random.default_rng(0).normal(size=(5, 3, 6)).round(1)


@pytest.mark.parametrize("module", [statistics, evidence_over_tasks])
def test_the_examples_hold(module):
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS)[0] == 0


def test_the_interquartile_mean_is_that_of_all_runs_of_all_tasks(scores):
    expected = [trim_mean(scores[:, i], 0.25, axis=None) for i in range(3)]
    assert statistics.interquartile_mean(scores) == pytest.approx(expected)
    assert statistics.interquartile_mean(scores[None])[0] == pytest.approx(expected)


def test_the_probability_of_improvement_is_mann_whitneys(scores):
    x, y = scores[:, 0], scores[:, 1]
    expected = [mannwhitneyu(a, b).statistic / 36 for a, b in zip(x, y, strict=True)]
    assert statistics.probability_of_improvement(x, y) == pytest.approx(expected)


def test_a_profile_counts_the_runs_above(scores):
    low, middle, high = statistics.performance_profile(scores, [-9.0, 0.0, 9.0]).T
    assert (low.tolist(), high.tolist()) == ([1, 1, 1], [0, 0, 0])
    assert middle == pytest.approx([(scores[:, i] > 0).sum() / 30 for i in range(3)])


def test_seeds_are_drawn_within_their_task_and_for_all_schedules_at_once():
    task, seed = np.meshgrid(range(5), range(6), indexing="ij")
    scores = np.stack([100 * task + seed, 100 * task + seed + 1000], axis=1).astype(float)
    drawn = statistics.with_other_seeds(scores, draws=50)
    assert (drawn[:, :, 1] - drawn[:, :, 0] == 1000).all()
    assert (drawn[:, :, 0] // 100 == np.arange(5)[:, None]).all()
    assert np.unique(drawn[:, :, 0] % 100).tolist() == list(range(6))
    assert not (drawn[0] == drawn[1]).all()


def test_tasks_are_drawn_whole(scores):
    drawn = statistics.with_other_tasks(scores, draws=50)
    assert all(any((one == task).all() for task in scores) for one in drawn.reshape(-1, 3, 6))


@pytest.fixture(scope="module")
def raced(tmp_path_factory):
    """What the script finds on two tasks with three schedules, two seeds and one epoch, and where its page is."""
    folder, before = tmp_path_factory.mktemp("evidence"), (ROOT / "README.md").read_bytes()
    all_schedules, write, found = evidence.schedules_for, evidence.write, []
    with pytest.MonkeyPatch.context() as patch:
        options = ["--tasks", ",".join(TWO), "--seeds", "2", "--epochs", "1", "--folder", str(folder)]
        patch.setattr(sys, "argv", ["evidence.py", *options])
        patch.setattr(evidence, "schedules_for", lambda epochs: {name: all_schedules(epochs)[name] for name in THREE})
        patch.setattr(evidence, "write", lambda *of: (found.append(of[0]), write(*of)))
        patch.setattr(race, "write_report", lambda *of: None)  # takes longer than the trainings, and has its own tests
        evidence.main()
    assert (ROOT / "README.md").read_bytes() == before
    return found[0], folder


def test_two_tasks_make_a_page(raced):
    page = (raced[1] / "evidence.md").read_text()
    for name in (*TWO, *THREE):
        assert f"\n| {name} |" in page
    assert "Nothing can be told apart" in page  # two tasks cannot
    assert f"{2 * len(THREE) * 5 * 2} trainings on " in page
    assert {path.name for path in (raced[1] / "img").iterdir()} == {"evidence.png", "evidence_profiles.png"}
    assert all(len(line) <= 120 for line in page.splitlines() if not line.startswith("|"))


def test_scores_are_those_worked_out_from_the_tables_of_the_races(raced):
    found, folder = raced
    with (folder / "diabetes" / "results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["diverged"] == "False"]
    tuned = []
    for name in THREE:
        runs = [row for row in rows if row["schedule"] == name]
        by_rate = [[row for row in runs if row["lr"] == lr] for lr in {row["lr"] for row in runs}]
        best = min(by_rate, key=lambda runs: sum(float(row["val_error"]) for row in runs))
        tuned.append([float(row["test_error"]) for row in best])
    errors = np.array(tuned)
    assert found.scores[TWO.index("diabetes")] == pytest.approx((errors[0] - errors) / errors[0].mean(), abs=1e-5)


def test_what_is_clear_is_told_apart_and_what_is_luck_is_not(raced):
    noise = 0.01 * np.random.default_rng(0).normal(size=(12, 3, 6))
    alike = evidence_over_tasks.Evidence(raced[0].raced, minutes=1)
    alike.scores = noise
    assert "Nothing can be told apart" in alike.answer
    assert alike.answer.startswith(f"**Try {alike.rows[0].schedule} first**, or ")
    assert "one of these leads in" in alike.answer

    clear = evidence_over_tasks.Evidence(raced[0].raced, minutes=1)
    clear.scores = noise + 0.3 * (np.array(THREE) == "Cosine")[:, None]
    best, *others = clear.rows
    assert clear.answer.startswith(
        "**Try Cosine first.** It leads in 100 % of resampled sets of tasks. Cosine makes 30 %"
    )
    assert "Better than a constant rate beyond chance: Cosine." in clear.answer
    assert clear.answer.endswith("Worse than Cosine beyond chance: Linear and Constant.") or clear.answer.endswith(
        "Worse than Cosine beyond chance: Constant and Linear."
    )
    assert best.gain == pytest.approx(0.3, abs=0.02)
    assert (best.first, best.improvement) == (1, 1)
    assert best.by_seeds[0] < best.gain < best.by_seeds[1]
    assert all(row.told_apart for row in others)


def test_the_page_has_every_task_and_schedule_and_the_readme_its_answer():
    page, readme = ((ROOT / name).read_text() for name in ("docs/evidence.md", "README.md"))
    for task in TASKS:
        assert f"\n| {task} |" in page
        assert f"\n- *{task}* (" in page
    for schedule in evidence.schedules_for(1):
        assert f"\n| {schedule} |" in page
    (answer,) = [part for part in page.split("\n\n") if part.startswith("**Try")]
    assert " ".join(answer.split()) in " ".join(readme.split())
