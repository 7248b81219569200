"""How the seeds of a race divide the data: whether they test on the same rows, or re-split one data set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Optional

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from lit_lrsched.comparison.engine.recorder import Stage
from lit_lrsched.comparison.engine.regime import Regime
from lit_lrsched.comparison.engine.setting_up import Build, set_up
from lit_lrsched.comparison.evidence.summary import Splits
from lit_lrsched.errors import InputError
from lit_lrsched.optim.torch_internals import tree_leaves
from lit_lrsched.trainer.lightning_package import LightningDataModule, is_overridden, isolate_rng

LOOKED_FOR = 32  # test rows of one seed that are looked for ...
_AMONG = 2_000  # ... among so many training rows of another

Seen = dict[str, tuple[int, Optional[list[bytes]]]]
"""How many rows each stage has, and the content of some."""


def splits_of(build: Build, seeds: Sequence[int], regime: Regime) -> Splits | None:
    """Returns how the first two seeds divide the data.

    Args:
        build: Takes a seed and returns the module and its data.
        seeds: The seeds.
        regime: Which batches train and test: the rows of others do not count.

    Returns:
        None for a single seed, for data that are no rows to look at, and where the seeds share none of those looked at,
        as when each draws data of its own.
    """
    if len(seeds) < 2:
        return None
    with isolate_rng():
        first, second = (_loaders(build, seed) for seed in seeds[:2])
    if first is None or second is None:
        return None
    train, test = _count(second[0], "train", regime), _count(first[1], "test", regime)
    wanted, same_place = (_rows(loaders[1], range(LOOKED_FOR)) for loaders in (first, second))
    among = _rows(second[0], range(_AMONG))
    if not wanted or not same_place or not among:
        return None
    if wanted == same_place:
        return Splits(train, test, same_test=True)
    # Of one data set that is split anew, most test rows of one seed train another. A few rows may be equal by chance.
    found = len([row for row in wanted if row in among]) / len(wanted)
    expected = len(among) / len(second[0].dataset)  # type: ignore[arg-type]
    return Splits(train, test, same_test=False) if found >= expected / 4 else None


def rows_seen(build: Build) -> Seen:
    """Returns by stage how many rows one seed has, and the content of the first and of a few from there to the last.

    Where training and test rows cannot be looked at, there is no stage.
    """
    with isolate_rng():
        loaders = _loaders(build, 0) or []
    found = {}
    for stage, loader in zip(("train", "test", "val"), loaders, strict=False):
        count = len(loader.dataset)  # type: ignore[arg-type]
        later = np.linspace(LOOKED_FOR, count - 1, LOOKED_FOR, dtype=int).tolist()
        found[stage] = count, _rows(loader, dict.fromkeys([*range(LOOKED_FOR), *later]))
    return found


def check_seeded(data: LightningDataModule, one: Seen, other: Seen) -> None:
    """Refuses data whose test rows are others each time that it is built from the same seed.

    Args:
        data: The data.
        one: Rows of a seed.
        other: Those of the same seed, built again.

    Raises:
        InputError: When they are.
    """
    if one and other and one["test"] != other["test"]:
        raise InputError(
            f"{type(data).__name__} has other test rows each time it is built with the same seed, so the runs of a "
            "seed would not share their split: seed its generator, as numpy.random.default_rng(seed); a data module "
            "that takes seed is given that of the run"
        )


def _loaders(build: Build, seed: int) -> list[DataLoader[Any]] | None:
    """Returns the loaders of training, test and, where there is one of rows, validation.

    None for a stream, several loaders, or without test rows.
    """
    _, data = build(seed)
    if not is_overridden("test_dataloader", data):
        return None
    with set_up(data, "fit", "test"):
        loaders = [data.train_dataloader(), data.test_dataloader()]
        if is_overridden("val_dataloader", data):
            loaders.append(data.val_dataloader())
    of_rows = [isinstance(each, DataLoader) and _has_rows(each.dataset) for each in loaders]
    return [each for each, has in zip(loaders, of_rows, strict=True) if has] if all(of_rows[:2]) else None


def _has_rows(part: Any) -> bool:
    return not isinstance(part, IterableDataset) and hasattr(part, "__len__")


def _count(loader: DataLoader[Any], stage: Stage, regime: Regime) -> int:
    """Returns how many rows there are in the batches that a run goes through."""
    rows = len(loader.dataset)  # type: ignore[arg-type]
    if regime.limit(stage) is None:
        return rows
    return min(rows, regime.batches(stage, len(loader)) * (loader.batch_size or math.ceil(rows / len(loader))))


def _rows(loader: DataLoader[Any], places: Iterable[int]) -> list[bytes] | None:
    """Returns the content of some rows; None where there are none, not of numbers alone, or only in a loader."""
    part: Any = loader.dataset
    rows = []
    for i in (i for i in places if i < len(part)):
        try:
            leaves = tree_leaves(part[i])
        except Exception:  # as of a file that a loader's workers open; what else is wrong, fit tells
            return None
        if not all(isinstance(leaf, (torch.Tensor, np.ndarray, np.generic, int, float)) for leaf in leaves):
            return None
        rows.append(b"|".join(torch.as_tensor(leaf).detach().cpu().contiguous().numpy().tobytes() for leaf in leaves))
    return rows or None
