"""How many runs suit a machine side by side: by the caches of its CPU, the memory of its device, and what is free."""

from __future__ import annotations

from pathlib import Path

import torch

from lit_lrsched.comparison.engine.even import LANES
from lit_lrsched.comparison.engine.recorder import NotVectorizable

# A core's second cache, where its size is not told.
_CACHE = 1 << 20

# A run that works on more than this, for each worker, is as quick by itself with all threads: it fills the caches alone
# (`scripts/bench/modules.py --sizes`).
_GAINS = 12 << 20

# How often a process holds its chunk and the data: while tracing, as fetched, and side by side.
_SETS = 3


def room(device: torch.device) -> int:
    """Returns how many bytes the steps of a chunk may work on.

    On a device half of its free memory; on a CPU four times the cache of a core, since an operation reads and writes
    about a quarter of what a step works on.
    """
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else 4 * _second_cache()


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
            f"a step works on {in_mebibytes(bytes_per_run)} for each run, and from {in_mebibytes(workers * _GAINS)} on "
            "runs gain nothing side by side here"
        )
    needed = (_SETS if on_cpu else 1) * (LANES * bytes_per_run + bytes_of_rows)
    free = free_memory() if on_cpu else room(device)
    if free is None or needed * workers <= free:
        return workers
    if needed > free:
        raise NotVectorizable(
            f"{LANES} runs side by side and their data take about {in_mebibytes(needed)}, and {in_mebibytes(free)} are "
            "free"
        )
    return free // needed


def free_memory() -> int | None:
    """Returns the bytes of memory that this process may still take; None where the system does not tell."""
    found = [_available(), *_left_of_group()]
    return min((number for number in found if number is not None), default=None)


def _available() -> int | None:
    for line in _text("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return None


def _left_of_group() -> list[int]:
    """Returns what a container leaves to its processes, where it sets a limit."""
    group = "/sys/fs/cgroup"
    pairs = [
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ]
    texts = [[_text(f"{group}/{name}").strip() for name in pair] for pair in pairs]
    return [int(most) - int(taken) for most, taken in texts if most.isdecimal() and taken.isdecimal()]


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


def in_mebibytes(count: int) -> str:
    """Returns a number of bytes as text.

    >>> in_mebibytes(3 << 30)
    '3,072 MiB'
    """
    return f"{count / 2**20:,.0f} MiB"
