"""The option ``--json``: standard output holds one JSON document, and everything else goes to standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lit_lrsched.cli.pairs import pairs_of
from lit_lrsched.errors import InputError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def add_json(parser: ArgumentParser) -> None:
    """Adds the option to a parser."""
    about = "Prints the answer as one JSON document, and everything else on standard error."
    parser.add_argument("--json", type=bool, nargs="?", const=True, default=False, help=about)


# Of each command that keeps standard output for a document, what it will print there.
_kept: list[list[str]] = []


@contextmanager
def output_for_json(arguments: object) -> Iterator[None]:
    """Keeps standard output for a document where ``--json`` is typed: what anybody else prints goes to standard error.

    That begins before the parser imports anything of the user's, and holds for other processes and libraries in C too.

    Args:
        arguments: What was typed.
    """
    if _kept or not isinstance(arguments, (list, tuple)) or not _is_typed(arguments):
        yield
        return
    document: list[str] = []
    before = sys.stdout
    before.flush()
    _kept.append(document)
    sys.stdout = sys.stderr
    try:
        with _to_standard_error():
            try:
                yield
            finally:
                before.flush()  # what others wrote who hold on to it
    finally:
        sys.stdout = before
        _kept.remove(document)
        print(*document, sep="", end="", flush=True)


def check_typed(asked: bool) -> None:
    """Refuses ``json: true`` of a configuration: by then standard output may have been written to.

    Raises:
        InputError: When that is so.
    """
    if asked and not _kept:
        raise InputError("json: true does not work in a configuration: type --json, which keeps standard output free")


def print_json(answer: Mapping[str, Any]) -> None:
    """Prints an answer as the document, once the command has ended.

    Args:
        answer: Plain data, as ``as_dict()`` of the results is.
    """
    _kept[-1].append(json.dumps(answer, indent=2, allow_nan=False) + "\n")


def _is_typed(arguments: Sequence[object]) -> bool:
    value = dict(pairs_of([*map(str, arguments)])).get("--json")
    return value is not None and value.lower() not in ("false", "no")


@contextmanager
def _to_standard_error() -> Iterator[None]:
    """Sends what is written to file 1 to file 2."""
    try:
        number = os.dup(1)
    except OSError:  # it was closed
        yield
        return
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(number, 1)
        os.close(number)
