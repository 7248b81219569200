"""The private names of other libraries that the engine uses are there in the version that is installed."""

from __future__ import annotations

import pytest

from lit_lrsched.comparison.engine.torchmetrics_internals import PRIVATE_NAMES, branchless_metrics


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, names in PRIVATE_NAMES.items() for name in names])
def test_torchmetrics_has_the_names(owner: object, name: str) -> None:
    import inspect

    # Some are set when a metric is made.
    assert hasattr(owner, name) or f"self.{name}" in inspect.getsource(owner)  # type: ignore[arg-type]


def test_what_is_replaced_while_a_step_is_traced_is_restored() -> None:
    from torchmetrics.functional.classification import accuracy  # noqa: F401, its modules use the function
    from torchmetrics.utilities import compute

    original = compute.normalize_logits_if_needed
    with pytest.raises(RuntimeError, match="in the middle"), branchless_metrics():
        assert compute.normalize_logits_if_needed is not original
        raise RuntimeError("in the middle")
    assert compute.normalize_logits_if_needed is original
