"""Runs functions and the command in a copy of this process, which has loaded torch and Lightning already."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path


def forked(function: Callable[[], object]) -> int:
    """Starts a function in a copy of this process, with a process group of its own. Returns its number.

    The copy ends with status 0 when the function returns, and as Python ends when it raises.
    A warning is no error there.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pytest has a thread, which the copy lacks
        child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        warnings.resetwarnings()
        function()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def status_of(child: int) -> int:
    """Waits until a copy has ended. Returns its status, or the negative number of the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def command(arguments: list[str], folder: Path, output: Path, errors: Path | None = None) -> Callable[[], None]:
    """Returns what runs ``lit-lrsched`` in a folder and writes what it says into a file, or errors into another."""

    def run() -> None:
        from lit_lrsched.__main__ import main

        os.chdir(folder)
        sys.stdout = output.open("w", buffering=1)
        sys.stderr = errors.open("w", buffering=1) if errors else sys.stdout
        for number, stream in enumerate((sys.stdout, sys.stderr), start=1):
            os.dup2(stream.fileno(), number)
        sys.argv = ["lit-lrsched", *arguments]
        main()

    return run
