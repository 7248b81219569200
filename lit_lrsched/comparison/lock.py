"""One process at a time in the folder of a race."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from lit_lrsched.trainer.lightning_package import rank_zero_info, rank_zero_warn

# What file systems without locks answer, such as some that computers share over a network.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def alone_in(folder: Path, rank: int = 0) -> Iterator[None]:
    """Keeps other processes of the same rank out of a folder, and waits for one that is there already.

    The operating system releases the lock when a process ends, however it ends: the file that a killed one leaves
    behind keeps nobody out. What is empty at the end is removed, so that a refused race leaves nothing.

    Args:
        folder: The folder, made when it is not there.
        rank: Place among the processes of one race, which share the folder.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    path = folder / (f".lock{rank}" if rank else ".lock")
    file = _opened(path)
    try:
        while not _is_locked(file, path):
            file.close()
            file = _opened(path)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        file.close()
        with suppress(OSError):
            for emptied in made:
                emptied.rmdir()


def _opened(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a+")


def _is_locked(file: TextIO, path: Path) -> bool:
    """Locks a file. Returns whether it is still the one of that path: who had it before has removed it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        process = file.read().strip()
        rank_zero_info(f"Process {process} is at work in {path.parent}: waiting for its end.")
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        rank_zero_warn(f"the file system of {path.parent} has no locks: start no second one there before this one ends")
        return True
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
