"""What steps and layers keep of a first batch: in a program for many runs it may not enter what is computed later."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from typing import Any

import torch
from torch import Tensor

from lit_lrsched.comparison.engine.calls import Calls
from lit_lrsched.comparison.engine.counts import Counts
from lit_lrsched.comparison.engine.feeds import Feed, stage_of
from lit_lrsched.comparison.engine.hooks import STEP_OF
from lit_lrsched.comparison.engine.items import Marked
from lit_lrsched.comparison.engine.probe import SEED, same
from lit_lrsched.comparison.engine.recorder import NotVectorizable, in_a_line
from lit_lrsched.optim.torch_internals import tree_map
from lit_lrsched.trainer.lightning_package import isolate_rng

#: Returns all that comes out of a step, given its feed and a batch: the same tensors of the module go in every time.
Results = Callable[[Feed, Any], list[Tensor]]


def check_first_batches(calls: Calls, batches: Mapping[Feed, Any], results: Results) -> None:
    """Refuses steps that compute with what they, or layers, keep of a first batch: of each run that would be another.

    Many keep what is the same whatever the batch holds, such as masks and the width of their input, or what the next
    batch replaces. So a step is called once more as it is, and once as if there had been no batch.

    Args:
        calls: Calls of the module, which have seen a batch of every feed.
        batches: One batch of every feed.
        results: Calls a step.

    Raises:
        NotVectorizable: When these differ, or the step cannot be called so.
    """
    kept = calls.kept()
    if not kept:
        return
    told = f"steps and layers keep {', '.join(kept)} of their first batch"
    for feed, batch in batches.items():
        other = tree_map(_other_rows, batch)
        try:
            later = _called(calls, results, feed, other)
            with calls.before_batches():
                first = _called(calls, results, feed, other)
        except NotVectorizable:
            raise
        except Exception as error:
            told = f"{told}; whether {STEP_OF[stage_of(feed)]} computes with it cannot be told"
            raise NotVectorizable(f"{told} ({in_a_line(error)})") from error
        if len(first) != len(later) or not all(map(same, first, later)):
            raise NotVectorizable(f"{told}, and {STEP_OF[stage_of(feed)]} computes with it")


def _called(calls: Calls, results: Results, feed: Feed, batch: Any) -> list[Tensor]:
    calls.counts = Counts(0, 0)
    with isolate_rng(), warnings.catch_warnings(), redirect_stdout(io.StringIO()), Marked():
        warnings.simplefilter("ignore")
        torch.manual_seed(SEED + 1)  # other numbers than those of the first batch
        return results(feed, batch)


def _other_rows(tensor: Tensor) -> Tensor:
    """Returns as many rows, the first half of them twice: what is computed from all of them is another."""
    return tensor[torch.arange(len(tensor), device=tensor.device) // 2]
