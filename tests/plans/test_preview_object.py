"""What ``preview`` returns in Python: rows, curves, one screen of text and a view for notebooks."""

from __future__ import annotations

import base64
import builtins
import io
import re

import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

import lit_lrsched
from lit_lrsched import Chain, Constant, Cosine, Horizon, Linear, OneCycle, Phase, WarmupCosine, preview, table
from lit_lrsched.plans.console import console_on
from lit_lrsched.plans.preview import Preview, show
from lit_lrsched.plans.theory import theory
from tests.catalogue import CATALOGUE

HORIZON = Horizon(500, steps_per_epoch=10)


@pytest.fixture
def in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes this look like a notebook to those who ask IPython, as rich does."""
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setattr(builtins, "get_ipython", lambda: shell, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as its kernel does


def test_the_rows_of_one_schedule_are_its_key_moments() -> None:
    assert preview(WarmupCosine("10%"), HORIZON, lr=0.1).table == [
        {"moment": "first step", "step": 0, "epoch": 0.0, "lr": 0.1 * WarmupCosine("10%")(0, HORIZON)},
        {"moment": "warmup ends, decay begins, peak", "step": 50, "epoch": 5.0, "lr": 0.1},
        {"moment": "last step", "step": 499, "epoch": 49.9, "lr": 0.1 * WarmupCosine("10%")(499, HORIZON)},
    ]
    assert set(preview(OneCycle(momentum=0.9), HORIZON).table[0]) >= {"factor", "momentum factor"}


def test_the_rows_of_several_compare_them() -> None:
    first, second = preview({"a": Linear(), "b": Cosine(end=0.5)}, Horizon(4)).table
    # 1, 0.75, 0.5, 0.25
    assert first.pop("best peak") == 1
    assert first == {"schedule": "a", "first": 1.0, "peak": 1.0, "at step": 0.0, "mean": 0.625, "last": 0.25}
    assert second["schedule"] == "b"
    assert second["mean"] == pytest.approx(sum(table(Cosine(end=0.5), Horizon(4))) / 4)


def test_it_draws_on_axes_that_are_there() -> None:
    figure = Figure()
    axes = figure.add_subplot()
    assert preview({"a": Linear(), "b": Cosine()}, HORIZON).plot(axes) == (figure, axes)
    assert [list(line.get_ydata()) for line in axes.lines] == [table(one, HORIZON) for one in (Linear(), Cosine())]
    assert {text.get_text() for text in axes.texts} == {"a", "b"}
    own, first = preview(OneCycle(momentum=0.9), HORIZON).plot()
    assert own.axes[0] is first
    assert len(own.axes) > 1
    _, alone = preview(OneCycle(momentum=0.9), HORIZON).plot(Figure().add_subplot())
    assert alone.get_title("left").startswith("OneCycle")
    assert len(alone.figure.axes) == 1


@pytest.mark.parametrize("what", [*list(CATALOGUE)[:6], "all of them"])
def test_its_text_fits_a_screen(what: str) -> None:
    shown = preview(CATALOGUE if what == "all of them" else CATALOGUE[what], Horizon(100, 10))
    lines = repr(shown).splitlines()
    assert lines[0] == "Preview"
    assert lines[1] == "100 steps, 10 epochs of 10"
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 200


def test_its_text_says_what_the_audit_says() -> None:
    shown = preview(Linear(over="10ep"), HORIZON)
    assert [finding.level for finding in shown.findings] == ["failure"]
    assert "failure: the learning rate is 0 from step 100" in repr(shown)
    assert "failure: the learning rate is 0 from step 100" in shown._repr_html_()


def test_a_notebook_shows_picture_and_table() -> None:
    page = preview({"<a>": Linear(), "b": Cosine()}, Horizon(40))._repr_html_()
    (picture,) = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert base64.b64decode(picture).startswith(b"\x89PNG")
    assert page.count("<tr>") == 3
    assert "<td>&lt;a&gt;</td>" in page
    assert "<a>" not in page


def test_the_package_shows_its_public_names() -> None:
    names = dir(lit_lrsched)
    assert [name for name in names if not name.startswith("_")] == sorted(lit_lrsched.__all__)
    assert "__version__" in names
    assert callable(lit_lrsched.preview)


def test_in_a_notebook_its_text_is_its_text(in_a_notebook, capsys) -> None:
    shown = repr(preview(Linear(), HORIZON, lr=0.1))
    assert "first step" in shown
    assert "\x1b" not in shown
    text = io.StringIO()
    console_on(text).print("what find, compare and forecast print", style="bold")
    assert text.getvalue() == "what find, compare and forecast print\n"
    assert capsys.readouterr() == ("", "")


def test_a_plot_at_the_end_of_a_cell_shows_its_picture_once() -> None:
    assert preview(Linear(), HORIZON).plot()._repr_png_().startswith(b"\x89PNG")
    assert Linear().plot(HORIZON)._repr_png_().startswith(b"\x89PNG")
    figure, axes = pyplot.subplots()
    try:
        plotted = preview(Linear(), HORIZON).plot(axes)
        assert plotted == (figure, axes)
        assert plotted._repr_png_() is None  # pyplot shows it
        assert Linear().plot(HORIZON, axes)._repr_png_() is None
    finally:
        pyplot.close(figure)


NAMES = ["cos[/b]", "lin[bold]", "a:fire:", "$5 and $6_{", "$\\frac$"]


@pytest.mark.parametrize(
    "names",
    [NAMES[-2:], NAMES, [*NAMES, "sixth", "seventh", "eighth", "ninth"]],
    ids=["beside ends", "on curves", "a gallery"],
)
def test_names_are_shown_as_they_are(names: list[str], capsys) -> None:
    shown = preview({name: Linear(end=n / 9) for n, name in enumerate(names)}, HORIZON)
    assert show(Preview(shown.views, in_theory=theory(shown.views))) == 0
    out = capsys.readouterr().out
    assert all(name in repr(shown) and out.count(name) == 2 for name in names)
    shown.plot()[0].savefig(io.BytesIO())
    shown.plot(Figure().add_subplot())[0].savefig(io.BytesIO())


def test_phases_are_called_as_they_are() -> None:
    shown = preview(Chain([Phase(Linear(0.1, 1.0), "10ep", "up[/x]"), Phase(Cosine(), name="$5 and $6_{")]), HORIZON)
    assert "up[/x] ends, $5 and $6_{ begins" in repr(shown)
    shown.plot()[0].savefig(io.BytesIO())


def test_a_notebook_shows_schedules_without_a_best_peak() -> None:
    assert preview({"none": Constant(0.0), "some": Linear()}, HORIZON)._repr_html_().count("<td>-</td>") == 2
