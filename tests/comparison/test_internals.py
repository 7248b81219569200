"""The private names of other libraries that the engine uses are there in the version that is installed."""

from __future__ import annotations

import inspect

import pytest
from torchmetrics.utilities import compute

from lit_lrsched.comparison.engine.torchmetrics_internals import PRIVATE_NAMES, branchless_metrics


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, names in PRIVATE_NAMES.items() for name in names])
def test_torchmetrics_has_the_names(owner: object, name: str) -> None:
    # Some are set when a metric is made.
    assert hasattr(owner, name) or f"self.{name}" in inspect.getsource(owner)  # type: ignore[arg-type]


def test_what_is_replaced_while_a_step_is_traced_is_restored() -> None:
    original = compute.normalize_logits_if_needed

    def traced() -> None:
        with branchless_metrics():
            assert compute.normalize_logits_if_needed is not original
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        traced()
    assert compute.normalize_logits_if_needed is original
