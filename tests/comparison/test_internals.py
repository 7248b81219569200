"""The private names of other libraries that the engine uses are there in the version that is installed."""

from __future__ import annotations

import inspect
from functools import partial

import pytest
import torch
from torchmetrics.functional.classification.stat_scores import normalize_logits_if_needed
from torchmetrics.utilities import compute

from lit_lrsched.comparison.engine.torchmetrics_internals import PRIVATE_NAMES, branchless_metrics


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, names in PRIVATE_NAMES.items() for name in names])
def test_torchmetrics_has_the_names(owner: object, name: str) -> None:
    # Some are set when a metric is made.
    assert hasattr(owner, name) or f"self.{name}" in inspect.getsource(owner)  # type: ignore[arg-type]


def test_what_is_replaced_while_a_step_is_traced_is_restored() -> None:
    original = compute.normalize_logits_if_needed.__code__
    shown: list[torch.Tensor] = []

    def traced() -> None:
        with branchless_metrics():
            logits = torch.tensor([[-1.0, 2.0], [0.2, 0.9]])
            normalize = partial(normalize_logits_if_needed, normalization="sigmoid")  # as imported elsewhere
            shown.append(torch.func.vmap(normalize)(logits))  # which could not follow a branch
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        traced()
    torch.testing.assert_close(shown[0], torch.tensor([[0.26894142, 0.88079708], [0.2, 0.9]]))
    assert compute.normalize_logits_if_needed.__code__ is original
