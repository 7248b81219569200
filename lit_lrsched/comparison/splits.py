"""How the seeds of a race divide the data: whether they test on the same rows, or re-split one data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import DataLoader, IterableDataset

from lit_lrsched.comparison.engine.bare_trainer import set_up
from lit_lrsched.comparison.engine.batches import Build
from lit_lrsched.comparison.evidence.summary import Splits
from lit_lrsched.optim.torch_internals import tree_leaves

_LOOKED_FOR = 32  # test rows of one seed that are looked for ...
_AMONG = 2_000  # ... among so many training rows of another


def splits_of(build: Build, seeds: Sequence[int]) -> Splits | None:
    """Returns how the first two seeds divide the data.

    Args:
        build: Takes a seed and returns the module and its data.
        seeds: The seeds.

    Returns:
        None for a single seed, for data that are no rows to look at, and where the seeds share none of those looked at,
        as when each draws data of its own.
    """
    if len(seeds) < 2:
        return None
    with isolate_rng():
        first, second = (_parts(build, seed) for seed in seeds[:2])
    if first is None or second is None:
        return None
    train, test = len(second[0]), len(first[1])
    wanted, same_place = (_rows(part, _LOOKED_FOR) for part in (first[1], second[1]))
    among = _rows(second[0], _AMONG)
    if not wanted or not same_place or not among:
        return None
    if wanted == same_place:
        return Splits(train, test, same_test=True)
    # Of one data set that is split anew, most test rows of one seed train another. A few rows may be equal by chance.
    found = len([row for row in wanted if row in among]) / len(wanted)
    return Splits(train, test, same_test=False) if found >= len(among) / train / 4 else None


def first_rows(build: Build) -> list[list[bytes] | None] | None:
    """Returns the content of the first training and test rows of one seed, as far as they can be looked at."""
    with isolate_rng():
        parts = _parts(build, 0)
    return None if parts is None else [_rows(part, _LOOKED_FOR) for part in parts]


def _parts(build: Build, seed: int) -> tuple[Any, Any] | None:
    """Returns the data sets of training and test rows; None for a stream, several loaders, or without test rows."""
    _, data = build(seed)
    if not is_overridden("test_dataloader", data):
        return None
    with set_up(data, "fit", "test"):
        loaders = data.train_dataloader(), data.test_dataloader()
    if not all(isinstance(loader, DataLoader) for loader in loaders):
        return None
    parts = tuple(loader.dataset for loader in loaders)
    if any(isinstance(part, IterableDataset) or not hasattr(part, "__len__") for part in parts):
        return None
    return parts[0], parts[1]


def _rows(part: Any, most: int) -> list[bytes] | None:
    """Returns the content of the first rows; None where there are none, or not of numbers alone."""
    rows = []
    for i in range(min(most, len(part))):
        leaves = tree_leaves(part[i])
        if not all(isinstance(leaf, (torch.Tensor, np.ndarray, np.generic, int, float)) for leaf in leaves):
            return None
        rows.append(b"|".join(torch.as_tensor(leaf).detach().cpu().contiguous().numpy().tobytes() for leaf in leaves))
    return rows or None
