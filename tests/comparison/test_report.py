from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import math
import random
import re
import xml.etree.ElementTree as ET
from base64 import b64encode
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lit_lrsched import Constant, Cosine, Horizon, Linear, Rex, table
from lit_lrsched.comparison import records as records_module
from lit_lrsched.comparison import report
from lit_lrsched.comparison.evidence.runs import Mode, RunKey, mean_curve, worst_value
from lit_lrsched.comparison.evidence.summary import Splits, Summary, summarize
from lit_lrsched.comparison.evidence.tuning_gain import tuning_gain
from lit_lrsched.comparison.evidence.verdict import overlap_in_words, verdict
from lit_lrsched.comparison.export import export_best
from lit_lrsched.comparison.grid import Grid
from lit_lrsched.comparison.racing_optimizer import given as given_optimizer
from lit_lrsched.comparison.records import Record, RecordStore
from lit_lrsched.comparison.report.event_files import write_event_files
from lit_lrsched.comparison.report.page import page
from lit_lrsched.comparison.report.pictures import forest_plot, spread, write_pictures
from lit_lrsched.comparison.report.results import Results, learning_curves
from lit_lrsched.comparison.report.terminal import show
from lit_lrsched.comparison.report.words import decimals
from lit_lrsched.comparison.report.write import summary_dict, write_report
from lit_lrsched.errors import InputError
from lit_lrsched.plans.numbers import number
from lit_lrsched.schedules.custom import halve_every_epoch
from lit_lrsched.theory import convex_bound, transfer
from tests.reading import run_folder, scalar_tags, scalars

SCHEDULES = {"constant": Constant(), "cosine": Cosine(), "rex": Rex(), "linear": Linear(end=0.5)}
METRICS = ["val_acc", "val_loss", "test_acc"]


def record(
    name: str, lr: float, momentum: float, seed: int, curve: Sequence[float], test: float, diverged: bool = False
) -> Record:
    curve = np.array(curve, dtype=float)
    metrics = {"val_acc": float(curve[-1]), "val_loss": 1 - float(curve[-1]), "test_acc": test}
    return Record(RunKey(name, lr, momentum, 0.0, seed), metrics, {"val_acc": curve, "val_loss": 1 - curve}, diverged)


def race(
    names: Sequence[str] = tuple(SCHEDULES),
    lrs: Sequence[float] = (0.1, 0.3),
    momenta: Sequence[float] = (0.0, 0.9),
    seeds: int = 7,
    epochs: int = 4,
    gap: float = 0.05,
    diverged: int = 0,
) -> list[Record]:
    """Each name is better than the one before; the last rate of the last momentum loses its first seeds."""
    rng = np.random.default_rng(0)
    found = []
    for place, name in enumerate(names):
        for lr in lrs:
            for momentum in momenta:
                for seed in range(seeds):
                    level = 0.6 + gap * place + 0.02 * lr + 0.002 * rng.normal()
                    curve = level - 0.3 * 0.5 ** np.arange(1, epochs + 1)
                    broke = seed < diverged and lr == lrs[-1] and momentum == momenta[-1]
                    if broke:
                        curve[1:] = math.nan
                    test = math.nan if broke else level + 0.002 * rng.normal()
                    found.append(record(name, lr, momentum, seed, curve, test, broke))
    return found


def results(records: Sequence[Record], reference: str | None = "constant", mode: Mode = "max") -> Results:
    epochs = max(len(record.curves.get("val_acc", [1])) for record in records)
    names = dict.fromkeys(record.key.schedule for record in records)
    runs = [r.run("val_acc", "test_acc") for r in records]
    summary = summarize(runs, metric="test_acc", mode=mode, reference=reference)
    return Results(
        records=records,
        summary=summary,
        gain=tuning_gain(runs, summary, lr=0.1, momentum=0.0),
        validation_metric="val_acc",
        factors={name: table(SCHEDULES.get(name, Cosine()), Horizon(epochs)) for name in names},
        best_peaks={name: convex_bound(SCHEDULES.get(name, Cosine()), Horizon(100)).peak for name in names},
        epochs=epochs,
        model="Net",
        data="Rows",
        optimizer="SGD",
        opening="Optimizer: Net's own SGD; peak rates 0.1, 0.3. The peak rates are the first param group's.",
        engine="vectorized",
        reason="training_step is pure",
        machine="2 CPU cores",
        seconds=2.0,
        trained=len(records),
        command="lit-lrsched compare --model 'my.Net'",
        version="1.2.3",
        date="2026-01-31",
    )


def one_seed() -> list[Record]:
    return race(seeds=1)


def all_diverged() -> list[Record]:
    return [record(name, 0.1, 0.0, seed, [0.5, math.nan], math.nan, True) for name in ("a", "b") for seed in range(3)]


def one_out() -> list[Record]:
    return race(["constant", "cosine"], seeds=3) + [
        record("gone", lr, m, seed, [0.5, math.nan, math.nan, math.nan], math.nan, True)
        for lr in (0.1, 0.3)
        for m in (0.0, 0.9)
        for seed in range(3)
    ]


def without_curves() -> list[Record]:
    return [dataclasses.replace(record, curves={}) for record in race(seeds=3)]


def hostile() -> list[Record]:
    names = ["<script>alert(1)</script>", "a\"&'b", "$\\frac$", "\u6f22\u5b57 \U0001f600", "x" * 90]
    return race(names, seeds=3)


def exploding() -> list[Record]:
    found = race(["constant", "cosine"], seeds=3, momenta=(0.0,))
    return [
        *found,
        *(record("wild", lr, 0.0, seed, [-1e30, -1e25, -1e300, -1e6], -1e30) for lr in (0.1, 0.3) for seed in range(3)),
    ]


def tiny() -> list[Record]:
    """The errors of a network that solves a differential equation, say."""
    return [
        record(each.key.schedule, each.key.lr, 0.0, each.key.seed, -1e-8 * each.curves["val_loss"], -1e-8 * error)
        for each in race(["constant", "cosine"], momenta=(0.0,))
        if (error := 1 - each.metrics["test_acc"])
    ]


def equal() -> list[Record]:
    return [record(name, lr, 0.0, seed, [0.8], 0.8) for name in ("a", "b") for lr in (0.1, 0.3) for seed in range(7)]


SHAPES = {
    "whole": partial(race, diverged=2),
    "one momentum": partial(race, momenta=(0.0,)),
    "one rate": partial(race, lrs=(0.1,)),
    "one schedule": partial(race, ["cosine"]),
    "many schedules": partial(race, [f"schedule{i}" for i in range(13)], seeds=2, gap=0.001),
    "one seed": one_seed,
    "all diverged": all_diverged,
    "one out": one_out,
    "no curves": without_curves,
    "hostile names": hostile,
    "exploding": exploding,
    "tiny": tiny,
    "all equal, one epoch": equal,
}


@pytest.fixture(params=SHAPES)
def any_race(request: pytest.FixtureRequest) -> Results:
    found = SHAPES[request.param]()
    return results(found, "constant" if any(r.key.schedule == "constant" for r in found) else None)


# --- Records on disk --------------------------------------------------------------------------------------------------


def same(left: Record, right: Record) -> bool:
    return (
        left.key == right.key
        and left.diverged == right.diverged
        and str(dict(left.metrics)) == str(dict(right.metrics))  # nan is nan
        and left.curves.keys() == right.curves.keys()
        and all(np.array_equal(left.curves[name], right.curves[name], equal_nan=True) for name in left.curves)
    )


def final_files(folder: Path, chunks: Sequence[Sequence[Record]]) -> tuple[bytes, bytes]:
    store = RecordStore(folder, METRICS)
    for chunk in chunks:
        store.append(chunk)
    store.finish()
    assert {path.name for path in folder.iterdir()} == {"results.csv", "curves.npz"}
    return (folder / "results.csv").read_bytes(), (folder / "curves.npz").read_bytes()


def chunked(records: Sequence[Record], size: int) -> list[Sequence[Record]]:
    return [records[i : i + size] for i in range(0, len(records), size)]


def test_what_is_written_is_read_back_exactly(tmp_path: Path) -> None:
    written = race(seeds=2, diverged=1)
    values = [0.1 + 0.2, 1e-310, math.inf, -math.inf, math.nan, 1 / 3]
    for i, value in enumerate(values):
        written.append(record('a, "b"; \u00e9', value if 0 < value < 1 else 0.1, 0.0, 50 + i, [value, 0.25], value))
    store = RecordStore(tmp_path, METRICS)
    store.append(written)
    for read in (RecordStore(tmp_path, METRICS).finish(), RecordStore(tmp_path, METRICS).finish()):
        expected = sorted(written, key=lambda record: record.key)
        assert all(same(a, b) for a, b in zip(read, expected, strict=True))


def test_final_files_depend_on_the_runs_alone(tmp_path: Path) -> None:
    found = race(seeds=3, diverged=1)
    files = final_files(tmp_path / "a", chunked(found, 16))
    shuffled = found.copy()
    random.Random(0).shuffle(shuffled)
    assert final_files(tmp_path / "b", chunked(shuffled, 5)) == files
    rows = list(csv.DictReader(io.StringIO(files[0].decode())))
    key = ["schedule", "lr", "momentum", "weight_decay", "seed"]
    assert list(rows[0]) == [*key, "val_acc", "val_loss", "test_acc", "diverged"]
    assert rows == sorted(
        rows, key=lambda row: (row["schedule"], float(row["lr"]), float(row["momentum"]), int(row["seed"]))
    )
    arrays = np.load(io.BytesIO(files[1]))
    assert arrays["schedule"].tolist() == [row["schedule"] for row in rows]
    assert arrays["val_acc"].shape == (len(rows), 4)


@pytest.mark.parametrize("damage", ["cut", "flip"])
@pytest.mark.parametrize("victim", ["results.csv", "parts/000001.npz", "parts/000002.npz", "curves.npz"])
def test_damage_at_any_byte_is_trained_again_or_refused(
    tmp_path: Path, run_all: bool, victim: str, damage: str
) -> None:
    """Three chunks: one in ``curves.npz``, by an earlier race, and two in parts."""
    chunks = chunked(race(["constant", "cosine"], momenta=(0.0,), seeds=3, epochs=2), 4)
    expected = final_files(tmp_path / "whole", chunks)
    folder = tmp_path / "damaged"
    final_files(folder, chunks[:1])
    store = RecordStore(folder, METRICS)
    for chunk in chunks[1:]:
        store.append(chunk)
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    content = files[folder / victim]
    places = list(range(len(content)))
    for place in places if run_all else random.Random(0).sample(places, 25):
        for path, whole in files.items():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(whole)
        flipped = bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :]
        (folder / victim).write_bytes(content[:place] + (flipped if damage == "flip" else b""))
        refused = ""
        try:
            store = RecordStore(folder, METRICS)
        except InputError as error:
            refused = str(error)
        if refused:
            assert victim == "curves.npz"
            assert "curves.npz is damaged" in refused
            continue
        lost = {record.key for chunk in chunks for record in chunk} - store.done
        in_victim = {"parts/000001.npz": chunks[1], "parts/000002.npz": chunks[2]}.get(victim, [])
        assert lost in (set(), {record.key for record in in_victim})
        store.append([record for chunk in chunks for record in chunk if record.key in lost])
        store.finish()
        assert ((folder / "results.csv").read_bytes(), (folder / "curves.npz").read_bytes()) == expected


class Killed(BaseException):
    pass


def test_a_kill_between_any_two_writes_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = chunked(race(["constant", "cosine"], momenta=(0.0,), seeds=3, epochs=2), 5)
    expected = final_files(tmp_path / "whole", chunks)
    left = math.inf

    def dying(function):
        def wrapped(*args, **kwargs):
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return function(*args, **kwargs)

        return wrapped

    for module, name in (
        (records_module.os, "fsync"),
        (records_module.os, "replace"),
        (records_module.shutil, "rmtree"),
    ):
        monkeypatch.setattr(module, name, dying(getattr(module, name)))
    moments = 0
    while True:
        folder = tmp_path / str(moments)
        left = moments
        moments += 1
        kept = []
        try:
            store = RecordStore(folder, METRICS)
            for chunk in chunks:
                store.append(chunk)
                kept += [record.key for record in chunk]
            store.finish()
        except Killed:
            left = math.inf
        else:
            break
        store = RecordStore(folder, METRICS)
        assert store.done >= set(kept)
        todo = [record for chunk in chunks for record in chunk if record.key not in store.done]
        assert final_files(folder, chunked(todo, 4)) == expected
    assert moments > 10


def test_runs_whose_part_is_gone_are_trained_again(tmp_path: Path) -> None:
    first, second = chunked(race(["constant"], momenta=(0.0,), seeds=4), 4)
    store = RecordStore(tmp_path, METRICS)
    store.append(first)
    store.append(second)
    (tmp_path / "parts" / "000002.npz").unlink()
    assert RecordStore(tmp_path, METRICS).done == {record.key for record in first}


def test_metrics_may_have_the_names_of_columns(tmp_path: Path) -> None:
    store = RecordStore(tmp_path, ["lr", "file"])
    written = Record(
        RunKey("a", 0.3, 0.0, 0.0, 1),
        {"lr": 0.1, "file": 0.5},
        {"lr": np.array([0.3, 0.1]), "file": np.array([0.4, 0.5])},
    )
    store.append([written])
    (read,) = RecordStore(tmp_path, ["lr", "file"]).finish()
    assert same(read, written)
    assert np.load(tmp_path / "curves.npz")["logged_lr"].tolist() == [[0.3, 0.1]]


def test_runs_may_log_other_metrics_than_the_first(tmp_path: Path) -> None:
    store, keys = RecordStore(tmp_path, ["acc", "of_class_3"]), [RunKey("a", 0.3, 0.0, 0.0, seed) for seed in range(2)]
    store.append([Record(keys[0], {"acc": 0.5, "of_class_3": 0.1}, {})])
    store.append([Record(keys[1], {"acc": 0.6, "of_class_4": 0.2}, {})])
    for found in (RecordStore(tmp_path, ["acc", "of_class_3"]), store):
        _, other = found.finish()
        assert other.metrics == pytest.approx({"acc": 0.6, "of_class_3": math.nan}, nan_ok=True)


def test_mistakes_are_told_in_one_line(tmp_path: Path) -> None:
    store = RecordStore(tmp_path, METRICS)
    store.append([record("a", 0.1, 0.0, 0, [0.5], 0.5)])
    with pytest.raises(InputError, match="give it a folder of its own"):
        RecordStore(tmp_path, ["val_f1"])
    other = tmp_path / "other"
    other.mkdir()
    (other / "results.csv").write_text("name,grade\nAda,1\n")
    with pytest.raises(InputError, match=r"results.csv has the columns name, grade, and the runs have schedule, lr, "):
        RecordStore(other, METRICS)
    assert (other / "results.csv").read_text() == "name,grade\nAda,1\n"


# --- Numbers ----------------------------------------------------------------------------------------------------------


def test_courses_are_the_means_that_were_judged() -> None:
    found = results(race(seeds=5, diverged=2))
    runs = [r.run("val_acc", "test_acc") for r in found.records]
    worst = worst_value(runs, "max")
    assert worst is not None
    for curve in learning_curves(found):
        row = curve.schedule
        members = [r for r in runs if r.key.setting == row.key]
        assert curve.mean == pytest.approx(mean_curve(members, worst))
        assert curve.mean[-1] == pytest.approx(row.validation)
        assert curve.rates == pytest.approx([row.lr * factor for factor in found.factors[row.schedule]])


def test_bands_are_quartiles_and_a_diverged_run_counts_as_the_worst() -> None:
    tails = [0.5, 0.6, 0.7, 0.8]
    found = [record("constant", 0.1, 0.0, seed, [0.4, tail], 0.7) for seed, tail in enumerate(tails)]
    found += [record("constant", 0.1, 0.0, 4, [0.4, math.nan], math.nan, True)]
    (curve,) = learning_curves(results(found))
    # Sorted, with 0.4 for the diverged one: 0.4 0.5 0.6 0.7 0.8, whose quartiles are the second and the fourth.
    assert (curve.low[1], curve.mean[1], curve.high[1]) == pytest.approx((0.5, 0.6, 0.7))


def test_a_curve_that_stopped_early_keeps_its_last_value() -> None:
    found = [record("constant", 0.1, 0.0, 0, [0.5, 0.6], 0.7), record("cosine", 0.1, 0.0, 0, [0.5, 0.6, 0.7, 0.9], 0.8)]
    assert [curve.mean.tolist() for curve in learning_curves(results(found))] == [
        [0.5, 0.6, 0.7, 0.9],
        [0.5, 0.6, 0.6, 0.6],
    ]
    # One that broke down early counts as the worst from then on: 0.5.
    found[0] = dataclasses.replace(found[0], diverged=True)
    found += [record(name, 0.1, 0.0, 1, [0.5, 0.7, 0.7, 0.7], 0.7) for name in ("constant", "cosine")]
    constant = next(curve for curve in learning_curves(results(found)) if curve.schedule.schedule == "constant")
    assert constant.mean == pytest.approx([0.5, 0.65, 0.6, 0.6])


@pytest.mark.parametrize(
    ("half", "expected"),
    [
        (0.008, 3),
        (0.004, 4),
        (0.05, 2),
        (5.0, 0),
        (400.0, 0),
        (4e-9, 10),
    ],  # 10**-expected is the first power below half / 5
)
def test_decimals_follow_the_intervals(half: float, expected: int) -> None:
    summary = results(race(["constant"])).summary
    rows = [dataclasses.replace(row, low=0.9 - half, high=0.9 + half) for row in summary.schedules]
    assert decimals(dataclasses.replace(summary, schedules=tuple(rows))) == expected


def test_decimals_without_intervals() -> None:
    assert decimals(results(one_seed()).summary) == 3
    assert decimals(results(equal(), None).summary) == 3


def test_summary_json_holds_plain_numbers(any_race: Results) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    text = json.dumps(summary_dict(any_race), allow_nan=False)
    read = json.loads(text, parse_constant=refuse)
    assert read["verdict"] == list(verdict(any_race.summary))
    assert read["runs"] == len(any_race.records)
    assert [row["mean"] for row in read["schedules"]] == [row.mean for row in any_race.summary.schedules]


# --- The page ---------------------------------------------------------------------------------------------------------


SCRIPT = Path(report.__file__).with_name("report.js")
BESIDE = {"results.csv", "summary.json", "rates.png", "differences.svg"}


def parsed(html: str) -> ET.Element:
    """The page as XML: it closes what it opens, so that only the void elements need help."""
    html = html.replace("<!doctype html>", "")
    html = re.sub(r"<(meta|link|br|wbr)([^>]*)>", r"<\1\2/>", html)
    return ET.fromstring(html)


def texts(root: ET.Element, path: str) -> list[str]:
    return ["".join(element.itertext()) for element in root.iterfind(path)]


def test_page_stands_alone_and_is_well_formed(any_race: Results) -> None:
    html = page(any_race, sorted(BESIDE - {"results.csv", "summary.json"}))
    root = parsed(html)
    assert "".join(root.find(".//h1").itertext()) == verdict(any_race.summary)[0]
    assert verdict(any_race.summary)[1] in texts(root, ".//p")
    (script,) = root.iter("script")
    assert script.text == SCRIPT.read_text()
    policy = root.find(".//meta[@http-equiv='Content-Security-Policy']").get("content")
    assert "default-src 'none'" in policy
    assert f"'sha256-{b64encode(sha256(SCRIPT.read_bytes()).digest()).decode()}'" in policy
    assert not list(root.iter("img"))
    for element in root.iter():
        for name in ("src", "href"):
            assert element.get(name, "#").startswith(("#", "data:")) or element.get(name) in BESIDE
    assert "url(" not in html
    assert "@import" not in html
    assert not re.search(r"\bnan\b|\binf\b", re.sub(r"<style>.*?</style>", "", html, flags=re.S))
    assert html.count("<script>") == 1


def test_every_schedule_has_its_place_on_the_page(any_race: Results) -> None:
    root = parsed(page(any_race))
    names = [row.schedule for row in any_race.summary.schedules]
    assert texts(root, ".//figure/h3") == names
    head, *_ = root.iterfind(".//table/thead")
    upper, lower = head.findall("tr")
    columns = 1 + len(lower.findall("th"))
    assert sum(int(cell.get("colspan", 1)) for cell in upper) == columns
    body = root.find(".//table/tbody").findall("tr")
    assert [texts(row, "th") for row in body] == [[name] for name in names]
    assert {len(row) for row in body} == {columns}
    finished = [row for row in any_race.summary.schedules if row.mean is not None]
    places = decimals(any_race.summary)
    shown = [number(row.mean, places) for row in finished]
    assert texts(root, ".//*[@class='value']") == (shown if len(finished) > 1 else [])


def test_beside_each_chosen_rate_stands_what_transfer_would_have_said() -> None:
    found = results(race(seeds=3))
    head, body = (parsed(page(found)).find(f".//table/{part}") for part in ("thead", "tbody"))
    column = ["".join(cell.itertext()) for cell in head[1]].index("intheory")
    chosen = {row.schedule: row.lr for row in found.summary.schedules}
    told = {row[0][0].text: "".join(row[1 + column].itertext()) for row in body}
    assert told.pop("constant") == "\u2013"
    for name, rate in told.items():
        expected = chosen["constant"] * transfer(Constant(), SCHEDULES[name], Horizon(100))
        assert float(rate) == pytest.approx(expected, rel=0.05)  # two digits are shown
    assert "in place of constant's chosen one" in page(found)
    assert "within 11 % on a 124M language model" in page(found)
    alone = dataclasses.replace(found, best_peaks={"constant": 0.01})
    assert "In theory" not in page(alone)


def test_the_columns_of_p_say_what_they_compare() -> None:
    found = results(race(gap=0.01))
    head, body = (parsed(page(found)).find(f".//table/{part}") for part in ("thead", "tbody"))
    groups = [group for cell in head[0][1:] for group in ["".join(cell.itertext())] * int(cell.get("colspan", 1))]
    titles = ["".join(cell.itertext()) for cell in head[1]]
    columns = list(zip(groups, titles, strict=True))
    best, reference = columns.index(("against the best", "p")), columns.index(("against constant", "p"))
    for row, cells in zip(found.summary.schedules, body, strict=True):
        shown = ["".join(cell.itertext()) for cell in cells[1:]]
        for column, difference in ((best, row.against_best), (reference, row.against_reference)):
            if difference is None:
                assert shown[column] == "\u2013"
            elif difference.p_corrected < 0.001:
                assert shown[column] == "<0.001"
            else:
                assert float(shown[column]) == pytest.approx(difference.p_corrected, abs=0.0005)
                gain = columns.index((columns[column][0], "difference"))
                assert float(shown[gain]) == pytest.approx(difference.gain, abs=0.0005)


def test_table_and_plot_show_the_difference_from_the_best_with_its_interval() -> None:
    found = results(race(gap=0.001))
    root, places = parsed(page(found)), decimals(found.summary)
    titles = ["".join(cell.itertext()) for cell in root.find(".//table/thead")[1]]
    column = titles.index("difference") + 1
    assert titles[column] == "95 %interval"
    tracks = [row for row in root.iter("div") if row.get("class", "").startswith("row ")]
    body = root.find(".//table/tbody")
    for row, cells, track in zip(found.summary.schedules, body, tracks, strict=True):
        shown = ["".join(cell.itertext()) for cell in cells[1:]]
        bars = [mark for mark in track.iter("i") if mark.get("class") == "interval"]
        if row.schedule == found.summary.best:
            assert (shown[column], bars) == ("\u2013", [])
            continue
        low, high = (float(number(end, places)) for end in (row.against_best.low, row.against_best.high))
        assert tuple(map(float, shown[column].split(" to "))) == (low, high)
        assert len(bars) == 1
        assert (low <= 0 <= high) == (row.schedule in found.summary.tied)


def test_what_tuning_brings_is_no_part_of_the_verdict() -> None:
    found = results(race(lrs=(0.1, 0.3, 1.0)))
    root = parsed(page(found))
    titles = texts(root, ".//h2")
    assert titles.index("What tuning brings") > titles.index("The numbers")
    assert str(found.gain) not in "".join(root.find(".//header").itertext())
    assert str(found.gain).startswith("Apart from the verdict, tuning: ")


def test_tuning_brings_nothing_over_a_run_that_diverged() -> None:
    runs = [one.run("val_acc", "test_acc") for one in race(["constant", "cosine"], seeds=6)]
    start = ("constant", 0.1, 0.0, 0.0)
    lost = [dataclasses.replace(run, diverged=run.key.setting == start and run.key.seed == 0) for run in runs]
    for of_race, gains in ((runs, True), (lost, False)):
        summary = summarize(of_race, metric="test_acc", mode="max", reference="constant")
        assert bool(tuning_gain(of_race, summary, lr=0.1, momentum=0.0)) == gains


def test_overlapping_splits_are_said_and_allowed_for() -> None:
    plain = results(race())
    runs = [r.run("val_acc", "test_acc") for r in plain.records]
    summary = summarize(
        runs, metric="test_acc", mode="max", reference="constant", splits=Splits(100, 40, same_test=False)
    )
    found = dataclasses.replace(plain, summary=summary)
    words = overlap_in_words(summary)
    root = parsed(page(found))
    assert words in texts(root, ".//header/p")
    assert "p, newrows" in ["".join(cell.itertext()) for cell in root.find(".//table/thead")[1]]
    assert words in " ".join(printed(found).split())
    assert max(map(len, printed(found).splitlines())) <= 100
    written = json.loads(json.dumps(summary_dict(found), allow_nan=False))
    assert written["splits"] == {"train": 100, "test": 40, "same_test": False}
    assert written["schedules"][1]["against_best"]["resplit"]["p"] >= written["schedules"][1]["against_best"]["p"]
    assert "p, newrows" not in page(plain)


def test_the_map_shows_every_setting_and_marks_the_chosen() -> None:
    found = results(race(diverged=3))
    maps = [figure for figure in parsed(page(found)).iter("figure") if "map" in figure.get("class")]
    assert [texts(one, "figcaption") for one in maps] == [["momentum 0"], ["momentum 0.9"]]
    places, shown, chosen = decimals(found.summary), {}, set()
    for one, momentum in zip(maps, (0.0, 0.9), strict=True):
        rates = [float(text) for text in texts(one, ".//thead/tr/th")[1:]]
        for row in one.find(".//tbody"):
            name = "".join(row[0].itertext())
            for lr, cell in zip(rates, row[1:], strict=True):
                shown[name, lr, momentum] = "".join(cell.itertext())
                if "chosen" in cell.get("class").split():
                    chosen.add((name, lr, momentum))
    for setting in found.summary.settings:
        lost = f"{setting.diverged} div." if setting.diverged else ""
        assert shown.pop((setting.schedule, setting.lr, setting.momentum)) == number(setting.validation, places) + lost
    assert not shown
    assert chosen == {(row.schedule, row.lr, row.momentum) for row in found.summary.schedules}


def test_drawings_stay_near_their_box(any_race: Results) -> None:
    for shape in parsed(page(any_race)).iter():
        for pair in shape.get("points", "").split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= 180
            assert -400 <= y <= 400


def test_a_better_metric_is_drawn_higher_and_darker() -> None:
    found = results(race(["constant", "cosine"], momenta=(0.0,), gap=0.2))
    root = parsed(page(found))
    ends = [
        float(card.find(".//polyline[@class='s-mean']").get("points").split()[-1].split(",")[1]) for card in cards(root)
    ]
    assert ends[0] < ends[1]  # the best comes first; y counts downwards
    shades = [float(cell.get("style").removeprefix("--t:")) for cell in root.iterfind(".//figure//td")]
    assert min(shades[:2]) > max(shades[2:])
    loss = [dataclasses.replace(r, metrics={k: -v for k, v in r.metrics.items()}, curves={}) for r in found.records]
    mirrored = parsed(page(results(loss, mode="min")))
    assert [float(cell.get("style").removeprefix("--t:")) for cell in mirrored.iterfind(".//figure//td")] == shades


def cards(root: ET.Element) -> Iterator[ET.Element]:
    return (figure for figure in root.iter("figure") if "card" in figure.get("class").split())


def test_the_page_says_how_it_was_done() -> None:
    html = page(results(race(diverged=3)))
    for words in (
        "at the same peak rates (0.1, 0.3) and momenta (0, 0.9), with the same 7 seeds (0 to 6), for 4 epochs with SGD",
        "share the split, the initial weights and the batch order",
        "Optimizer: Net&#x27;s own SGD; peak rates 0.1, 0.3. The peak rates are the first param group&#x27;s.",
        "over the seeds&#x27; splits, initial weights and batch orders",
        "Validation data (val_acc) chose",
        "test data (test_acc) judged it there and chose nothing",
        "12 of 112 runs diverged",
        "Engine: vectorized (training_step is pure). Training 112 runs took 2 s, 56 trainings a second, on 2 CPU",
        "do best at the highest rate tried",
    ):
        assert words in html
    assert "flatters" not in html
    same_data = results(race())
    same_data = dataclasses.replace(same_data, summary=dataclasses.replace(same_data.summary, metric="val_acc"))
    assert "which flatters every schedule" in page(same_data)
    same_rows = dataclasses.replace(same_data.summary, splits=Splits(100, 40, same_test=True))
    html = page(dataclasses.replace(same_data, summary=same_rows))
    assert "over the seeds&#x27; initial weights and batch orders" in html
    long = dataclasses.replace(results(race()), seconds=12345.6, trained=112_000)
    assert "Training 112,000 runs took 12346 s, 9.07 trainings a second" in page(long)


# --- The pictures -----------------------------------------------------------------------------------------------------


@pytest.mark.sampled(5)
def test_a_report_of_any_race(any_race: Results, tmp_path: Path) -> None:
    write_report(any_race, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"report.html", "summary.json", "rates.png", "tensorboard"}
    finished = any_race.summary.best is not None
    assert ("map.png" in names) == finished
    assert ("differences.png" in names) == (sum(row.mean is not None for row in any_race.summary.schedules) > 1)
    assert ("curves.png" in names) == (finished and all(len(r.curves) for r in any_race.records))
    for name in names:
        if name.endswith(".png"):
            header = (tmp_path / "out" / name).read_bytes()[:24]
            assert header.startswith(b"\x89PNG")
            width, height = (int.from_bytes(header[i : i + 4], "big") for i in (16, 20))
            assert 600 <= width <= 2000
            assert 200 <= height <= 2000


def test_pictures_leave_no_figures_behind(tmp_path: Path) -> None:
    from matplotlib import pyplot as plt

    before = plt.get_fignums()
    write_pictures(results(race(seeds=2)), tmp_path)
    assert plt.get_fignums() == before


@given(
    places=st.lists(st.floats(0, 1), min_size=1, max_size=12),
    gap=st.floats(0.001, 0.08),
)
def test_labels_keep_their_order_and_their_distance(places: list[float], gap: float) -> None:
    found = spread(places, gap, top=1.0)
    order = sorted(range(len(places)), key=lambda i: (places[i], -i))
    ranked = [found[i] for i in order]
    assert all(b - a >= gap - 1e-12 for a, b in itertools.pairwise(ranked))
    assert max(found) <= 1.0
    assert min(found) >= -1e-12  # twelve gaps of 0.08 leave room
    lonely = all(b - a >= gap for a, b in zip(sorted(places), sorted(places)[1:], strict=False))
    if lonely:
        assert found == pytest.approx(places)


# --- TensorBoard ------------------------------------------------------------------------------------------------------


def session(run: Path) -> dict[str, str | float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    accumulator = EventAccumulator(str(run))
    accumulator.Reload()
    content = accumulator.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    start = metadata.parse_session_start_info_plugin_data(content)
    fields = {name: value.WhichOneof("kind") for name, value in start.hparams.items()}
    return {name: getattr(start.hparams[name], field) for name, field in fields.items()}


def test_both_tabs_tell_the_same_story(tmp_path: Path) -> None:
    found = results(race(diverged=1))
    write_event_files(found, tmp_path / "race" / "tensorboard")
    for curve in learning_curves(found):
        row, run = curve.schedule, tmp_path / "race" / "tensorboard" / curve.schedule.schedule
        assert session(run) == {"schedule": row.schedule, "lr": row.lr, "momentum": row.momentum}
        assert scalar_tags(run) == {"lr/group0", "val_acc", "val_loss", "test_acc"}
        assert not [path for path in run.iterdir() if path.is_dir()]
        assert scalars(run, "lr/group0") == pytest.approx(curve.rates, rel=1e-6)
        assert scalars(run, "val_acc") == pytest.approx(curve.mean, rel=1e-6)
        assert scalars(run, "test_acc") == pytest.approx([row.mean], rel=1e-6)
        assert scalars(run, "val_acc")[-1] == pytest.approx(row.validation, rel=1e-6)


def _value(group: Any, tag: str) -> float:
    (value,) = [metric.value for metric in group.metric_values if metric.name.tag == tag]
    return float(value)


def test_the_hparams_tab_has_a_row_for_each_schedule(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

    found = results(race())
    for name in ("one", "two"):  # two races side by side stay apart
        write_event_files(found, tmp_path / name / "tensorboard")
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(tmp_path))
    backend = backend_context.Context(TBContext(data_provider=provider))
    request = RequestContext()
    experiment = get_experiment.Handler(request, backend, "", api_pb2.GetExperimentRequest()).run()
    assert {info.name.tag for info in experiment.metric_infos} == {"lr/group0", "val_acc", "test_acc", "val_loss"}
    statuses = [api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE, api_pb2.STATUS_RUNNING]
    column = api_pb2.ColParams(metric=api_pb2.MetricName(tag="test_acc"))
    query = api_pb2.ListSessionGroupsRequest(
        start_index=0, slice_size=100, allowed_statuses=statuses, col_params=[column]
    )
    groups = list_session_groups.Handler(request, backend, "", query).run().session_groups
    rows = sorted((g.hparams["schedule"].string_value, round(_value(g, "test_acc"), 5)) for g in groups)
    assert rows == sorted([(row.schedule, round(row.mean, 5)) for row in found.summary.schedules] * 2)


def test_a_second_report_takes_the_place_of_the_first(tmp_path: Path) -> None:
    for names in (["constant", "cosine"], ["constant"]):
        write_event_files(results(race(names)), tmp_path / "tensorboard")
    assert [path.name for path in (tmp_path / "tensorboard").iterdir()] == ["constant"]
    assert len(scalars(tmp_path / "tensorboard" / "constant", "val_acc")) == 4


# --- The terminal -----------------------------------------------------------------------------------------------------


def printed(found: Results, file: io.StringIO | None = None) -> str:
    file = file or io.StringIO()
    show(found.summary, file)
    return file.getvalue()


def test_the_table_fits_a_hundred_columns(any_race: Results) -> None:
    text = printed(any_race)
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text
    # Without any space: a name that is wider than the terminal is broken over lines.
    assert "".join(text.split()).endswith("".join("".join(verdict(any_race.summary)).split()))
    places = decimals(any_race.summary)
    for row in any_race.summary.schedules:
        name = row.schedule if len(row.schedule) <= 18 else f"{row.schedule[:17]}\u2026"
        (line,) = (line for line in text.splitlines() if re.match(rf"{re.escape(name)}( \*)? +(-?\d|\u2013)", line))
        assert number(row.mean, places) in line
        assert f"{row.lr:g}" in line


def test_long_names_and_numbers_cost_no_more_than_the_worst_seed() -> None:
    found = race([f"WarmupStableDecay{i}" for i in range(4)] + ["constant"], lrs=(0.025, 0.125), seeds=6)
    assert decimals(results(found).summary) == 4
    text = printed(results(found))
    for title in ("mean", "interval", "mom.", "best", "constant", "diver-", "epochs"):
        assert title in text
    assert max(map(len, text.splitlines())) <= 100


def test_long_names_that_begin_alike_are_told_apart() -> None:
    names = ["a rather long name of the one", "a rather long name of the other"]
    found = results(race(["constant", *names]))
    for name in ("a rather…f the one", "a rather…the other"):
        assert name in printed(found)
    _, axes = forest_plot(found.summary)
    assert len({label.get_text() for label in axes.get_yticklabels()}) == 3


def test_names_may_have_brackets() -> None:
    found = results(race(["[/a] b", "[red]c"]), reference="[/a] b")
    assert {"[/a]", "[red]c"} <= set(printed(found).split())


def test_no_number_is_a_dash() -> None:
    text = printed(results(one_seed()))
    best = next(line for line in text.splitlines() if line.startswith("linear"))
    assert best.split().count("\u2013") == 3  # no difference, interval and p of the best against itself
    assert "test_acc of seed 0" in text


def test_marks_are_explained() -> None:
    text = printed(results(race(gap=0.0)))
    assert "linear *" in text
    assert "* cannot be told from the best" in text
    assert "0.3 \u2191" in text
    assert "best at the highest rate tried" in text
    clear = printed(results(race(lrs=(0.1,), gap=0.1, seeds=10)))
    assert "*" not in clear
    assert "\u2191" not in clear


def test_a_terminal_gets_colors_and_no_more_columns_than_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for width, shown in ((60, 60), (300, 100)):
        monkeypatch.setenv("COLUMNS", str(width))
        text = printed(results(race(diverged=1)), Terminal())
        assert "\x1b[" in text
        plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
        assert max(map(len, plain.splitlines())) <= shown
        assert "\u2026" not in plain
        assert ("worst" in plain) == (width > 60)


def test_output_that_knows_no_unicode() -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    show(results(hostile(), None).summary, file)
    file.flush()
    text = raw.getvalue().decode("ascii")
    assert "$\\frac$" in text
    assert "??" in text


# --- The winning configuration ----------------------------------------------------------------------------------------


def raced(schedule: Any, optimizer: Any, momenta: Sequence[float | None] = (0.0, 0.9)) -> tuple[Summary, Grid]:
    """A race that a schedule wins, at the higher rate."""
    own = given_optimizer(optimizer, [torch.nn.Parameter(torch.zeros(1))])
    grid = Grid({"constant": Constant(), "cosine": schedule}, (0.1, 0.3), momenta, range(7), own)
    records = race(["constant", "cosine"], momenta=[own.momentum if each is None else each for each in momenta])
    keys = [dataclasses.replace(one.key, weight_decay=own.weight_decay) for one in records]
    found = results([dataclasses.replace(one, key=key) for one, key in zip(records, keys, strict=True)])
    return found.summary, grid


def exported(path: Path, *args: Any) -> dict:
    summary, grid = raced(*args)
    export_best(path, summary, grid, 12, {"model": {"class_path": "Net"}, "trainer": {"devices": 1}}, cast("Any", None))
    assert path.read_text().startswith(f"# {verdict(summary)[0]}\n")
    return yaml.safe_load(path.read_text())


def test_the_export_holds_the_best_setting(tmp_path: Path) -> None:
    found = exported(tmp_path / "best.yaml", Cosine(end=0.1), partial(torch.optim.SGD, weight_decay=0.01), (0.9,))
    assert found == {
        "model": {"class_path": "Net"},
        "optimizer": {
            "class_path": "torch.optim.SGD",
            "init_args": {"weight_decay": 0.01, "lr": 0.3, "momentum": 0.9},
        },
        "lr_scheduler": {
            "class_path": "lit_lrsched.Cosine",
            "init_args": {"start": 1.0, "end": 0.1, "over": None},
        },
        "trainer": {"devices": 1, "max_epochs": 12},
    }


@pytest.mark.parametrize(
    ("optimizer", "momentum", "arguments"),
    [
        (partial(torch.optim.SGD, momentum=0.8), None, {"momentum": 0.8, "lr": 0.3}),  # none raced: its own
        (torch.optim.AdamW, None, {"lr": 0.3}),
        (torch.optim.AdamW, 0.95, {"lr": 0.3, "betas": [0.95, 0.999]}),
        (partial(torch.optim.Adam, betas=(0.9, 0.98)), 0.95, {"lr": 0.3, "betas": [0.95, 0.98]}),
        (torch.optim.Adagrad, None, {"lr": 0.3}),
    ],
)
def test_momentum_goes_where_the_optimizer_has_it(tmp_path: Path, optimizer, momentum, arguments) -> None:
    found = exported(tmp_path / "best.yaml", Cosine(), optimizer, (momentum,))
    assert found["optimizer"]["init_args"] == arguments


def test_every_kind_of_schedule_can_be_exported(tmp_path: Path) -> None:
    scheduler = partial(torch.optim.lr_scheduler.StepLR, step_size=5)
    found = exported(tmp_path / "best.yaml", scheduler, torch.optim.SGD)
    assert found["lr_scheduler"] == {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 5}}
    found = exported(tmp_path / "best.yaml", halve_every_epoch, torch.optim.SGD)
    assert found["lr_scheduler"]["init_args"] == {"function": "lit_lrsched.schedules.custom.halve_every_epoch"}
    with pytest.raises(InputError, match="cannot be written as configuration"):
        exported(tmp_path / "best.yaml", lambda step, horizon: 1.0, torch.optim.SGD)


def test_nothing_to_export_when_every_run_diverged(tmp_path: Path) -> None:
    nothing = cast("Any", None)
    with pytest.raises(InputError, match="every run diverged"):
        export_best(tmp_path / "best.yaml", results(all_diverged(), None).summary, nothing, 5, {}, nothing)


def test_a_warmup_within_an_epoch_is_not_told_as_a_lower_peak(tmp_path: Path) -> None:
    warmup = {"constant": [0.1, 1.0, 0.8, 0.2]}  # as epochs begin
    records = race(["constant"], lrs=(0.3,), momenta=(0.0,))
    write_report(dataclasses.replace(results(records), factors=warmup), tmp_path)
    assert "below it the learning rate\nas it begins" in (tmp_path / "report.html").read_text()


def test_fit_takes_the_exported_file(command, tmp_path: Path) -> None:
    summary, grid = raced(Cosine(), torch.optim.SGD)
    export_best(tmp_path / "best.yaml", summary, grid, 2, {}, cast("Any", None))
    assert command("fit", "--config", str(tmp_path / "best.yaml")) == 0, command.err
    rates = scalars(run_folder(), "lr/group0")
    # Cosine from 0.3 over 2 epochs of 11 steps: at their starts 0.3 * (1 + cos(0)) / 2 and 0.3 * (1 + cos(pi / 2)) / 2.
    assert len(rates) == 22
    assert rates[::11] == pytest.approx([0.3, 0.15], rel=1e-5)
