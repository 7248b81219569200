"""Processes of this machine that train the chunks of a race."""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import torch

from lit_lrsched.comparison.engine.training import Chunk
from lit_lrsched.errors import InputError


def in_processes(train: Callable[[list[int]], Chunk], chunks: Sequence[list[int]], count: int) -> Iterator[Chunk]:
    """Trains chunks in forks of this process, and yields each when it is finished.

    Args:
        train: Trains the runs of one chunk; the forks have it, and all that it knows, from the start.
        chunks: The runs of each chunk.
        count: How many processes.

    Raises:
        InputError: When one of them is killed.
    """
    with warnings.catch_warnings():
        # Python warns of forking beside other threads: these children wait for none of them.
        warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
        pool = ProcessPoolExecutor(
            count, multiprocessing.get_context("fork"), initializer=_become_worker, initargs=(train,)
        )
        others = set(multiprocessing.active_children())
        futures = [pool.submit(_train_here, runs) for runs in chunks]
        workers = set(multiprocessing.active_children()) - others
    try:
        for future in as_completed(futures):
            yield future.result()
    except BaseException as error:
        for worker in workers:
            worker.kill()  # nobody waits for what they are at, and they ignore the SIGTERM of a broken pool
        if not isinstance(error, BrokenProcessPool):
            raise
        raise InputError(
            "a worker process of the race was killed, as the system does where memory runs out: what was finished "
            "is kept, and the same call goes on; a smaller OMP_NUM_THREADS means fewer workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


class _Worker:
    """What a worker process runs; set when it starts, so that nothing is copied with a chunk."""

    train: Callable[[list[int]], Chunk]


def _become_worker(train: Callable[[list[int]], Chunk]) -> None:
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent hears it too, and ends the workers
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no worker outlives a parent that was killed
    _Worker.train = staticmethod(train)


def _train_here(runs: list[int]) -> Chunk:
    return _Worker.train(runs)
