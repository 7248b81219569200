"""Files that a command writes at its end, checked before its work."""

from __future__ import annotations

import os
from pathlib import Path

from lit_lrsched.errors import InputError


def check_can_be_written(**files: str | None) -> None:
    """Refuses a file that could not be written afterwards.

    Args:
        files: The file of each option; None where it is not asked for. That of ``png`` is a picture.

    Raises:
        InputError: When its folder is not there, one of the two cannot be written, or a picture has another ending.

    >>> check_can_be_written(export="no/such/folder/peak.yaml")
    Traceback (most recent call last):
    lit_lrsched.errors.InputError: export='no/such/folder/peak.yaml' cannot be written: there is no folder no/such/fo...
    """
    for option, file in files.items():
        if file is None:
            continue
        path, reason = Path(file), ""
        if path.is_dir():
            reason = "it is a folder"
        elif not path.parent.is_dir():
            reason = f"there is no folder {path.parent}"
        elif option == "png" and path.suffix not in (".png", ".pdf", ".svg"):
            reason = "a picture ends in .png, .pdf or .svg"
        elif not os.access(path if path.exists() else path.parent, os.W_OK):
            reason = "permission denied"
        if reason:
            raise InputError(f"{option}={file!r} cannot be written: {reason}: give another file")
