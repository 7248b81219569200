"""The bar that counts trainings."""

from __future__ import annotations

import io
import sys

import pytest

from lit_lrsched.comparison.progress import count, progress_bar


def test_shares_add_up_to_the_whole_and_to_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    for epochs in (3, 20):  # 3 / 3 and so on come out above, 60 / 20 below
        with progress_bar(108, shown=True) as bar:
            for _ in range(108 * epochs):
                count(bar, 1 / epochs)
            assert bar.n == 108


def test_it_moves_where_a_line_can_be_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
    for stream, seconds in ((notebook(), 0.1), (io.StringIO(), 10)):
        monkeypatch.setattr(sys, "stdout", stream)
        with progress_bar(3, shown=True) as bar:
            assert bar.mininterval == seconds
