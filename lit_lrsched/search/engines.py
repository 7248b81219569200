"""How the runs of a search are trained: the one module that calls the engines of the race."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch

from lit_lrsched.comparison.builds import WITHOUT_LENGTH
from lit_lrsched.comparison.engine.ray_cluster import RayCluster
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.comparison.engine.regime import Regime
from lit_lrsched.comparison.engine.sequential import race_one_by_one
from lit_lrsched.comparison.engine.setting_up import Build
from lit_lrsched.comparison.engine.training import Chunk, Training
from lit_lrsched.comparison.engine.user_code import line_of
from lit_lrsched.comparison.engine.vectorized import VectorizedRace
from lit_lrsched.comparison.evidence.runs import RunKey
from lit_lrsched.comparison.grid import Grid
from lit_lrsched.comparison.records import Record
from lit_lrsched.comparison.used_rates import check_rates
from lit_lrsched.errors import InputError
from lit_lrsched.schedules.compose import Chain, Phase
from lit_lrsched.schedules.core import Horizon
from lit_lrsched.schedules.decays import Linear
from lit_lrsched.schedules.shapes import Constant
from lit_lrsched.search.options import FindOptions
from lit_lrsched.search.subject import SHORT, epochs_in
from lit_lrsched.trainer.lightning_package import rank_zero_info

TRAINING_LOSS = "training loss"
"""Under this name a run keeps its mean training loss over the last tenth of its steps."""

SCOUTING = 5
"""How many times shorter runs are that only look where something happens."""

WARMED_UP = Chain([Phase(Linear(start=0.0, end=1.0), lasts="10%"), Phase(Constant())])
"""The schedule of these runs."""


class Engines:
    """Trains runs: all of them in one program where the module allows it, otherwise one ``Trainer.fit`` a run.

    Args:
        build: Takes a seed, seeds everything with it, and returns the module and its data.
        grid: The optimizer and the one schedule; its rates are not used.
        options: The options of the search.
        horizon: How long a run is.
        device: Where to train.
        cluster: The Ray cluster that trains.

    Raises:
        InputError: When the module cannot be vectorized and ``engine`` asks for it.

    Attributes:
        reason: Why runs are trained one by one; None when they are trained in one program.
        is_short: Whether they are short runs at a warmed-up constant rate.
        grid: The optimizer and the schedule that is trained under.
        horizon: How long the schedule of each run is.
        steps: How many steps each run takes: all of them, unless it only looks where something happens.
    """

    def __init__(
        self,
        build: Build,
        grid: Grid,
        options: FindOptions,
        horizon: Horizon,
        device: torch.device,
        cluster: RayCluster | None,
    ) -> None:
        self._build = build
        self._device = device
        self._cluster = cluster
        self.grid, self.horizon, self.steps = grid, horizon, horizon.steps
        self.reason: str | None = None
        self._program: VectorizedRace | None = None
        if options.engine == "sequential":
            self.reason = "it was asked for"
        else:
            try:
                self._program = self._traced(options)
            except NotVectorizable as error:
                if options.engine == "vectorized":
                    raise InputError(
                        f"the module cannot be vectorized, {error}{line_of(error)}: leave engine at auto"
                    ) from None
                self.reason = f"{error}{line_of(error)}"
        self.is_short = self.reason is not None and options.steps is None and (self._is_stream or horizon.steps > SHORT)
        if self.is_short:
            self.grid = dataclasses.replace(grid, schedules={"warmed-up constant": WARMED_UP}, interval="step")
            self.horizon, self.steps = dataclasses.replace(horizon, steps=SHORT), SHORT

    def scouting(self) -> Engines:
        """Returns the same for the first fifth of each run."""
        scouting = copy(self)
        scouting.steps = math.ceil(self.horizon.steps / SCOUTING)
        return scouting

    def opening(self) -> str:
        """Returns in a few sentences how runs are trained."""
        epochs, rest = divmod(self.horizon.steps, self.horizon.steps_per_epoch or math.inf)
        length = f"{self.horizon.steps} steps" if rest else f"{epochs} epoch{'s' * (epochs != 1)}"
        if self.reason is None:
            drawn = " Random numbers in a step (dropout, noise): the draws differ from Trainer.fit's."
            return f"All runs in one program, {length} each.{drawn if self._program and self._program.draws else ''}"
        text = f"One Trainer.fit a run of {length}, since {self.reason}."
        if self.is_short:
            text += (
                " At a rate that is warmed up and then constant: short runs prefer other rates than long ones, and a"
                " schedule that decays bears higher ones; "
            )
            if self._is_stream:
                text += f"steps, like '{10 * SHORT}st', trains so long under the schedule."
            else:
                text += "steps='100%' trains the whole run."
        return text

    @property
    def _is_stream(self) -> bool:
        return self.horizon.steps_per_epoch is None

    @property
    def epochs(self) -> int:
        """The epochs that a run begins; -1 where these have no length."""
        return epochs_in(self.horizon)

    @property
    def _regime(self) -> Regime:
        """That of the grid, without a test, which says nothing here."""
        return dataclasses.replace(self.grid.regime, limit_test=0)

    def batches(self, keys: Sequence[RunKey]) -> list[list[RunKey]]:
        """Returns what is trained at a time: everything in one program, otherwise a rate with its seeds."""
        if self._program is not None:
            return [list(keys)]
        return [[key for key in keys if key.lr == lr] for lr in dict.fromkeys(key.lr for key in keys)]

    def train(self, keys: Sequence[RunKey]) -> Iterator[list[Record]]:
        """Trains runs, and yields their records as they finish; a rate of 0 leaves the module untrained."""
        for chunk in self._chunks(keys):
            yield list(_records(chunk, keys))

    def _chunks(self, keys: Sequence[RunKey]) -> Iterator[Chunk]:
        if self._program is not None:
            try:
                yield from self._program.then(self._trainings(keys), self.steps)
            except NotVectorizable as error:  # a hook may come to it in a later epoch
                raise InputError(
                    f"the module cannot be vectorized, {error}{line_of(error)}: give engine='sequential'"
                ) from None
            return
        for chunk in race_one_by_one(
            self._build,
            [key.seed for key in keys],
            [self.grid.configure(key) for key in keys],
            epochs=self.epochs,
            device=self._device,
            cluster=self._cluster,
            regime=self._regime,
            steps=self.horizon.steps,
            stop_after=self.steps if self.steps < self.horizon.steps else None,
            stop_broken=True,
        ):
            key = keys[chunk.runs[0]]
            if chunk.broke_off and key.lr == 0:
                raise InputError(f"the untrained module breaks off, {chunk.broke_off}: look at what it computes with")
            if chunk.broke_off:
                rank_zero_info(f"The rate {key.lr:.3g}, seed {key.seed}, counts as diverged: {chunk.broke_off}.")
            check_rates(self.grid, key, chunk.rates[0], self.horizon)
            yield chunk

    def _traced(self, options: FindOptions) -> VectorizedRace:
        """Builds the program once, for the rates and the untrained module."""
        if self._is_stream:
            raise NotVectorizable(WITHOUT_LENGTH)
        like = self.grid.keys()[0]
        keys = [dataclasses.replace(like, seed=seed) for seed in options.seeds for _ in range(options.points + 1)]
        program = VectorizedRace(
            self._build,
            self._trainings(keys),
            optimizer=self.grid.optimizer,
            epochs=self.epochs,
            device=self._device,
            cluster=self._cluster,
            regime=self._regime,
            steps=self.horizon.steps,
            only_ends=True,
            regardless=options.engine == "vectorized",
        )
        program.know(options.seeds)
        return program

    def _trainings(self, keys: Sequence[RunKey]) -> list[Training]:
        own = self.grid.optimizer.lr
        trainings = self.grid.trainings([dataclasses.replace(key, lr=key.lr or own) for key in keys], self.horizon)
        for i, key in enumerate(keys):
            # All rates of a seed draw the same numbers, for dropout too, as they would with Trainer.fit.
            names = ("rates", "momenta", "weight_decays")
            first_steps: dict[str, Any] = {name: getattr(trainings[i], name)[: self.steps] for name in names}
            trainings[i] = dataclasses.replace(trainings[i], name="find", **first_steps)
            if key.lr == 0:
                trainings[i] = dataclasses.replace(trainings[i], rates=np.zeros_like(trainings[i].rates), plateau=None)
        return trainings


def _records(chunk: Chunk, keys: Sequence[RunKey]) -> Iterator[Record]:
    for place, run in enumerate(chunk.runs):
        taken = chunk.losses[place][~np.isnan(chunk.losses[place])]
        ends = {name: float(values[place, -1]) for name, values in chunk.curves.items()}
        ends[TRAINING_LOSS] = float(taken[-max(1, len(taken) // 10) :].mean()) if len(taken) else math.nan
        yield Record(keys[run], ends, {}, bool(chunk.diverged[place]) or not bool(np.isfinite(taken).all()))
