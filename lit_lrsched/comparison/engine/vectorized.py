"""Hundreds of trainings in one program: parameters stacked ``[R, ...]``, every run with its own learning rate.

The step of R runs (the module's own ``training_step`` under ``torch.func``, then the optimizer's update) is traced
once into a graph of plain tensor operations. Replaying it costs no dispatch through ``vmap`` and ``grad``, and
``torch.compile`` can fuse it. Runs are cut into chunks that suit the cache, or the device's memory. On a
CPU every one of torch's threads becomes a process that races chunks by itself, which needs no barrier after each
small operation; a Ray cluster brings workers of its own.
"""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from copy import copy
from functools import partial

import numpy as np
import torch

from lit_lrsched.comparison.engine.batches import Rows, bytes_of, module_and_rows
from lit_lrsched.comparison.engine.feeds import Feed, feeds_of
from lit_lrsched.comparison.engine.held import held
from lit_lrsched.comparison.engine.hooks import Schedule
from lit_lrsched.comparison.engine.metrics import Tensors
from lit_lrsched.comparison.engine.optimizers import Values, vectorized_update
from lit_lrsched.comparison.engine.program import Program
from lit_lrsched.comparison.engine.pure_module import PureModule
from lit_lrsched.comparison.engine.ray_cluster import RayCluster
from lit_lrsched.comparison.engine.recorder import NotVectorizable, in_a_line
from lit_lrsched.comparison.engine.regime import FULL, PLAIN, Regime
from lit_lrsched.comparison.engine.room import even_chunk, free_memory, room, seeds_with_room, workers_with_room
from lit_lrsched.comparison.engine.setting_up import Build, built
from lit_lrsched.comparison.engine.stack import Member
from lit_lrsched.comparison.engine.training import Chunk, FloatArray, OptimizerCallable, Training, tables_by_epoch
from lit_lrsched.comparison.engine.workers import Tell, in_processes
from lit_lrsched.errors import InputError, did_you_mean
from lit_lrsched.optim.torch_internals import tree_map
from lit_lrsched.schedules.plateau import Plateau
from lit_lrsched.trainer.lightning_package import LightningModule

# Runs of a program that only shows what a run works on, and how.
_FEW = 2

# A run with a smaller working set than this has no operation that is worth sharing among threads.
_SHARED = 1 << 20


def _nobody(epochs: int) -> None:
    """Is told, and does nothing."""


class VectorizedRace:
    """Trainings of one module that run together; iterate it to run them, chunk by chunk as they finish.

    Args:
        build: Takes a seed, seeds everything with it, and returns the module and its data.
        trainings: What to train, at least one.
        optimizer: Takes parameters and returns a torch optimizer, one of
            :data:`~lit_lrsched.comparison.engine.optimizers.KINDS`. Its learning rates are not used.
        epochs: Epochs of each training, with a validation at the end of each.
        device: Where to train.
        compile: Whether to compile the steps: faster, after some seconds; the machine needs a C++ compiler.
        chunk_size: The most trainings in a chunk, rounded up to a multiple of 16. None: as many as suit the cache
            of the CPU, or the memory of the device.
        keep_weights: Whether to return the trained parameters too.
        workers: Processes that race chunks. None: one for each of torch's threads on a CPU, else this one alone.
        cluster: Trains the chunks with its own workers; this process then finds out whether it can be done, and how.
        regime: Which batches train and test, and how their gradients make steps; each is tested at its end.
        steps: Optimizer steps of each training, where it ends within the last of its epochs; it is validated then.
        only_ends: Whether only what they end with is wanted: validations before the last are then left out, where
            nothing depends on them.
        regardless: Whether to train together even where that gains nothing.

    Raises:
        NotVectorizable: When the trainings cannot share a program, or gain nothing by it; the reason, in one line.
        InputError: When the rates do not fit the number of steps.

    Attributes:
        chunk_size: Trainings in a chunk.
        workers: Processes that race chunks; 1 is this process itself.
        bytes_per_run: Memory that one training adds to the working set of a step.
        turned: Names of the parameters whose matrices lie transposed in memory, as products take them.
        compile_seconds: What compiling took; 0 without.
        draws: Whether a step draws random numbers, dropout among them: others than ``Trainer.fit`` would draw.
        curves: Names of what is logged in training and validation; None where it is found out in the runs alone.
        final: Likewise in the test.
    """

    def __init__(
        self,
        build: Build,
        trainings: Sequence[Training],
        *,
        optimizer: OptimizerCallable,
        epochs: int,
        device: torch.device | str = "cpu",
        compile: bool = False,
        chunk_size: int | None = None,
        keep_weights: bool = False,
        workers: int | None = None,
        cluster: RayCluster | None = None,
        regime: Regime = PLAIN,
        steps: int | None = None,
        only_ends: bool = False,
        regardless: bool = False,
    ) -> None:
        self._build = build
        self._trainings = trainings
        self._optimizer = optimizer
        self._epochs = epochs
        self._compile = compile
        self._cluster = cluster
        self._trains_on = torch.device(device)
        self._device = torch.device("cpu") if cluster else self._trains_on
        self._keep_weights = keep_weights
        self._regime = regime
        self._only_ends = only_ends
        self._known: dict[int, Member] = {}
        self._most_seeds: int | None = None  # whose data a chunk may hold; None for any number
        self._fetched: dict[Feed, Rows] = {}
        if regime.precision != FULL:
            raise NotVectorizable(
                f"the trainer's precision is {regime.precision}, and runs share a program at {FULL} alone"
            )
        self._drawn = epochs  # so many are drawn of every seed, also where a later race is shorter
        module, rows, self._anew = self._module_and_rows(trainings[0].seed, free_memory())
        self._sizes = {feed: part.sizes for feed, part in rows.items()}
        self._fetched = rows  # stays: every process, and every seed, that has the same shares it
        self._per_epoch = regime.steps_in(len(self._sizes["train"]))
        self._steps = epochs * self._per_epoch if steps is None else steps
        self._check_steps()
        self._held = held(module)
        module.to(self._device)
        real = optimizer(module.parameters())
        names = {parameter: name for name, parameter in module.named_parameters()}
        self._update = vectorized_update(real, names, [training.weight_decays for training in trainings])
        self._update.check_momenta(training.momenta for training in trainings)
        trained = {parameter for group in real.param_groups for parameter in group["params"]}
        probes = {feed: tree_map(lambda leaf: leaf.to(self._device), part.first_batch()) for feed, part in rows.items()}
        schedule = Schedule(self._sizes, epochs, regime, self._steps)
        self._pure = PureModule(module, trained, len(real.param_groups), probes, schedule)
        self._noted = self._held  # what later seeds begin with where all share an object that steps write into
        with suppress(NotVectorizable):  # of tensors that a step keeps
            self._noted = self._held | held(module)
        for name in sorted(self._anew & self._pure.calls.changing):
            raise NotVectorizable(f"its setup for the test makes self.{name} anew, which training changes")
        example = Member(*self._pure.tensors(module), {feed: part.few() for feed, part in rows.items()})
        self._shared = self._same_constants(example)
        self._pure.check_first_batches(probes, self._shared)

        threads = torch.get_num_threads()
        here = threads if self._device.type == "cpu" and sys.platform == "linux" else 1
        space = (cluster and cluster.free_memory()) or room(self._device)
        workers = cluster.workers if cluster else workers or here
        first = self._program(example, _FEW)
        self.bytes_per_run = first.peak_bytes() // _FEW
        if not cluster:
            data = bytes_of([(part.data, part.order) for part in rows.values()])
            workers = workers_with_room(self._device, workers, self.bytes_per_run, data, regardless)
            self._most_seeds = seeds_with_room(self._device, workers, self.bytes_per_run, data)
            if self._most_seeds and self._most_seeds < len({training.seed for training in trainings}):
                self._most_seeds = None if self._is_same_data() else self._most_seeds
        self.chunk_size = even_chunk(len(trainings), workers, chunk_size or space // self.bytes_per_run)
        self._chunks = self._cut(trainings)
        self._most_workers = workers
        self.workers = min(workers, len(self._chunks))
        self._threads = threads if self.workers == 1 and self.bytes_per_run >= _SHARED else 1
        self.turned = first.turned()
        self._program_of_chunk = self._program(example, self.chunk_size, self.turned)
        self._program_of_chunk.trace()
        if self.turned and self._program_of_chunk.hooks_view:
            self.turned = []  # they find them as the module has them
            self._program_of_chunk = self._program(example, self.chunk_size)
            self._program_of_chunk.trace()
        self.draws = self._program_of_chunk.draws
        self.curves = self._program_of_chunk.logged("train", "val")
        self.final = self._program_of_chunk.logged("test")
        self.compile_seconds = 0.0
        if compile and not cluster:
            started = time.perf_counter()
            with _threads(self._threads):
                self._program_of_chunk.compile()
            self.compile_seconds = time.perf_counter() - started

    def then(self, trainings: Sequence[Training], steps: int | None = None) -> VectorizedRace:
        """Returns the race of other trainings in the same program: nothing is traced or compiled again.

        Args:
            trainings: What to train.
            steps: Optimizer steps of each, where they are fewer; it is validated then. None: as many as before.

        Raises:
            NotVectorizable: When one of them has to train alone.
            InputError: When the rates do not fit the number of steps.
        """
        race = copy(self)
        race._trainings = trainings
        if steps is not None:
            race._steps = steps
            race._epochs = math.ceil(steps / self._per_epoch)
        race._check_steps()
        race._update.check_momenta(training.momenta for training in trainings)
        race._chunks = race._cut(trainings)
        race.workers = min(self._most_workers, len(race._chunks))
        return race

    def _cut(self, trainings: Sequence[Training]) -> list[list[int]]:
        """Returns the chunks, by seed, so that each holds the data of few."""
        chunks: list[list[int]] = []
        seeds = set[int]()
        for run in sorted(range(len(trainings)), key=lambda run: trainings[run].seed):
            seeds.add(trainings[run].seed)
            is_full = not chunks or len(chunks[-1]) == self.chunk_size
            if is_full or (self._most_seeds and len(seeds) > self._most_seeds):
                chunks.append([])
                seeds = {trainings[run].seed}
            chunks[-1].append(run)
        return chunks

    def __iter__(self) -> Iterator[Chunk]:
        """Trains, and yields each chunk when it is finished."""
        return self.chunks(_nobody)

    def chunks(self, tell: Tell) -> Iterator[Chunk]:
        """Trains, and yields each chunk when it is finished.

        Args:
            tell: Is told while it trains how many epochs were trained since the last time, over all runs: by a Ray
                cluster with each chunk, else a few times a second or more often.
        """
        if self._cluster is not None:
            for chunk in self._cluster.train(self._recipe(), self._chunks):
                tell(self._epochs * len(chunk.runs))
                yield chunk
        elif self.workers > 1:
            yield from in_processes(self.train, self._chunks, self.workers, tell)
        else:
            for runs in self._chunks:
                yield self.train(runs, tell)

    def _check_steps(self) -> None:
        for training in self._trainings:
            if len(training.rates) != self._steps:
                raise InputError(
                    f"a training takes {self._steps} optimizer steps but {len(training.rates)} learning rates were "
                    "given: give one for each step"
                )

    def _program(self, member: Member, runs: int, turned: Collection[str] = ()) -> Program:
        return Program(
            self._pure,
            self._update,
            member,
            runs,
            self._device,
            self._epochs,
            self._regime,
            turned,
            self._shared.keys(),
            self._anew,
        )

    def _module_and_rows(
        self, seed: int, free: int | None = None
    ) -> tuple[LightningModule, dict[Feed, Rows], set[str]]:
        return module_and_rows(self._build, seed, self._drawn, self._regime, free, self._fetched)

    def know(self, seeds: Iterable[int]) -> None:
        """Builds what the trainings of each seed share, which is kept until a chunk has other seeds.

        Where the memory has no room for the data of all, it is built one by one, and again for a chunk.

        Raises:
            NotVectorizable: When one of them has to train alone.
        """
        wanted = {*seeds}
        fits = self._most_seeds is None or len(wanted) <= self._most_seeds
        for each in [wanted] if fits else [{seed} for seed in wanted]:
            self._members(each)

    def _members(self, seeds: Set[int]) -> dict[int, Member]:
        members = self._known
        for seed in members.keys() - seeds:
            del members[seed]
        for seed in seeds - members.keys():
            module, rows, _ = self._module_and_rows(seed)
            if {feed: part.sizes for feed, part in rows.items()} != self._sizes:
                raise NotVectorizable(f"seed {seed} has batches of other sizes than seed {self._trainings[0].seed}")
            self._check_held(module, seed)
            for feed, part in rows.items():
                rows[feed] = part.sharing([self._fetched[feed], *(member.rows[feed] for member in members.values())])
            member = Member(*self._pure.tensors(module), rows)
            for name, tensor in self._shared.items():
                if not torch.equal(tensor, member.constants[name]):
                    raise NotVectorizable(
                        f"all runs would share {name}, and seed {seed} has another than the first two"
                    )
                member.constants[name] = tensor
            members[seed] = member
        return members

    def _is_same_data(self) -> bool:
        """Returns whether the first two seeds have the same data."""
        first, second, *_ = {training.seed: None for training in self._trainings}
        members = self._members({first, second})
        return all(part.data is members[first].rows[feed].data for feed, part in members[second].rows.items())

    def _same_constants(self, example: Member) -> Tensors:
        """Returns the constants that are the same for two seeds, such as encodings of positions."""
        first = {name: tensor.cpu() for name, tensor in example.constants.items()}
        if not first:
            return first
        seed = self._trainings[0].seed
        other = next((training.seed for training in self._trainings if training.seed != seed), seed + 1)
        with built(self._build, other, self._drawn, self._regime) as (module, _):
            pass
        constants = self._pure.tensors(module)[2]
        return {name: tensor for name, tensor in first.items() if torch.equal(tensor, constants[name])}

    def _check_held(self, module: LightningModule, seed: int) -> None:
        """Refuses a module that differs from that of the first seed in more than numbers of parameters and buffers."""
        now = held(module)
        names = sorted(
            name
            for name in now.keys() | self._held.keys()
            if now.get(name) not in (self._held.get(name), self._noted.get(name))
        )
        if names:
            raise NotVectorizable(
                f"all runs would share self.{names[0]}, and seed {seed} has another than seed {self._trainings[0].seed}"
            )

    def _recipe(self) -> Callable[[], VectorizedRace]:
        """Returns what makes the same race in another process, which may train any of its chunks."""
        return partial(
            VectorizedRace,
            self._build,
            self._trainings,
            optimizer=self._optimizer,
            epochs=self._epochs,
            device=self._trains_on,
            compile=self._compile,
            chunk_size=self.chunk_size,
            keep_weights=self._keep_weights,
            workers=1,
            regime=self._regime,
            steps=self._steps,
            only_ends=self._only_ends,
            regardless=True,
        )

    def train(self, runs: list[int], tell: Tell = _nobody) -> Chunk:
        """Trains the runs of one chunk.

        Raises:
            NotVectorizable: When one of them comes to a matrix that an operation refuses, which stops all of them.
        """
        with _threads(self._threads), torch.no_grad():
            try:
                return self._train(runs, tell)
            except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
                raise NotVectorizable(f"a run breaks down and would stop the others ({in_a_line(error)})") from error

    def _train(self, runs: list[int], tell: Tell) -> Chunk:
        real = [self._trainings[run] for run in runs]
        # A chunk that is not full repeats its last training, so that all chunks have one shape.
        trainings = real + [real[-1]] * (self.chunk_size - len(real))
        members = self._members({training.seed for training in trainings})
        stack = self._program_of_chunk.stack(
            [members[training.seed] for training in trainings], torch.tensor([_key(training) for training in trainings])
        )
        tables = [training.tables(self._update.momenta, self._update.weight_decays) for training in trainings]
        used = np.empty((self._steps, len(real)))
        # What is logged for the first time has had no value before.
        curves = defaultdict[str, FloatArray](lambda: np.full((len(trainings), self._epochs), np.nan))
        plateaus = {run: training.plateau for run, training in enumerate(trainings) if training.plateau}
        states = {run: plateau.start() for run, plateau in plateaus.items()}
        factors = np.ones(len(trainings))
        only_last = self._only_ends and not plateaus and self._program_of_chunk.validates_idly
        for epoch, of_epoch in zip(range(self._epochs), tables_by_epoch(tables, self._per_epoch), strict=True):
            rates = of_epoch[0]
            rates *= factors[:, None]
            first = epoch * self._per_epoch
            used[first : first + len(rates)] = rates[:, : len(real), 0]
            set_to = Values(*(torch.from_numpy(table).to(self._device) for table in of_epoch))
            validates = not only_last or epoch == self._epochs - 1
            values = self._program_of_chunk.train_epoch(stack, epoch, set_to, validates)
            stack.check_left_out()
            logged = {name: value.double().cpu().numpy() for name, value in values.items()}
            for name, value in logged.items():
                curves[name][:, epoch] = value
            for run, plateau in plateaus.items():
                states[run] = plateau.update(states[run], _monitored(plateau, logged)[run])
                factors[run] = states[run].factor
            tell(len(real))
        final = self._program_of_chunk.test(stack) if feeds_of("test", self._sizes) else {}
        stack.check_left_out()
        n = len(real)
        return Chunk(
            runs=runs,
            curves={name: values[:n] for name, values in curves.items()},
            final={name: value.double().cpu().numpy()[:n] for name, value in final.items()},
            diverged=stack.broken().cpu().numpy()[:n],
            rates=used.T,
            weights={name: p.cpu().numpy()[:n] for name, p in stack.parameters.items()} if self._keep_weights else {},
            losses=stack.losses.T.double().cpu().numpy()[:n],
        )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _key(training: Training) -> int:
    digest = hashlib.sha256(f"{training.name}/{training.seed}".encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True)


def _monitored(plateau: Plateau, logged: dict[str, FloatArray]) -> FloatArray:
    if plateau.monitor not in logged:
        raise InputError(
            f"monitor={plateau.monitor!r} is not logged{did_you_mean(plateau.monitor, logged)}: "
            f"the module logs {', '.join(sorted(logged))}"
        )
    return logged[plateau.monitor]
