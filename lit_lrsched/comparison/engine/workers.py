"""Processes of this machine that train the chunks of a race."""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext

import torch

from lit_lrsched.comparison.engine.training import Chunk
from lit_lrsched.errors import InputError

Tell = Callable[[int], None]  # is told how many epochs were trained since the last time, over all runs
Train = Callable[[list[int], Tell], Chunk]

# How often the epochs of all processes are told, in seconds.
_EVERY = 0.2


def in_processes(train: Train, chunks: Sequence[list[int]], count: int, tell: Tell) -> Iterator[Chunk]:
    """Trains chunks in forks of this process, and yields each when it is finished.

    Args:
        train: Trains the runs of one chunk; the forks have it, and all that it knows, from the start.
        chunks: The runs of each chunk.
        count: How many processes.
        tell: Is told how far they are, a few times a second.

    Raises:
        InputError: When one of them is killed.
    """
    with warnings.catch_warnings():
        # Python warns of forking beside other threads: these children wait for none of them.
        warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
        fork = multiprocessing.get_context("fork")
        trained = _Count(fork)
        pool = ProcessPoolExecutor(count, fork, initializer=_become_worker, initargs=(train, trained))
        others = set(multiprocessing.active_children())
        left = {pool.submit(_train_here, runs) for runs in chunks}
        workers = set(multiprocessing.active_children()) - others
    try:
        while left:
            done, left = wait(left, timeout=_EVERY, return_when=FIRST_COMPLETED)
            tell(trained.take())
            for future in done:
                yield future.result()
    except BaseException as error:
        for worker in workers:
            worker.kill()  # nobody waits for what they are at, and they ignore the SIGTERM of a broken pool
        if not isinstance(error, BrokenProcessPool):
            raise
        raise InputError(
            "a worker process was killed, as the system does where memory runs out: what was finished "
            "is kept, and the same call goes on; a smaller OMP_NUM_THREADS means fewer workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


class _Count:
    """A number that processes add to, until one takes it."""

    def __init__(self, context: BaseContext) -> None:
        self._value = context.Value("q", 0)

    def add(self, number: int) -> None:
        with self._value.get_lock():
            self._value.value += number

    def take(self) -> int:
        with self._value.get_lock():
            number, self._value.value = self._value.value, 0
        return int(number)


class _Worker:
    """What a worker process runs; set when it starts, so that nothing is copied with a chunk."""

    train: Train
    trained: _Count


def _become_worker(train: Train, trained: _Count) -> None:
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent hears it too, and ends the workers
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no worker outlives a parent that was killed
    _Worker.train = staticmethod(train)
    _Worker.trained = trained


def _train_here(runs: list[int]) -> Chunk:
    return _Worker.train(runs, _Worker.trained.add)
