"""Trains the runs of a race that its folder does not hold yet, and keeps every chunk as it finishes."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from lit_lrsched.comparison.builds import WITHOUT_LENGTH, steps_per_epoch
from lit_lrsched.comparison.definition import Definition
from lit_lrsched.comparison.engine.ranks import Ranks
from lit_lrsched.comparison.engine.ray_cluster import cluster_of
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.comparison.engine.sequential import race_one_by_one
from lit_lrsched.comparison.engine.setting_up import Build
from lit_lrsched.comparison.engine.training import Chunk, FloatArray, Training
from lit_lrsched.comparison.engine.user_code import line_of
from lit_lrsched.comparison.engine.vectorized import VectorizedRace
from lit_lrsched.comparison.engine.workers import Tell
from lit_lrsched.comparison.evidence.runs import RunKey
from lit_lrsched.comparison.grid import Grid
from lit_lrsched.comparison.lock import alone_in
from lit_lrsched.comparison.options import RaceOptions
from lit_lrsched.comparison.progress import count, how_long, progress_bar
from lit_lrsched.comparison.records import Record, RecordStore, metrics_of, stored_records
from lit_lrsched.comparison.report.words import counted
from lit_lrsched.comparison.used_rates import check_rates
from lit_lrsched.errors import InputError, did_you_mean
from lit_lrsched.schedules.core import Horizon
from lit_lrsched.trainer.lightning_package import rank_zero_info
from lit_lrsched.trainer.logged_names import logged_names
from lit_lrsched.trainer.metric_names import on_test_data

# Compiling takes 10 to 25 s; a compiled run of the worked example saves 0.4 to 1.5 ms.
_WORTH_COMPILING = 20_000

# Where each of several processes keeps its runs until all are done.
_SHARES = "ranks"


class Runner:
    """Trains what is not in the folder yet, on one device or several.

    Args:
        grid: What races.
        build: Takes a seed, seeds everything with it, and returns the module and its data.
        definition: What decides the results besides the keys of the runs.
        options: The options of the race.
        folder: Where the results go.
        ranks: The processes of the race.

    Attributes:
        engine: The engine that trained; None where all runs were there already.
        reason: Why that engine, in a line.
        seconds: How long the trainings took, all rounds together.
        trained: How many runs were trained in these seconds.
    """

    def __init__(
        self, grid: Grid, build: Build, definition: Definition, options: RaceOptions, folder: Path, ranks: Ranks
    ) -> None:
        self._grid = grid
        self._build = build
        self._definition = definition
        self._options = options
        self._folder = folder
        self._ranks = ranks
        if options.ray is not None and ranks.count > 1:
            raise InputError(f"ray={options.ray!r} brings workers of its own: leave the trainer at one device")
        self._cluster = cluster_of(options.ray, options.ray_cpus, options.ray_gpus, ranks.device)
        self._chosen = False  # the engine
        self._program: VectorizedRace | None = None  # built once, whatever the number of rounds
        self._store: RecordStore | None = None  # of this process, once it has trained
        self.engine: str | None = None
        self.reason = ""
        self.seconds = 0.0
        self.trained = 0

    @property
    def where(self) -> str:
        """What it trains on, in a word or two."""
        if self._cluster and self.trained:
            return str(self._cluster)
        device = self._device.type
        return device if self._ranks.count == 1 else f"{self._ranks.count} x {device}"

    @property
    def _device(self) -> torch.device:
        return self._cluster.device if self._cluster else self._ranks.device

    def train(self, keys: Sequence[RunKey]) -> list[Record]:
        """Trains runs that the folder does not hold yet, keeping every chunk as it finishes, and returns all of them.

        A race with a budget calls it once a round.
        """
        started = time.perf_counter()
        with alone_in(self._folder, self._ranks.rank), self._cluster or nullcontext():
            self._ranks.launch(partial(self._train, keys))
            with self._ranks.first_alone() as first:
                gathered = self._gather() if first else None
        self.seconds += time.perf_counter() - started
        stored = gathered or stored_records(self._folder, self._definition)
        records = [stored[key] for key in keys]
        self._check_numbers(records)
        return records

    def _train(self, keys: Sequence[RunKey]) -> None:
        """Trains this process's share of what is not in the folder yet."""
        places = (self._folder, *self._shares())
        done: dict[RunKey, Record] = {}
        for place in places:
            done |= stored_records(place, self._definition)
        if done:
            record = next(iter(done.values()))
            self._check_metric(record.curves, record.metrics)
        left = [key for key in self._ranks.share(keys) if key not in done]
        missing = sum(key not in done for key in keys)
        self.trained += missing
        if not left:
            return
        if missing < len(keys):
            rank_zero_info(f"Taking up {self._folder}: {len(keys) - missing} runs are done, {missing} are left.")
        place = self._folder if self._ranks.count == 1 else self._folder / _SHARES / str(self._ranks.rank)
        names = metrics_of(done)
        self._store = RecordStore(place, names, self._definition) if names else None
        with progress_bar(len(left), shown=self._ranks.rank == 0) as progress:

            def tell(epochs: int) -> None:
                count(progress, epochs / self._options.epochs)

            for chunk in self._chunks(left, tell):
                if self._store is None:
                    self._check_metric(chunk.curves, chunk.final)
                    names = [*(chunk.curves | chunk.final)]
                    self._store = RecordStore(place, names, self._definition)
                records = _records(chunk, left, self._options.epochs)
                self._store.append(list(records))

    def _gather(self) -> dict[RunKey, Record]:
        """Brings the shares of all processes together, writes the final files, and returns all records."""
        shares = self._shares()
        store = self._store
        if store is None or shares:
            names = next(filter(None, (metrics_of(stored_records(place)) for place in (self._folder, *shares))))
            store = RecordStore(self._folder, names, self._definition)
        for share in shares:
            store.take_in(share)
        shutil.rmtree(self._folder / _SHARES, ignore_errors=True)
        return {record.key: record for record in store.finish()}

    def _shares(self) -> list[Path]:
        return sorted((self._folder / _SHARES).glob("*"))

    def _chunks(self, keys: Sequence[RunKey], tell: Tell) -> Iterator[Chunk]:
        first, self._chosen = not self._chosen, True
        if first:
            self._program = self._choose(keys)
        done: set[int] = set()
        if self._program is not None:
            try:
                for chunk in (self._program if first else self._program.then(self._trainings(keys))).chunks(tell):
                    done.update(chunk.runs)
                    yield chunk
                return
            except NotVectorizable as error:  # a later seed may be of another kind
                self._program = None
                self._take_sequential(str(error), line_of(error))
        yield from self._one_by_one(keys, [run for run in range(len(keys)) if run not in done], tell, is_first=first)

    def _one_by_one(self, keys: Sequence[RunKey], runs: Sequence[int], tell: Tell, is_first: bool) -> Iterator[Chunk]:
        """Trains some of the runs, each by a ``Trainer.fit``."""
        if self._store is None:
            self._check_source()
        started = time.perf_counter()
        for chunk in race_one_by_one(
            self._build,
            [keys[run].seed for run in runs],
            [self._grid.configure(keys[run]) for run in runs],
            epochs=self._options.epochs,
            device=self._device,
            cluster=self._cluster,
            regime=self._grid.regime,
        ):
            if is_first and chunk.runs == [0] and len(runs) > 1 and not self._cluster:
                alone = self._device.type == "cpu" and self._ranks.count == 1
                places = min(os.cpu_count() or 1, len(runs)) if alone else 1
                rank_zero_info(how_long(time.perf_counter() - started, len(runs) - 1, places))
            key = keys[runs[chunk.runs[0]]]
            steps, rest = divmod(len(chunk.rates[0]), self._options.epochs)
            if chunk.broke_off:
                self._tell_broken(key, chunk.broke_off)
            elif not rest:
                check_rates(self._grid, key, chunk.rates[0], Horizon(len(chunk.rates[0]), steps))
            tell(self._options.epochs)
            yield replace(chunk, runs=[runs[run] for run in chunk.runs])

    def _tell_broken(self, key: RunKey, why: str) -> None:
        if self._store is None:  # no run has shown that the module works, nor what it logs
            raise InputError(f"{key.schedule} at {key.lr:g}, seed {key.seed}, broke off, {why}: give lower rates")
        rank_zero_info(f"{key.schedule} at {key.lr:g}, seed {key.seed}, counts as diverged: {why}.")

    def _choose(self, keys: Sequence[RunKey]) -> VectorizedRace | None:
        """Chooses the engine and says which; returns the program of the first runs, and None where there is none."""
        if self._options.engine == "sequential":
            self._take_sequential("it was asked for")
            return None
        try:
            race = self._vectorized(keys)
        except NotVectorizable as error:
            self._take_sequential(str(error), line_of(error))
            return None
        self.engine = "vectorized"
        self.reason = "every step of the module is a pure function of its parameters and the batch"
        rank_zero_info(
            f"Engine: vectorized, {race.chunk_size} runs at a time in {race.workers} "
            f"process{'es' if race.workers > 1 else ''}{' of a Ray cluster' if self._cluster else ''}."
        )
        if race.curves is not None and race.final is not None:
            self._check_metric(race.curves, race.final)
        if race.draws:
            rank_zero_info("Random numbers in a step (dropout, noise): the draws differ from Trainer.fit's.")
        return race

    def _take_sequential(self, reason: str, line: str = "") -> None:
        if self._options.engine == "vectorized":
            raise InputError(f"the module cannot be vectorized, {reason}{line}: leave engine at auto")
        self.engine, self.reason = "sequential", reason
        rank_zero_info(f"Engine: sequential, one Trainer.fit a run, since {reason}{line}.")

    def horizon(self) -> Horizon | None:
        """Returns how long a run lasts; None where the data do not tell."""
        per_epoch = steps_per_epoch(self._build, self._grid.seeds[0], self._grid.regime)
        return None if per_epoch is None else Horizon(self._options.epochs * per_epoch, per_epoch)

    def _trainings(self, keys: Sequence[RunKey]) -> list[Training]:
        horizon = self.horizon()
        if horizon is None:
            raise NotVectorizable(WITHOUT_LENGTH)
        return self._grid.trainings(keys, horizon)

    def _vectorized(self, keys: Sequence[RunKey]) -> VectorizedRace:
        return VectorizedRace(
            self._build,
            self._trainings(keys),
            optimizer=self._grid.optimizer,
            epochs=self._options.epochs,
            device=self._device,
            compile=self._compiles(),
            cluster=self._cluster,
            regime=self._grid.regime,
            regardless=self._options.engine == "vectorized",
        )

    def _compiles(self) -> bool:
        compiler = os.environ.get("CXX", "g++")  # as torch looks for it
        found = shutil.which(compiler) is not None
        if self._options.compile and not found:
            raise InputError(f"compile=True needs a C++ compiler, and {compiler} is not there: install it, or leave it")
        if self._options.compile is not None:
            return self._options.compile
        # By the size of the whole race, not by a clock, so that one that is taken up again computes as it did before.
        size = self._options.budget or len(self._grid.keys())
        return found and self._device.type == "cpu" and size >= _WORTH_COMPILING

    def _check_metric(self, curves: Collection[str], final: Collection[str]) -> None:
        metric, tested = self._options.metric, self._options.test_metric
        fit = sorted(name for name in curves if on_test_data(name) in final)
        if metric not in curves:
            what = f"metric={metric!r} is not logged{did_you_mean(metric, fit)}"
        elif tested not in final:
            what = f"metric={metric!r} is judged by {tested!r}, which the test does not log"
        else:
            return
        if fit:
            raise InputError(f"{what}: give one that the module logs and its test too, {_listed(fit)}")
        raise InputError(
            f"{what}, nor any metric of validation and test: {_listed(curves)} and {_listed(final)} are "
            "logged; log one in both, like val_acc in validation_step and test_acc in test_step"
        )

    def _check_source(self) -> None:
        """Refuses a metric that a module's source does not name, before a run is trained to find that out."""
        module, _ = self._build(self._grid.seeds[0])
        logged, metric = logged_names([type(module)]), self._options.metric
        missing = [name for name in (metric, self._options.test_metric) if not logged.include(name)]
        if logged.complete and missing:
            raise InputError(
                f"metric={metric!r}, and {type(module).__name__} does not log {missing[0]!r} (its source names "
                f"{', '.join(logged.readable) or 'none'}): give one that it logs in validation and test"
            )

    def _check_numbers(self, records: Sequence[Record]) -> None:
        """Refuses a metric that is no number although the trainings did not break down: lower rates would not help."""
        for metric in (self._options.metric, self._options.test_metric):
            values = [record.metrics[metric] for record in records if not record.diverged]
            if values and not np.isfinite(values).any():
                raise InputError(
                    f"{metric} is {values[0]} after every run, and {counted(len(values), 'run')} of {len(records)} did "
                    "not diverge: look at how the module computes it, or give another metric"
                )


def _listed(metrics: Iterable[str]) -> str:
    return ", ".join(sorted(metrics)) or "nothing"


def _records(chunk: Chunk, keys: Sequence[RunKey], epochs: int) -> Iterator[Record]:
    for place, run in enumerate(chunk.runs):
        curves = {name: values[place] for name, values in chunk.curves.items()}
        final = {name: float(values[place]) for name, values in chunk.final.items()}
        last = {name: float(curve[-1]) for name, curve in curves.items()}
        if not chunk.broke_off:
            curves["lr"] = _as_epochs_begin(chunk.rates[place], epochs)
        yield Record(keys[run], {**last, **final}, curves, bool(chunk.diverged[place]))


def _as_epochs_begin(rates: FloatArray, epochs: int) -> FloatArray:
    """Returns the rates of the steps with which epochs begin: of each the first, or the next that was not skipped."""
    taken = np.flatnonzero(~np.isnan(rates))
    first = np.searchsorted(taken, np.arange(epochs) * len(rates) // epochs)
    return rates[taken[np.minimum(first, len(taken) - 1)]]
