"""A schedule by itself: its curve on axes and in a notebook, and products written with ``*``."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_lrsched import (
    Chain,
    Constant,
    Cosine,
    Formula,
    Horizon,
    InputError,
    Linear,
    MultiStep,
    Phase,
    Plateau,
    Product,
    Schedule,
    Step,
    WarmupCosine,
    WarmupStableDecay,
    table,
)
from tests.catalogue import CATALOGUE

HORIZON = Horizon(200, steps_per_epoch=10)
SVG = "{http://www.w3.org/2000/svg}"


def picture_of(schedule: Schedule) -> ET.Element:
    html = schedule._repr_html_()
    return ET.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])


def drawn(schedule: Schedule) -> list[tuple[float, float]]:
    """The corners of the curve, in pixels from the place of step 0 and factor 0, y upwards."""
    frame, curve = picture_of(schedule).findall(f"{SVG}path")
    left, rest = frame.attrib["d"].removeprefix("M").split(" ")
    base = float(rest.partition("V")[2].partition("H")[0])
    pairs = [pair.split(" ") for pair in curve.attrib["d"].removeprefix("M").split("L")]
    return [(float(x) - float(left), base - float(y)) for x, y in pairs]


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_plotted_curve_is_the_table(name: str) -> None:
    horizon = Horizon(200, steps_per_epoch=4)
    figure, axes = CATALOGUE[name].plot(horizon)
    (line,) = axes.lines
    assert list(line.get_ydata()) == table(CATALOGUE[name], horizon)
    assert list(line.get_xdata()) == [step / 4 for step in range(200)]
    assert axes in figure.axes
    assert axes.get_ylim()[0] == 0 < max(table(CATALOGUE[name], horizon)) < axes.get_ylim()[1]


def test_a_second_curve_joins_the_first() -> None:
    figure, axes = WarmupCosine("10%").plot(HORIZON)
    assert axes.get_title("left") == "WarmupCosine(warmup=10%)"
    again = WarmupCosine("20%").plot(HORIZON, ax=axes)
    assert again == (figure, axes)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "WarmupCosine(warmup=10%)",
        "WarmupCosine(warmup=20%)",
    ]
    assert axes.get_title("left") == ""
    assert axes.lines[0].get_color() != axes.lines[1].get_color()
    (2 * Linear()).plot(HORIZON, axes)
    assert axes.get_ylim()[1] > 2
    assert Linear().plot(Horizon(30))[1].get_xlabel() == "step"


def test_a_long_run_is_sampled_with_both_sides_of_each_edge() -> None:
    (line,) = WarmupStableDecay("777st", "10%").plot(Horizon(1_000_000))[1].lines
    steps = list(line.get_xdata())
    assert len(steps) < 5000
    assert {0, 776, 777, 899_999, 900_000, 999_999} <= set(steps)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="horizon=1000 is not a horizon"):
        Linear().plot(1000)
    with pytest.raises(InputError, match="'2ep' needs to know how many steps"):
        WarmupCosine("2ep").plot(Horizon(100))


class Balanced(HTMLParser):
    open: tuple[str, ...] = ()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open += () if tag == "br" else (tag,)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1] == tag
        self.open = self.open[:-1]


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_notebook_shows_arguments_and_curve(name: str) -> None:
    page = CATALOGUE[name]._repr_html_()
    parser = Balanced()
    parser.feed(page)
    assert parser.open == ()
    colours = {value for part in picture_of(CATALOGUE[name]).iter() for key, value in part.items() if key == "stroke"}
    assert colours == {"currentColor"}
    assert len(page) < 20_000


def test_the_curve_of_the_notebook_is_to_scale() -> None:
    # Over 1000 steps in 420 x 120 pixels: a warmup from 0.1 to 1 in 250 steps, then straight down to 0 at step 1000.
    corners = drawn(Chain([Phase(Linear(0.1, 1.0), "25ep"), Phase(Linear())]))
    assert corners[0] == pytest.approx((0, 12), abs=0.06)
    assert max(corners, key=lambda at: at[1]) == pytest.approx((105, 120), abs=0.06)
    assert corners[-1] == pytest.approx((420 * 0.999, 120 / 750), abs=0.06)
    texts = [text.text for text in picture_of(Constant(0.25) * Linear()).findall(f"{SVG}text")]
    assert texts == ["0.25", "0", "0", "epoch 100"]


def test_spans_are_named_where_they_have_room() -> None:
    texts = [text.text for text in picture_of(WarmupStableDecay("2%", "20%")).findall(f"{SVG}text")]
    assert "cooldown" in texts
    assert "warmup" not in texts


def test_the_notebook_takes_a_run_that_is_long_enough() -> None:
    assert "over 10000 steps" in WarmupCosine("5000st")._repr_html_()
    assert "over 1000 steps" in MultiStep(["30ep"])._repr_html_()


def test_a_schedule_that_fails_is_shown_as_text() -> None:
    page = Formula("1 / step")._repr_html_()
    assert page == "<div><code>Formula(factor=&#x27;1 / step&#x27;)</code></div>"
    named = Chain([Phase(Linear(), "50%", "<b>"), Phase(Linear())])._repr_html_()
    assert named.count("&lt;b&gt;") == 2  # among the arguments, and in the picture
    assert "<b>" not in named


def test_the_notebook_needs_no_matplotlib() -> None:
    code = "from lit_lrsched import Cosine; import sys; Cosine()._repr_html_(); print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"


# --- products


@given(number=st.floats(0, 1e6), step=st.integers(0, 199))
def test_a_number_scales(number: float, step: int) -> None:
    factor = WarmupCosine("10%")(step, HORIZON)
    assert (WarmupCosine("10%") * number)(step, HORIZON) == factor * number
    assert (number * WarmupCosine("10%"))(step, HORIZON) == number * factor


def test_what_a_product_is_made_of() -> None:
    assert Linear() * Step("2ep") == Product([Linear(), Step("2ep")])
    assert Linear() * 0.5 == Product([Linear(), Constant(0.5)])
    assert 2 * Linear() == Product([Constant(2.0), Linear()])
    assert Linear() * Cosine() * 0.5 == Linear() * (Cosine() * 0.5) == Product([Linear(), Cosine(), Constant(0.5)])
    assert np.float64(0.5) * Linear() == np.float32(0.5) * Linear() == 0.5 * Linear()
    assert isinstance((0.5 * Linear()).schedules[0].factor, float)
    assert repr(Linear() * 0.5) == ("Product(schedules=(Linear(start=1.0, end=0.0, over=None), Constant(factor=0.5)))")


def halves(step: int, horizon: Horizon) -> float:
    return 0.5


def test_functions_multiply_too() -> None:
    assert table(Linear() * halves, Horizon(2)) == table(halves * Linear(), Horizon(2)) == [0.5, 0.25]


@pytest.mark.parametrize(
    ("multiply", "message"),
    [
        (lambda: Linear() * "0.5", r"schedules\[1\]='0.5' is not a schedule"),
        (lambda: True * Linear(), r"schedules\[0\]=True is not a schedule"),
        (lambda: Linear() * Cosine, r"write Cosine\(\.\.\.\), with its arguments"),
        (lambda: -1 * Linear(), r"factor=-1\.0 has to be a finite number of at least 0"),
        (lambda: Linear() * float("nan"), "factor=nan has to be a finite number"),
        (lambda: Plateau() * 0.5, r"wrap the whole instead, Plateau\(schedule=\.\.\.\)"),
    ],
)
def test_what_cannot_multiply_is_refused(multiply, message: str) -> None:
    with pytest.raises(InputError, match=message):
        multiply()


def test_a_scaled_schedule_keeps_its_phases() -> None:
    assert (WarmupCosine("10%") * 0.5).spans(HORIZON) == WarmupCosine("10%").spans(HORIZON)
    both = WarmupCosine("10%") * WarmupStableDecay("10%", "20%")
    assert both.spans(HORIZON) == [("Product", 0, 200)]


def test_a_product_is_called_by_its_factors() -> None:
    _, axes = (0.5 * Linear()).plot(HORIZON)
    assert axes.get_title("left") == "Constant(factor=0.5) * Linear"
    assert (WarmupCosine("10%") * WarmupStableDecay("10%", "20%")).describe() == "Product"  # the factors are too long


def test_a_chain_of_bare_schedules_is_answered_with_how_to_write_it() -> None:
    with pytest.raises(InputError, match="Chain takes one list of phases, got 2 arguments: write ") as caught:
        Chain(Linear(), Cosine(end=0.1))
    written = str(caught.value).partition("write ")[2].partition(", with durations")[0]
    assert written == "Chain([Phase(Linear(), lasts='50%'), Phase(Cosine(end=0.1))])"
    assert eval(written) == Chain([Phase(Linear(), "50%"), Phase(Cosine(end=0.1))])
    with pytest.raises(InputError, match=r"\[Phase\(Linear\(\), lasts='5ep'\), Phase\(Cosine\(\)\)\]"):
        Chain(Phase(Linear(), "5ep"), Phase(Cosine()))
