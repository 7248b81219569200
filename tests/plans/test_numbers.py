"""Numbers as text: none that matters is shown as 0, and none takes much room."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_lrsched.plans.numbers import NOTHING, decimals_of, number, three_digits

values = st.floats(-1e5, 1e5, allow_nan=False)


@given(values, st.integers(0, 14))
def test_a_number_is_shown_to_within_half_a_step_of_its_last_decimal(value, places):
    text = number(value, places)
    shown_places = places if places <= 6 or abs(value) < 0.001 else 6
    assert float(text) == pytest.approx(value, abs=0.5000001 * 10.0**-shown_places + 1e-15)
    assert len(text) <= 14
    assert not text.startswith("-0") or any(digit in text for digit in "123456789")


@given(st.lists(st.floats(1e-12, 1e3), min_size=1))
def test_three_digits_of_the_smallest_are_shown(found):
    least = min(found)
    assert float(number(least, three_digits(found))) == pytest.approx(least, rel=0.0051)


@given(st.floats(1e-10, 10), st.floats(1e-3, 1))
def test_intervals_of_losses_of_any_size_have_ends_that_differ(loss, relative):
    low, high = loss * (1 - relative), loss * (1 + relative)
    places = decimals_of([(low, high)], [loss])
    shown_low, shown_high = (float(number(end, places)) for end in (low, high))
    # Of ten steps of the last decimal, or of what six decimals hold.
    assert shown_high - shown_low == pytest.approx(high - low, rel=0.11, abs=1.1e-6 if loss >= 0.0005 else 0)


def test_what_is_no_number_is_no_error():
    assert number(None, 3) == NOTHING
    assert [number(value, 9) for value in (math.nan, math.inf, -math.inf)] == ["nan", "inf", "-inf"]
    assert three_digits([math.nan, math.inf, None, 0.25]) == 3
