"""Hundreds of trainings in one program: parameters stacked ``[R, ...]``, every run with its own learning rate.

The step of R runs (the module's own ``training_step`` under ``torch.func``, then the optimizer's update) is traced
once into a graph of plain tensor operations. Replaying it costs no dispatch through ``vmap`` and ``grad``, and
``torch.compile`` can fuse it. Runs are cut into chunks whose working set fits the cache, or the device's memory. On a
CPU every one of torch's threads becomes a process that races chunks by itself, which needs no barrier after each
small operation.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
import multiprocessing
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.func import grad_and_value, vmap
from torch.utils._pytree import tree_leaves, tree_map, tree_structure, tree_unflatten

from lit_lrsched.comparison.batches import Recipe, Rows, replay
from lit_lrsched.comparison.functional import NotVectorizable, PureModule, Stage, Tensors
from lit_lrsched.comparison.graphs import Graph
from lit_lrsched.comparison.optimizers import Update, vectorized_update
from lit_lrsched.errors import InputError, did_you_mean
from lit_lrsched.schedules.plateau import Plateau

FloatArray = npt.NDArray[np.float64]
OptimizerCallable = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]

# Vector instructions take up to 16 numbers at a time and treat the rest one by one, which may round otherwise. With a
# multiple of 16 runs there is no rest, so that no run's result depends on how many others run beside it.
_LANES = 16

# Keys of successive steps lie this far apart: room for as many calls of dropout within a step.
_STRIDE = 1 << 24

# Where the size of the cache is not told.
_CACHE = 8 << 20

# A run with a smaller working set than this has no operation that is worth sharing among threads.
_SHARED = 1 << 20


@dataclass(frozen=True, eq=False)  # arrays have no equality that is true or false
class Training:
    """One training.

    Args:
        seed: Trainings with the same seed share the data, the initial weights and the batch order.
        rates: Learning rate at each optimizer step, ``[steps]``.
        momenta: Momentum at each step (for Adam and AdamW: beta1), one number for all steps, or None for the
            optimizer's own.
        plateau: Multiplies the rates down when a metric stalls; it is shown the metric after every epoch. Of its own
            schedule nothing is used: that is in ``rates``.
        name: With the seed, tells its dropout draws from those of the other trainings.
    """

    seed: int
    rates: FloatArray
    momenta: FloatArray | float | None = None
    plateau: Plateau | None = None
    name: str = ""


@dataclass(frozen=True, eq=False)
class Chunk:
    """What came out of some of the trainings, R of them.

    Args:
        runs: Which of the trainings these are: their places in the sequence that was given.
        curves: What the module logs for training and validation, after each epoch, ``[R, epochs]`` by name.
        final: What the module logs for testing, ``[R]`` by name.
        diverged: Whether a loss or a weight became nan or infinite, ``[R]``.
        rates: Learning rates as they were used, ``[R, steps]``.
        weights: The trained parameters, ``[R, ...]`` by name; empty unless asked for.
    """

    runs: list[int]
    curves: dict[str, FloatArray]
    final: dict[str, FloatArray]
    diverged: npt.NDArray[np.bool_]
    rates: FloatArray
    weights: dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class _Member:
    """All that trainings of one seed share."""

    parameters: Tensors
    constants: Tensors
    rows: dict[Stage, Rows]

    @property
    def sizes(self) -> dict[Stage, tuple[int, ...]]:
        return {stage: rows.sizes for stage, rows in self.rows.items()}


class _Stack:
    """R members side by side on a device, and what becomes of them.

    Args:
        members: The member that each run starts from; the same object where runs share a seed.
        pure: The module.
        update: The optimizer.
        keys: What each run's dropout is drawn from, int64 ``[R]``.
        device: Where to put them.
    """

    def __init__(
        self, members: Sequence[_Member], pure: PureModule, update: Update, keys: Tensor, device: torch.device
    ) -> None:
        self.runs = len(members)
        self.keys = keys.to(device)
        self.parameters = _side_by_side([member.parameters for member in members], device)
        self.constants = _side_by_side([member.constants for member in members], device)
        self.slots = update.slots(self.parameters)
        self.state = _side_by_side([pure.start()] * self.runs, device)
        different = list({id(member): member for member in members}.values())
        place = {id(member): i for i, member in enumerate(different)}
        self._which = torch.tensor([place[id(member)] for member in members], device=device)
        self._data: dict[Stage, list[Tensor]] = {}
        self._order: dict[Stage, Tensor] = {}
        for stage in members[0].rows:
            leaves = [tree_leaves(member.rows[stage].data) for member in different]
            self._data[stage] = [torch.cat(parts).to(device) for parts in zip(*leaves, strict=True)]
            first = torch.tensor([0, *(len(parts[0]) for parts in leaves[:-1])]).cumsum(0)
            order = torch.stack([member.rows[stage].order for member in different], dim=1)
            self._order[stage] = (order + first[:, None]).to(device)

    def batches(self, stage: Stage, epoch: int, sizes: tuple[int, ...]) -> Iterator[list[Tensor]]:
        """Yields an epoch's batches: their leaves, ``[R, B, ...]``."""
        order = self._order[stage][epoch][self._which]
        for size, rows in zip(sizes, torch.split(order, list(sizes), dim=1), strict=True):
            flat = rows.flatten()
            yield [leaf.index_select(0, flat).view(self.runs, size, *leaf.shape[1:]) for leaf in self._data[stage]]

    def broken(self) -> Tensor:
        """Returns for each run whether a training loss or a weight became nan or infinite."""
        finite = self.state["loss/train"].isfinite()
        for parameter in self.parameters.values():
            finite &= parameter.reshape(self.runs, -1).isfinite().all(dim=1)
        return ~finite


class _Program:
    """Everything that R runs do, as graphs that one stack after another is put through.

    Args:
        pure: The module.
        update: The optimizer.
        member: An example of what the runs start from.
        runs: R.
        device: Where the stacks lie.
    """

    def __init__(self, pure: PureModule, update: Update, member: _Member, runs: int, device: torch.device) -> None:
        self._pure = pure
        self._update = update
        self._sizes = member.sizes
        self._structure = {stage: tree_structure(rows.data) for stage, rows in member.rows.items()}
        self._device = device
        self._steps: dict[tuple[Stage, int], Graph] = {}
        self._ends: dict[Stage, Graph] = {}
        self._example = self.stack([member] * runs, torch.zeros(runs, dtype=torch.int64))

    def trace(self) -> None:
        """Traces all graphs now, rather than each when it is first needed."""
        for stage, sizes in self._sizes.items():
            for size in sizes:
                self._step(stage, size)
            self._end(stage)

    def compile(self) -> None:
        """Compiles the steps, for the number of threads that torch has now."""
        for (stage, size), graph in self._steps.items():
            graph.compile(tree_leaves(self._arguments(stage, size)))

    def peak_bytes(self) -> int:
        """Returns the working set of the largest training step."""
        return self._step("train", max(self._sizes["train"])).peak_bytes()

    def stack(self, members: Sequence[_Member], keys: Tensor) -> _Stack:
        """Returns R runs that start from these members."""
        return _Stack(members, self._pure, self._update, keys, self._device)

    def train_epoch(self, stack: _Stack, epoch: int, rates: Tensor, momenta: Tensor) -> dict[str, Tensor]:
        """Trains for an epoch at rates and momenta, float64 ``[steps, R]``; returns what is logged, ``[R]`` by name."""
        fixed = tree_leaves((stack.parameters, stack.constants, stack.slots))
        first = epoch * len(rates)
        table = self._coefficients(stack, rates, momenta, first)
        steps = torch.arange(first, first + len(rates), device=self._device)
        driven = ([*fixed, row, stack.keys, step] for row, step in zip(table, steps, strict=True))
        return self._through(stack, "train", epoch, driven)

    def evaluate(self, stack: _Stack, stage: Stage, epoch: int) -> dict[str, Tensor]:
        """Validates or tests; returns what is logged, ``[R]`` by name."""
        return self._through(stack, stage, epoch, repeat(tree_leaves((stack.parameters, stack.constants))))

    def _through(self, stack: _Stack, stage: Stage, epoch: int, arguments: Iterable[list[Tensor]]) -> dict[str, Tensor]:
        state, sizes = list(stack.state.values()), self._sizes[stage]
        for size, batch, before in zip(sizes, stack.batches(stage, epoch, sizes), arguments, strict=False):
            state = self._step(stage, size).replay(*before, *state, *batch)
        end = self._end(stage)
        values: Tensors
        stack.state, values = end.outputs(end.replay(*tree_leaves((stack.parameters, stack.constants)), *state))
        return values

    def _step(self, stage: Stage, size: int) -> Graph:
        if (stage, size) not in self._steps:
            function = self._train if stage == "train" else partial(self._evaluate, stage)
            self._steps[stage, size] = Graph(function, *self._arguments(stage, size))
        return self._steps[stage, size]

    def _end(self, stage: Stage) -> Graph:
        if stage not in self._ends:
            stack = self._example
            self._ends[stage] = Graph(partial(self._end_epoch, stage), stack.parameters, stack.constants, stack.state)
        return self._ends[stage]

    def _arguments(self, stage: Stage, size: int) -> tuple[Any, ...]:
        """Returns example arguments of a step, as trees."""
        stack = self._example
        batches = zip(self._sizes[stage], stack.batches(stage, 0, self._sizes[stage]), strict=True)
        batch = next(batch for found, batch in batches if found == size)
        if stage != "train":
            return stack.parameters, stack.constants, stack.state, batch
        still = torch.zeros(1, stack.runs, dtype=torch.float64, device=self._device)
        coefficients = self._coefficients(stack, still, still, 0)[0]
        step = torch.zeros((), dtype=torch.int64, device=self._device)
        return stack.parameters, stack.constants, stack.slots, coefficients, stack.keys, step, stack.state, batch

    def _train(
        self,
        parameters: Tensors,
        constants: Tensors,
        slots: dict[str, Tensors],
        coefficients: Tensor,
        keys: Tensor,
        step: Tensor,
        state: Tensors,
        batch: list[Tensor],
    ) -> Tensors:
        """Takes one step of all runs: parameters and slots change in place, the new state is returned."""
        gradients = vmap(grad_and_value(self._pure.loss, has_aux=True), randomness="error")
        grads, (_, state) = gradients(
            parameters, constants, state, tree_unflatten(batch, self._structure["train"]), keys + step * _STRIDE
        )
        self._update.update_(parameters, grads, slots, coefficients)
        return state

    def _evaluate(
        self, stage: Stage, parameters: Tensors, constants: Tensors, state: Tensors, batch: list[Tensor]
    ) -> Tensors:
        evaluate = vmap(partial(self._pure.evaluate, stage), randomness="error")
        return evaluate(parameters, constants, state, tree_unflatten(batch, self._structure[stage]))

    def _end_epoch(
        self, stage: Stage, parameters: Tensors, constants: Tensors, state: Tensors
    ) -> tuple[Tensors, Tensors]:
        """Returns the state for the next epoch, and what is logged."""
        end = vmap(partial(self._pure.end_epoch, stage, rows=sum(self._sizes[stage])), randomness="error")
        # What is reset is one tensor for all runs until it is copied; metrics add to it in place.
        return tree_map(Tensor.contiguous, end(parameters, constants, state))  # type: ignore[no-any-return]

    def _coefficients(self, stack: _Stack, rates: Tensor, momenta: Tensor, first: int) -> Tensor:
        dtype = next(iter(stack.parameters.values())).dtype
        return self._update.coefficients(rates, momenta, first).to(dtype)


class VectorizedRace:
    """Trainings of one module that run together; iterate it to run them, chunk by chunk as they finish.

    Args:
        recipe: Takes a seed, seeds everything with it, and returns the module and its data.
        trainings: What to train, at least one.
        optimizer: Takes parameters and returns a torch optimizer: SGD, Adam or AdamW. Its learning rate is not used.
        epochs: Epochs of each training, with a validation at the end of each.
        device: Where to train.
        compile: Whether to compile the steps: faster, after some seconds; the machine needs a C++ compiler.
        chunk_size: The most trainings in a chunk, rounded up to a multiple of 16. None: as many as fit the cache of
            the CPU, or the memory of the device.
        keep_weights: Whether to return the trained parameters too.

    Raises:
        NotVectorizable: When the trainings cannot share a program; the reason, in one line.
        InputError: When the rates do not fit the number of steps.

    Attributes:
        chunk_size: Trainings in a chunk.
        workers: Processes that race chunks; 1 is this process itself.
        bytes_per_run: Memory that one training adds to the working set of a step.
        compile_seconds: What compiling took; 0 without.
    """

    def __init__(
        self,
        recipe: Recipe,
        trainings: Sequence[Training],
        *,
        optimizer: OptimizerCallable,
        epochs: int,
        device: torch.device | str = "cpu",
        compile: bool = False,
        chunk_size: int | None = None,
        keep_weights: bool = False,
    ) -> None:
        self._recipe = recipe
        self._trainings = trainings
        self._epochs = epochs
        self._device = torch.device(device)
        self._keep_weights = keep_weights
        module, rows = replay(recipe, trainings[0].seed, epochs)
        self._sizes = {stage: part.sizes for stage, part in rows.items()}
        self._check_steps()
        module.to(self._device)
        real = optimizer(module.parameters())
        self._update = vectorized_update(real)
        trained = {parameter for group in real.param_groups for parameter in group["params"]}
        probes = {
            stage: tree_map(lambda leaf: leaf.to(self._device), part.first_batch()) for stage, part in rows.items()
        }
        self._pure = PureModule(module, trained, probes)
        example = _Member(*self._pure.tensors(module), rows)

        self.bytes_per_run = self._program(example, _LANES).peak_bytes() // _LANES
        threads = torch.get_num_threads()
        workers = threads if self._device.type == "cpu" and sys.platform == "linux" else 1
        most = _rounded_up(chunk_size or _fitting(self.bytes_per_run, workers, self._device))
        rounds = math.ceil(len(trainings) / (workers * most))
        self.chunk_size = _rounded_up(math.ceil(len(trainings) / (workers * rounds)))
        # By seed, so that a chunk holds the data of few.
        order = sorted(range(len(trainings)), key=lambda run: trainings[run].seed)
        self._chunks = [order[i : i + self.chunk_size] for i in range(0, len(order), self.chunk_size)]
        self.workers = min(workers, len(self._chunks))
        self._threads = threads if self.workers == 1 and self.bytes_per_run >= _SHARED else 1
        self._program_of_chunk = self._program(example, self.chunk_size)
        self._program_of_chunk.trace()
        self.compile_seconds = 0.0
        if compile:
            started = time.perf_counter()
            with _threads(self._threads):
                self._program_of_chunk.compile()
            self.compile_seconds = time.perf_counter() - started

    def __iter__(self) -> Iterator[Chunk]:
        """Trains, and yields each chunk when it is finished."""
        if self.workers == 1:
            for runs in self._chunks:
                with _threads(self._threads):
                    chunk = self._race(runs)
                yield chunk
            return
        with warnings.catch_warnings():
            # Python warns of forking beside other threads: these children wait for none of them.
            warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
            pool = ProcessPoolExecutor(
                self.workers, multiprocessing.get_context("fork"), initializer=_become_worker, initargs=(self._race,)
            )
            others = set(multiprocessing.active_children())
            futures = [pool.submit(_race_here, runs) for runs in self._chunks]
            workers = set(multiprocessing.active_children()) - others
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise InputError(
                "a worker process of the race was killed, as the system does where memory runs out: what was finished "
                "is kept, and the same call goes on; a smaller OMP_NUM_THREADS means fewer workers"
            ) from None
        except BaseException:
            for worker in workers:
                worker.kill()  # nobody waits for what they are at
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _check_steps(self) -> None:
        steps = self._epochs * len(self._sizes["train"])
        for training in self._trainings:
            if len(training.rates) != steps:
                raise InputError(
                    f"a training takes {steps} optimizer steps but {len(training.rates)} learning rates were given: "
                    f"give one for each step"
                )

    def _program(self, member: _Member, runs: int) -> _Program:
        return _Program(self._pure, self._update, member, runs, self._device)

    def _member(self, seed: int) -> _Member:
        module, rows = replay(self._recipe, seed, self._epochs)
        member = _Member(*self._pure.tensors(module), rows)
        if member.sizes != self._sizes:
            raise NotVectorizable(f"seed {seed} has batches of other sizes than seed {self._trainings[0].seed}")
        return member

    @torch.no_grad()
    def _race(self, runs: list[int]) -> Chunk:
        real = [self._trainings[run] for run in runs]
        # A chunk that is not full repeats its last training, so that all chunks have one shape.
        trainings = real + [real[-1]] * (self.chunk_size - len(real))
        member = {seed: self._member(seed) for seed in {training.seed for training in trainings}}
        stack = self._program_of_chunk.stack(
            [member[training.seed] for training in trainings], torch.tensor([_key(training) for training in trainings])
        )
        rates = np.stack([training.rates for training in trainings], axis=1).astype(np.float64)
        momenta = np.stack([self._momenta(training) for training in trainings], axis=1)
        curves: dict[str, list[FloatArray]] = {}
        plateaus = {run: training.plateau for run, training in enumerate(trainings) if training.plateau}
        states = {run: plateau.start() for run, plateau in plateaus.items()}
        factors = np.ones(len(trainings))
        per_epoch = len(self._sizes["train"])
        for epoch in range(self._epochs):
            now = slice(epoch * per_epoch, (epoch + 1) * per_epoch)
            rates[now] *= factors
            values = self._program_of_chunk.train_epoch(
                stack, epoch, *(torch.from_numpy(table[now]).to(self._device) for table in (rates, momenta))
            )
            if "val" in self._sizes:
                values |= self._program_of_chunk.evaluate(stack, "val", epoch)
            logged = {name: value.double().cpu().numpy() for name, value in values.items()}
            for name, value in logged.items():
                curves.setdefault(name, []).append(value)
            for run, plateau in plateaus.items():
                states[run] = plateau.update(states[run], _monitored(plateau, logged)[run])
                factors[run] = states[run].factor
        final = self._program_of_chunk.evaluate(stack, "test", 0) if "test" in self._sizes else {}
        n = len(real)
        return Chunk(
            runs=runs,
            curves={name: np.stack(values, axis=1)[:n] for name, values in curves.items()},
            final={name: value.double().cpu().numpy()[:n] for name, value in final.items()},
            diverged=stack.broken().cpu().numpy()[:n],
            rates=rates.T[:n],
            weights={name: p.cpu().numpy()[:n] for name, p in stack.parameters.items()} if self._keep_weights else {},
        )

    def _momenta(self, training: Training) -> FloatArray:
        given = self._update.momentum if training.momenta is None else training.momenta
        return np.broadcast_to(np.asarray(given, dtype=np.float64), np.shape(training.rates))


class _Worker:
    """What a worker process runs; set when it starts, so that nothing is copied with a chunk."""

    race: Callable[[list[int]], Chunk]


def _become_worker(race: Callable[[list[int]], Chunk]) -> None:
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent hears it too, and ends the workers
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no worker outlives a parent that was killed
    _Worker.race = staticmethod(race)


def _race_here(runs: list[int]) -> Chunk:
    return _Worker.race(runs)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _side_by_side(trees: Sequence[Tensors], device: torch.device) -> Tensors:
    return {name: torch.stack([tree[name] for tree in trees]).to(device) for name in trees[0]}


def _rounded_up(runs: int) -> int:
    return math.ceil(runs / _LANES) * _LANES


def _fitting(bytes_per_run: int, workers: int, device: torch.device) -> int:
    """Returns how many runs fit half of a worker's share of the last cache, or half of a device's free memory."""
    room = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _last_cache() // workers
    return max(1, room // 2 // bytes_per_run)  # the other half is for the data and for what else runs


def _last_cache() -> int:
    sizes = [path.read_text().strip() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    return max((int(size[:-1]) << 10 for size in sizes if size.endswith("K")), default=_CACHE)


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
