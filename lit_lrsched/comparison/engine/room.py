"""How many runs suit a machine side by side: by the caches of its CPU, the memory of its device, and what is free."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from lit_lrsched.comparison.engine.even import LANES
from lit_lrsched.comparison.engine.recorder import NotVectorizable

# A core's second cache: what counts where it is smaller, or its size is not told.
_CACHE = 1 << 20

# A run that works on more than this, for each worker, is as quick by itself with all threads: it fills the caches alone
# (`scripts/bench/modules.py --sizes`).
_GAINS = 12 << 20

# Calling the operations of a step takes as long as about so many small runs do.
_FIXED = 32

#: How often a process holds its chunk and the data: while tracing, as fetched, and side by side.
COPIES = 3


def room(device: torch.device) -> int:
    """Returns how many bytes the steps of a chunk may work on.

    On a device half of its free memory; on a CPU four times the second cache of a core, since an operation reads and
    writes about a quarter of what a step works on. Cores with a small one have a large third one.
    """
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else 4 * max(_second_cache(), _CACHE)


def even_chunk(runs: int, workers: int, most: int) -> int:
    """Returns the size of the chunks with which all workers are done soonest: a multiple of 16.

    Args:
        runs: All runs.
        workers: How many processes train chunks at the same time.
        most: The most runs that suit a chunk; it is rounded up to a multiple of 16.

    >>> [even_chunk(1000, 2, most) for most in (1, 96, 128, 352)]
    [16, 96, 128, 256]
    >>> even_chunk(20, 2, 96)
    16
    """

    def takes(size: int) -> int:
        rounds = math.ceil(runs / (size * workers))
        return rounds * (size + _FIXED)

    largest = math.ceil(min(max(most, 1), runs) / LANES) * LANES
    return min(range(largest, 0, -LANES), key=takes)


def workers_with_room(
    device: torch.device, workers: int, bytes_per_run: int, bytes_of_rows: int, regardless: bool
) -> int:
    """Returns how many processes of this machine may train chunks at the same time.

    Args:
        device: Where they train.
        workers: How many there are at most.
        bytes_per_run: What a step works on for each run.
        bytes_of_rows: What the data of one seed take.
        regardless: Whether to train together even where that gains nothing.

    Raises:
        NotVectorizable: Where training together gains nothing, or not even one process has the memory.
    """
    on_cpu = device.type == "cpu"
    if on_cpu and bytes_per_run > workers * _GAINS and not regardless:
        raise NotVectorizable(
            f"a step works on {_in_mebibytes(bytes_per_run)} for each run, and from {_in_mebibytes(workers * _GAINS)} "
            "on runs gain nothing side by side here"
        )
    needed, free = _least(device, bytes_per_run, bytes_of_rows), _free(device)
    if free is None:
        return workers
    check_memory(f"{LANES} runs side by side and their data", needed, free)
    return min(workers, free // needed)


def seeds_with_room(device: torch.device, workers: int, bytes_per_run: int, bytes_of_rows: int) -> int | None:
    """Returns the data of how many seeds a chunk may hold, at least one; None where the system does not tell.

    Args:
        device: Where the chunks train.
        workers: How many processes train chunks at the same time.
        bytes_per_run: What a step works on for each run.
        bytes_of_rows: What the data of one seed take.
    """
    free = _free(device)
    if free is None:
        return None
    left = free // workers - _least(device, bytes_per_run, bytes_of_rows)
    each = (2 if device.type == "cpu" else 1) * bytes_of_rows  # as fetched, and one after another
    return 1 + max(0, left // each)


def _least(device: torch.device, bytes_per_run: int, bytes_of_rows: int) -> int:
    """Returns what the smallest chunk takes with the data of one seed."""
    return (COPIES if device.type == "cpu" else 1) * (LANES * bytes_per_run + bytes_of_rows)


def _free(device: torch.device) -> int | None:
    return free_memory() if device.type == "cpu" else room(device)


def check_memory(what: str, needed: int, free: int) -> None:
    """Checks that something fits in the memory that is free.

    Args:
        what: The subject of what is told, in the plural.
        needed: The bytes that it takes.
        free: The bytes that are free.

    Raises:
        NotVectorizable: When it does not.
    """
    if needed > free:
        raise NotVectorizable(f"{what} take about {_in_mebibytes(needed)}, and {_in_mebibytes(free)} are free")


def free_memory() -> int | None:
    """Returns the bytes of memory that this process may still take; None where the system does not tell."""
    free = [found << 10 for found in _numbers("/proc/meminfo", "MemAvailable:")]
    group = "/sys/fs/cgroup"  # where a container sets a limit; what it holds of files gives way
    free += _left(f"{group}/memory.max", f"{group}/memory.current", f"{group}/memory.stat", "inactive_file")
    group = f"{group}/memory"  # of the first version
    limit, usage = f"{group}/memory.limit_in_bytes", f"{group}/memory.usage_in_bytes"
    free += _left(limit, usage, f"{group}/memory.stat", "total_inactive_file")
    return min(free, default=None)


def _left(limit: str, usage: str, stat: str, gives_way: str) -> list[int]:
    most, taken = (_text(path).strip() for path in (limit, usage))
    if not (most.isdecimal() and taken.isdecimal()):
        return []
    return [int(most) - int(taken) + sum(_numbers(stat, gives_way))]


def _numbers(path: str, name: str) -> list[int]:
    """Returns the number behind a name at the start of a line; nothing where there is none."""
    return [int(line.split()[1]) for line in _text(path).splitlines() if line.startswith(f"{name} ")]


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def _second_cache() -> int:
    for cache in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        size = _text(f"{cache}/size").strip()
        if _text(f"{cache}/level").strip() == "2" and size.endswith("K"):
            return int(size[:-1]) << 10
    return _CACHE


def _in_mebibytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
