"""What ``compare`` gives back in Python: a table, a plot, and itself in a terminal and a notebook."""

from __future__ import annotations

import base64
import logging
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, cast

import pytest
from lightning.pytorch import Trainer
from matplotlib.figure import Figure

from lit_lrsched import Constant, Cosine, IonosphereClassifier, IonosphereDataModule, compare
from lit_lrsched.comparison.race import Comparison
from lit_lrsched.errors import InputError
from tests.comparison.test_report import all_diverged, race, results


def comparison(records: Any, reference: str | None = None) -> Comparison:
    return Comparison(results(records, reference), Path("raced"), cast("Any", None), cast("Any", None))


def test_table_is_plain_and_says_what_the_summary_says() -> None:
    found = comparison(race(), reference="constant")
    rows = found.table
    assert [row["schedule"] for row in rows] == ["linear", "rex", "cosine", "constant"]
    assert {type(value) for row in rows for value in row.values()} <= {str, int, float, bool, type(None)}
    assert len({tuple(row) for row in rows}) == 1  # the same keys
    for row, entry in zip(rows, found.summary.schedules, strict=True):
        assert (row["lr"], row["mean"], row["tied"]) == (entry.lr, entry.mean, row["schedule"] in found.summary.tied)
        against = entry.against_best
        assert (row["gain"], row["gain_low"], row["p"]) == (
            (against.gain, against.low, against.p_corrected) if against else (None, None, None)
        )
    assert rows[-1]["gain_over_reference"] is None
    # constant is 0.15 behind linear, and as far is linear ahead of it
    assert rows[0]["gain_over_reference"] == -rows[-1]["gain"]


def test_plot_draws_each_difference_where_it_is() -> None:
    found = comparison(race())
    figure, axes = found.plot()
    assert axes in figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["linear", "rex", "cosine", "constant"]
    drawn = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert drawn == [row["gain"] or 0.0 for row in found.table]
    bars = [tuple(line.get_xdata()) for line in axes.lines if line.get_linewidth() == 2]
    assert bars == [(row["gain_low"], row["gain_high"]) for row in found.table if row["gain_low"] is not None]


def test_plot_into_axes() -> None:
    own = Figure()
    axes = own.subplots(1, 2)
    assert comparison(race()).plot(axes[1]) == (own, axes[1])
    assert "difference from linear" in axes[1].get_title(loc="left")
    assert not axes[0].lines


def test_there_is_nothing_to_draw() -> None:
    found = comparison(all_diverged())
    with pytest.raises(InputError, match="fewer than two schedules finished"):
        found.plot()
    assert "<img" not in found._repr_html_()
    assert [row["mean"] for row in found.table] == [None, None]
    assert found.verdict[0] in repr(found)


def test_a_notebook_shows_verdict_and_plot_from_the_page_itself() -> None:
    found = comparison(race(names=("a<b>", "c&d")))
    text = found._repr_html_()
    assert "a<b>" not in text
    root = ET.fromstring(re.sub(r"<img([^>]*)>", r"<img\1/>", f"<div>{text}</div>"))
    assert [part.text or part[0].text for part in root.findall("p")] == list(found.verdict)
    (picture,) = root.findall("img")
    kind, _, data = picture.attrib["src"].partition(";base64,")
    assert kind == "data:image/png"
    assert base64.b64decode(data).startswith(b"\x89PNG")
    assert "http" not in text


@pytest.mark.parametrize(("schedules", "left_out"), [(4, 0), (14, 6)])
def test_repr_is_one_screen(schedules: int, left_out: int) -> None:
    names = [f"schedule {place}" for place in range(schedules)]
    text = repr(comparison(race(names=names, lrs=[0.1], momenta=[0.0], gap=0.02)))
    lines = text.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    assert sum(bool(re.match(r"schedule \d+[ *]+0\.\d", line)) for line in lines) == schedules - left_out
    assert (f"{left_out} more in table" in text) == bool(left_out)
    assert str(Path("raced", "report.html")) in lines[-1]


def test_compare_says_nothing_that_is_not_about_the_race(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The command, if it ran in this process before, keeps them quiet.
    monkeypatch.setattr(logging.getLogger("lightning.pytorch.utilities.rank_zero"), "filters", [])
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda entry: said.append(entry.getMessage())  # type: ignore[method-assign]
    logging.getLogger("lightning.pytorch").addHandler(handler)
    try:
        Trainer(accelerator="cpu", logger=False)
        assert any("GPU available" in line for line in said)  # what a trainer says by itself
        said.clear()
        found = compare(
            IonosphereClassifier,
            IonosphereDataModule,
            {"constant": Constant(), "cosine": Cosine()},
            lrs=[0.3],
            seeds=2,
            epochs=1,
            compile=False,
            folder=tmp_path / "raced",
        )
    finally:
        logging.getLogger("lightning.pytorch").removeHandler(handler)
    written = capfd.readouterr().out
    assert not re.search("available|used:|tip|hint", "".join(said), re.IGNORECASE)
    assert [line.partition(":")[0] for line in said[-1:]] == ["Engine"]
    assert "4/4" in written.splitlines()[-1]
    assert len(found.table) == 2
