"""Where answers are printed: at most 100 columns, in letters that the output can write, with short paths."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH = 100


def console_on(file: TextIO | None) -> Console:
    """Returns a console as wide as the terminal, at most 100 columns, which what is no terminal always gets.

    Args:
        file: Where it prints to; None for standard output.
    """
    from rich.console import Console

    file = file or sys.stdout
    # A notebook asks rich for colours, and to display what is printed, whatever the file. A text has no colours.
    colours = None if file is sys.stdout or file.isatty() else False
    width = min(_WIDTH, Console(file=file).width) if file.isatty() else _WIDTH
    # Names are printed as they are: "[warm]" is no markup, and ":fire:" no picture.
    return Console(
        file=file,
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
        force_jupyter=False,
        force_terminal=colours,
    )


def writable(text: str, encoding: str, plainer: Mapping[int, str]) -> str:
    """Returns a text in letters that an encoding has: where that is not Unicode, plainer ones stand for some.

    >>> writable("up \N{UPWARDS ARROW} \N{GREEK SMALL LETTER ALPHA}", "ascii", {0x2191: "^"})
    'up ^ ?'
    """
    if encoding.lower().startswith("utf"):
        return text
    return text.translate(plainer).encode(encoding, "replace").decode(encoding)


def filled(text: str) -> str:
    """Returns a text in lines that fit standard output: as wide as a terminal, at most 100 columns."""
    return textwrap.fill(text, console_on(None).width)


def shortest_path(path: str | os.PathLike[str]) -> str:
    """Returns a path from the working directory where it lies below it, else the whole path, as that of a remote file.

    >>> shortest_path("runs/../last.ckpt"), shortest_path("s3://runs/last.ckpt")
    ('last.ckpt', 's3://runs/last.ckpt')
    """
    if "://" in str(path):
        return str(path)
    here, there = Path.cwd(), Path(path).resolve()
    return str(there.relative_to(here) if there.is_relative_to(here) else there)
