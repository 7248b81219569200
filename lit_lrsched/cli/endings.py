"""How the command ends when something from outside ends it: a signal, a closed pipe, a full disk."""

from __future__ import annotations

import errno
import io
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TextIO

from lit_lrsched.trainer.interrupts import Interrupted

_DISK = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there, or ask for more of it",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "choose a folder that can be written",
    errno.ENOTDIR: "choose a folder, this path leads through a file",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EACCES: "choose a folder that you may write, or change its permissions",
    errno.EPERM: "choose a folder that you may write, or change its permissions",
}


def status_of(stop: KeyboardInterrupt) -> int:
    """Returns the exit status, as shells have it: 130 after Ctrl-C, 143 after SIGTERM.

    >>> status_of(KeyboardInterrupt())
    130
    """
    return 128 + (stop.number if isinstance(stop, Interrupted) else signal.SIGINT)


@contextmanager
def sigterm_like_ctrl_c() -> Iterator[None]:
    """Makes SIGTERM raise :class:`Interrupted`, where Python lets a program listen: in its first thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted(number)


def disk_trouble(error: BaseException | None) -> str | None:
    """Returns what is wrong with the disk and how to mend it, in a line; None when an error has another reason.

    >>> disk_trouble(OSError(errno.ENOSPC, "No space left on device", "run/last.ckpt"))
    'run/last.ckpt: No space left on device: make room there, then repeat the command; what was finished is kept'
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK:
            where = error.filename2 or error.filename
            before = f"{os.fspath(where)}: " if isinstance(where, (str, os.PathLike)) else ""
            fix = _DISK[error.errno]
            return f"{before}{error.strerror}: {fix}, then repeat the command; what was finished is kept"
        error = error.__cause__ or error.__context__
    return None


class _Pipe(io.FileIO):
    """A pipe whose reader may leave: what it would not read is dropped."""

    def write(self, text: bytes) -> int:  # type: ignore[override]
        """Writes what is still read."""
        try:
            return super().write(text)
        except BrokenPipeError:
            return len(text)


@contextmanager
def readers_may_leave() -> Iterator[None]:
    """Lets a run go on when ``| head`` has seen enough, or when nobody reads at all.

    Characters that the terminal's encoding lacks are written as escapes.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_lasting(stream, number) for number, stream in enumerate(before, start=1))
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def _lasting(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:
        return open(os.devnull, "w")  # it was closed
    try:
        is_pipe = stream.fileno() == number and stat.S_ISFIFO(os.fstat(number).st_mode)
    except (OSError, ValueError):  # no file, as in a notebook
        return stream
    if is_pipe:
        stream.flush()
        file = io.BufferedWriter(_Pipe(number, "w", closefd=False))  # type: ignore[type-var]
        return io.TextIOWrapper(file, stream.encoding, "backslashreplace", line_buffering=number == 2)
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream
