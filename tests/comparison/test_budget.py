"""A race with a budget: who trains next, what the looks at the test data cost, and that it goes on as it began."""

from __future__ import annotations

import json
import runpy
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer

from lit_lrsched import Constant, Cosine, IonosphereClassifier, IonosphereDataModule, compare
from lit_lrsched.comparison.budget import check_budget, spend
from lit_lrsched.comparison.engine.vectorized import VectorizedRace
from lit_lrsched.comparison.evidence.looks import EARLY_SEEDS, LEAST_SEEDS, judge, shares_of
from lit_lrsched.comparison.evidence.power import least_seeds
from lit_lrsched.comparison.evidence.runs import Run, RunKey
from lit_lrsched.comparison.evidence.significance import differences_from
from lit_lrsched.comparison.evidence.summary import summarize
from lit_lrsched.comparison.evidence.verdict import spending_in_words, verdict
from lit_lrsched.comparison.records import RecordStore, _read
from lit_lrsched.errors import InputError

SCRIPT = Path(__file__).parents[2] / "scripts" / "budget_errors.py"
repeatable = settings(derandomize=True, deadline=None, max_examples=40)


class Track:
    """Trains by looking up what a run of a setting reaches, and remembers what it was asked for."""

    def __init__(self, levels: dict[str, dict[float, float]], noise: float = 0.1, seeds: int = 24) -> None:
        self.keys = [RunKey(name, lr, 0.0, 0.0, s) for name, lrs in levels.items() for lr in lrs for s in range(seeds)]
        rng = np.random.default_rng(0)
        draws = {key: noise * rng.normal(size=2) for key in self.keys}
        self._runs = {k: Run(k, *(levels[k.schedule][k.lr] + draw).tolist()) for k, draw in draws.items()}
        self.rounds: list[list[RunKey]] = []

    def __call__(self, keys: Sequence[RunKey]) -> list[Run]:
        self.rounds.append(list(keys))
        return [self._runs[key] for key in keys]

    @property
    def runs(self) -> list[Run]:
        return [self._runs[key] for keys in self.rounds for key in keys]


def test_what_is_clearly_worse_leaves_and_the_rest_goes_on() -> None:
    track = Track({"good": {0.1: 0.0, 0.3: 1.0}, "bad": {0.1: 0.0, 0.3: 0.5}})
    standing = spend(track.keys, 60, track, mode="max", patterns=999)
    first, second = track.rounds[:2]
    # Both rates have two seeds; 0.1 is ten standard deviations of a run behind and leaves. With nothing left to tune,
    # both schedules go on to the first look at 12 seeds: 8 + 2 * 10 trainings. There one is told from the other.
    assert first == [k for k in track.keys if k.seed < 2]
    assert second == [k for k in track.keys if 2 <= k.seed < 12 and k.lr == 0.3]
    assert len(track.rounds) == 2
    assert standing.tied == ("good",)
    assert standing.chosen == {name: (name, 0.3, 0.0, 0.0) for name in ("good", "bad")}
    spending = standing.spending
    assert (spending.trainings, spending.full, spending.ended) == (28, 48, "settled")
    assert [each.settings for each in spending.rounds] == [
        ("good (lr 0.1)", "bad (lr 0.1)"),
        (),
    ]
    assert [each.schedules for each in spending.rounds] == [(), ("bad",)]
    # 0.3 is the highest rate, so that the verdict is not settled.
    assert spending_in_words(spending)[0].endswith("the full grid with 12 seeds takes 48. One schedule is left.")


def test_the_p_of_a_look_is_that_of_its_share() -> None:
    track = Track({"one": {0.1: 0.0, 0.3: 0.5}, "two": {0.1: 0.0, 0.3: 0.46}})
    standing = spend(track.keys, 56, track, mode="max", patterns=999)
    assert standing.spending.rounds[-1].seeds == 24
    values = [
        np.array([run.test for run in track.runs if run.key.setting == (n, 0.3, 0.0, 0.0)]) for n in ("one", "two")
    ]
    (alone,) = differences_from(values[0], [values[1]], picked=True, patterns=999)
    (strict,) = differences_from(values[0], [values[1]], picked=True, alpha=0.05 * 0.5, patterns=999)
    found = standing.judgement.against_best["two"]
    assert found.p_corrected == pytest.approx(min(1.0, alone.p_corrected / 0.5))
    assert (found.low, found.high) == (strict.low, strict.high)


@pytest.mark.parametrize(("looks", "tuned"), list(product(range(1, 6), [False, True])))
def test_the_looks_share_no_more_than_there_is(looks: int, tuned: bool) -> None:
    shares = shares_of(looks, tuned)
    assert len(shares) == looks
    assert sum(shares) == pytest.approx(0.6 if tuned else 1.0)
    assert shares[-1] == max(shares)


def test_a_look_can_decide() -> None:
    assert least_seeds(0.05 * shares_of(1, tuned=True)[-1]) <= LEAST_SEEDS
    assert least_seeds(0.05 * shares_of(3, tuned=True)[0]) <= EARLY_SEEDS


def test_a_p_never_exceeds_one() -> None:
    values = {"one": np.array([0.1, -0.1] * 4), "two": np.zeros(8)}
    assert judge(values, None, alpha=0.05, share=0.05).against_best["two"].p_corrected == 1.0


@st.composite
def tracks(draw: st.DrawFn) -> tuple[Track, int]:
    level = st.floats(-1.0, 1.0)
    names, rates = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    levels = {str(i): {10.0**j: draw(level) for j in range(rates)} for i in range(names)}
    seeds = draw(st.integers(8, 26))
    track = Track(levels, draw(st.sampled_from([0.01, 0.5])), seeds)
    least = 2 * names * rates + 6 * names
    return track, draw(st.integers(least, max(least, names * rates * seeds)))


@given(tracks())
@repeatable
def test_any_race_keeps_to_its_budget(drawn: tuple[Track, int]) -> None:
    track, budget = drawn
    standing = spend(track.keys, budget, track, mode="max", patterns=199)
    asked = [key for keys in track.rounds for key in keys]
    assert len(asked) == len(set(asked)) == standing.spending.trainings <= budget
    assert set(asked) <= set(track.keys)
    assert sum(each.trainings for each in standing.spending.rounds) == len(asked)
    # A setting has the first seeds without a gap, and the one that stands for a schedule those that judged it.
    for setting in {key.setting for key in asked}:
        seeds = [key.seed for key in asked if key.setting == setting]
        assert seeds == list(range(len(seeds)))
    for name, setting in standing.chosen.items():
        assert standing.seeds[name] == tuple(key.seed for key in asked if key.setting == setting)
    # The same runs, asked for once more, give the same race.
    rounds, track.rounds = track.rounds, []
    assert spend(track.keys, budget, track, mode="max", patterns=199).tied == standing.tied
    assert track.rounds == rounds
    # Nothing that is better than another on the map was passed over, and the words can be said.
    summary = summarize(track.runs, metric="test_acc", mode="max", standing=standing)
    assert all(map(str, verdict(summary)))
    assert summary.tied == standing.tied
    assert {row.schedule: row.seeds for row in summary.schedules} == {n: len(s) for n, s in standing.seeds.items()}


def test_where_everything_diverges_nothing_is_judged() -> None:
    keys = [RunKey(name, lr, 0.0, 0.0, seed) for name in "ab" for lr in (0.1, 0.3) for seed in range(24)]
    standing = spend(keys, 60, lambda asked: [Run(key, 0.0, 0.0, diverged=True) for key in asked], mode="max")
    assert standing.tied == ()
    assert spending_in_words(standing.spending)[0].endswith(" No schedule is left.")
    runs = [Run(key, 0.0, 0.0, diverged=True) for key in keys if key.seed < standing.spending.rounds[-1].seeds]
    assert summarize(runs, metric="test_acc", mode="max", standing=standing).best is None


def test_a_diverging_schedule_is_out_and_the_others_race_on() -> None:
    track = Track({"fine": {0.1: 0.5}, "also": {0.1: 0.5}, "wild": {0.1: 0.5}})

    def train(keys: Sequence[RunKey]) -> list[Run]:
        return [Run(r.key, r.validation, r.test, r.key.schedule == "wild") for r in track(keys)]

    standing = spend(track.keys, 60, train, mode="max")
    assert set(standing.tied) == {"fine", "also"}
    assert (standing.spending.rounds[0].schedules, standing.spending.rounds[0].out) == ((), ("wild",))
    assert "Every run of wild diverged: it left after 12 seeds." in spending_in_words(standing.spending)
    assert not any("told from the best" in sentence for sentence in spending_in_words(standing.spending))


@pytest.mark.parametrize(
    ("budget", "seeds", "told"),
    [(19, 20, "2 seeds for each of 4 settings and 6 more for each of 2 schedules take 20"), (20, 7, "at least 8")],
)
def test_what_cannot_decide_is_refused(budget: int, seeds: int, told: str) -> None:
    keys = [RunKey(name, lr, 0.0, 0.0, seed) for name in "ab" for lr in (0.1, 0.3) for seed in range(seeds)]
    with pytest.raises(InputError, match=told):
        check_budget(keys, budget)


def test_several_processes_are_refused(tmp_path: Path) -> None:
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False)
    with pytest.raises(InputError, match="in one process, and the trainer has 2"):
        race(tmp_path / "none", trainer=trainer)
    assert not (tmp_path / "none").exists()


def test_simulated_races_err_and_find_as_the_documentation_says() -> None:
    script = runpy.run_path(str(SCRIPT), run_name="budget_errors")
    rng = np.random.default_rng(3)
    share = script["SHARE_OF_FULL"]
    copies, leads = script["Scenario"]("copies", 4, 0.0, copies=True), script["Scenario"]("leads", 4, 2.0)
    right = {copies: [0, 0], leads: [0, 0]}
    for scenario, _ in product(right, range(25)):
        metrics = script["metrics_of"](script["means_of"](scenario, rng), script["SEEDS_OF_A_BUDGET"], rng)
        budget = script["with_budget"](*metrics, int(share * scenario.full))
        assert budget.trainings <= share * scenario.full
        right[scenario][0] += script["right"](scenario, script["full_grid"](*metrics))
        right[scenario][1] += script["right"](scenario, budget)
    assert right[copies][1] >= 22  # of 25; were the chance of an alarm 5 %, fewer in 3 of 100 such tests
    assert right[leads][1] >= right[leads][0] - 2


def race(folder: Path, **options: object):
    schedules = {"constant": Constant(), "none": Constant(1e-4), "cosine": Cosine()}
    options = {"lrs": [0.003, 0.1, 0.3], "momenta": [0.9], "epochs": 3, "budget": 70, **options}
    return compare(IonosphereClassifier, IonosphereDataModule, schedules, folder=folder, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("budget")
    return folder, race(folder)


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("results.csv", "curves.npz")}


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("kept", [pytest.param(5, marks=pytest.mark.exhaustive), 40])
def test_a_race_that_was_cut_off_makes_the_same_decisions(finished, tmp_path, kept):
    folder, whole = finished
    stored, _ = _read(folder)
    store = RecordStore(tmp_path, whole.results.records[0].metrics, stored.definition)
    store.append([stored.records[key] for key in sorted(stored.records)[::-1][:kept]])
    again = race(tmp_path)
    assert again.results.trained < whole.results.trained
    assert files(tmp_path) == files(folder)
    assert again.summary == whole.summary


def test_the_report_says_what_left_and_when(finished):
    folder, whole = finished
    spending = whole.summary.spending
    assert "none" not in whole.summary.tied
    assert len(whole.results.records) == spending.trainings <= 70 < spending.full
    written = json.loads((folder / "summary.json").read_text())
    assert written["spending"]["rounds"][0]["settings"] == list(spending.rounds[0].settings)
    assert "What left and when" in (folder / "report.html").read_text()


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_rounds_share_a_program_and_train_what_the_full_grid_would(finished, tmp_path, monkeypatch):
    _, whole = finished
    built, original = [], VectorizedRace.__init__
    monkeypatch.setattr(VectorizedRace, "__init__", lambda *a, **k: (built.append(1), original(*a, **k))[1])
    same = race(tmp_path / "budget", budget=60)
    assert len(same.summary.spending.rounds) > 1
    assert built == [1]
    full = race(tmp_path / "full", budget=None, seeds=2)
    metrics = {record.key: record.metrics for record in full.results.records}
    assert [r.metrics for r in whole.results.records if r.key in metrics] == [*metrics.values()]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_command_finds_a_planted_winner_and_goes_on_with_more(command):
    Path("race.yaml").write_text(
        "schedules: {cosine: Cosine, none: {class_path: Constant, init_args: {factor: 0.0001}}}\n"
    )
    options = ["--config=race.yaml", "--lrs=[0.01,0.1,0.3]", "--momenta=[0.9]", "--trainer.max_epochs=3"]
    assert command("compare", *options, "--budget=20") == 2
    assert "2 seeds for each of 6 settings and 6 more for each of 2 schedules take 24" in command.err
    assert not Path("lightning_logs").exists()
    assert command("compare", *options, "--budget=30") == 0
    assert "At most 30 trainings: 2 schedules x 3 rates x 1 momentum x up to 24 seeds, 3 epochs each." in command.out
    assert "of a budget of 30; the full grid with" in command.out
    (folder,) = Path("lightning_logs").iterdir()
    before = set((folder / "results.csv").read_text().splitlines())
    assert command("compare", *options, "--budget=60") == 0
    assert list(Path("lightning_logs").iterdir()) == [folder]
    assert before <= set((folder / "results.csv").read_text().splitlines())
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["tied"] == ["cosine"]
    assert max(map(len, command.out.splitlines())) <= 100
