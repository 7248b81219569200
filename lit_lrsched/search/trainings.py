"""The trainings of a search, kept on disk as they finish, and what became of them as tables, rates x seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lit_lrsched.comparison.definition import Definition
from lit_lrsched.comparison.evidence.runs import RunKey
from lit_lrsched.comparison.progress import count, progress_bar
from lit_lrsched.comparison.records import Record, RecordStore, metrics_of, stored_records
from lit_lrsched.errors import InputError
from lit_lrsched.schedules.direction import direction_of
from lit_lrsched.search.engines import TRAINING_LOSS, Engines
from lit_lrsched.search.judgement import diverged
from lit_lrsched.search.rates import BoolArray, FloatArray
from lit_lrsched.trainer.metric_names import is_of_validation, is_whole_loss


class Outcome(NamedTuple):
    """What became of L rates on S seeds.

    Args:
        lrs: The rates, rising, ``[L]``.
        metrics: What each run ended with, ``[L, S]`` by name; nan where a run was not trained.
        untrained: The same without training, ``[S]`` by name.
        broken: Whether a run's loss or weights became nan or infinite, or it was not trained since lower rates did,
            ``[L, S]``.
    """

    lrs: FloatArray
    metrics: Mapping[str, FloatArray]
    untrained: Mapping[str, FloatArray]
    broken: BoolArray

    @property
    def judged_by(self) -> str:
        """The loss that judges: the loss or an error of validation where one is logged, otherwise the training loss."""
        if self.parts:
            return TRAINING_LOSS
        return next(iter(self._of_validation(loss=True)), TRAINING_LOSS)

    @property
    def parts(self) -> list[str]:
        """The losses of validation where several are logged, and none by the name of the whole."""
        names = [name for name in self._of_validation(loss=True) if "loss" in name.lower()]
        return names if len(names) > 1 and not any(map(is_whole_loss, names)) else []

    @property
    def metric(self) -> str | None:
        """Another metric of validation, where one is logged."""
        return next(iter(self._of_validation(loss=False)), None)

    @property
    def losses(self) -> FloatArray:
        """The loss that judges, ``[L, S]``."""
        return self.metrics[self.judged_by]

    @property
    def diverged(self) -> BoolArray:
        """Which runs diverged, ``[L, S]``."""
        ends = [(self.metrics[name], self.untrained[name]) for name in dict.fromkeys([self.judged_by, TRAINING_LOSS])]
        return diverged(self.broken, ends)

    def _of_validation(self, loss: bool) -> list[str]:
        names = [name for name in self.metrics if is_of_validation(name) and _is_loss(name) == loss]
        return sorted(names, key=lambda name: (not is_whole_loss(name), "loss" not in name.lower(), len(name), name))


def _is_loss(name: str) -> bool:
    return "loss" in name.lower() or direction_of(name) == "min"


class Trainings:
    """Trains rates on seeds and keeps what comes out in a folder, which is taken up where it was left.

    Args:
        engines: What trains.
        definition: What decides the result of a run besides its rate and its seed.
        folder: Where to keep the runs.
    """

    def __init__(self, engines: Engines, definition: Definition, folder: Path) -> None:
        self._engines = engines
        self._definition = definition
        self._folder = folder

    def train(self, lrs: FloatArray, seeds: Sequence[int]) -> Outcome:
        """Trains what the folder does not hold yet, the untrained module included, and returns what became of all.

        The files of its chunks are put together then.
        """
        wanted = [*self._keys([0.0], seeds), *self._keys(lrs, seeds)]
        done = stored_records(self._folder, self._definition)
        names = metrics_of(done)
        store = RecordStore(self._folder, names, self._definition) if names else None
        left = [key for key in wanted if key not in done]
        with progress_bar(len(left), shown=bool(left)) as progress:
            for batch in self._engines.batches(left) if left else ():
                if self._engines.reason and self._breaks_below(batch[0].lr, wanted, done):
                    break  # this rate would break down too, after minutes perhaps
                for records in self._engines.train(batch):
                    names = names or list(records[0].metrics)
                    store = store or RecordStore(self._folder, names, self._definition)
                    done |= {record.key: record for record in store.append(records)}
                    count(progress, len(records))
        if store is not None:
            store.finish()
        return _checked(self._outcome(lrs, seeds, done))

    def _keys(self, lrs: Iterable[float], seeds: Sequence[int]) -> list[RunKey]:
        """Returns the keys of runs; a rate of 0 is the untrained module."""
        like = self._engines.grid.keys()[0]
        return [dataclasses.replace(like, lr=float(lr), seed=int(seed)) for lr in lrs for seed in seeds]

    def _breaks_below(self, lr: float, wanted: Sequence[RunKey], done: Mapping[RunKey, Record]) -> bool:
        """Tells whether a lower rate broke down on every seed."""
        lower = {key.lr for key in wanted if key.lr < lr}
        return any(all(key in done and done[key].diverged for key in wanted if key.lr == one) for one in lower)

    def _outcome(self, lrs: FloatArray, seeds: Sequence[int], done: Mapping[RunKey, Record]) -> Outcome:
        rows = [self._keys([lr], seeds) for lr in lrs]
        (start,) = [[done[key] for key in self._keys([0.0], seeds)]]
        names = list(start[0].metrics)
        return Outcome(
            lrs,
            {
                name: np.array([[done[key].metrics[name] if key in done else np.nan for key in row] for row in rows])
                for name in names
            },
            {name: np.array([record.metrics[name] for record in start]) for name in names},
            np.array([[key not in done or done[key].diverged for key in row] for row in rows]),
        )


def _checked(outcome: Outcome) -> Outcome:
    """Refuses a loss that is no number even without training: every rate would count as diverged."""
    start = outcome.untrained[outcome.judged_by]
    if not np.isfinite(start).any():
        raise InputError(
            f"{outcome.judged_by} is {start[0]} in the untrained module: look at how the module computes it"
        )
    return outcome
