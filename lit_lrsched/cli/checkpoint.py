"""Which checkpoint ``--ckpt_path`` means, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from lit_lrsched.errors import InputError
from lit_lrsched.plans.console import shortest_path

_OF_LIGHTNING = ("best", "hpc")

# What a folder holds that several processes wrote as one checkpoint: of Lightning's own strategies, and of DeepSpeed.
_COUNTS = "meta.pt"
_OF_SEVERAL = (_COUNTS, "latest")


def checkpoint_path(given: str | None, root: str | None = None) -> str | None:
    """Returns the checkpoint that ``--ckpt_path`` means; what Lightning itself looks up is returned as it is.

    Args:
        given: A file, or a folder that several processes wrote; ``last`` for the newest checkpoint of the runs in
            ``lightning_logs``; or None.
        root: Where ``lightning_logs`` is. Default: the working directory.

    Raises:
        InputError: When there is no such checkpoint.
    """
    if given is None or given in _OF_LIGHTNING or "://" in given:
        return given
    if given.partition(":")[0] == "registry":
        if find_spec("litmodels") is None:
            raise InputError(
                f"ckpt_path={given!r} is in Lightning's registry of models: install litmodels, or give a file"
            )
        return given
    if given == "last":
        logs = Path(root or ".", "lightning_logs").expanduser()
        found = [path for path in logs.glob("*/checkpoints/*.ckpt") if path.is_file() or _is_of_several(path)]
        if not found:
            raise InputError(f"ckpt_path='last': there is no checkpoint in {shortest_path(logs)}: train first")
        return str(max(found, key=lambda path: (path.stat().st_mtime_ns, path.name == "last.ckpt")))
    if not Path(given).exists():
        raise InputError(f"ckpt_path={given!r}: there is no such checkpoint")
    if Path(given).is_dir() and not _is_of_several(Path(given)):
        raise InputError(f"ckpt_path={given!r} is a folder: give the file in it, such as last.ckpt")
    return given


def counts_of(checkpoint: str) -> Path | None:
    """Returns the file that says how far the run of a checkpoint was; None where there is none to read."""
    file = Path(checkpoint, _COUNTS) if Path(checkpoint).is_dir() else Path(checkpoint)
    return file if file.is_file() else None


def _is_of_several(folder: Path) -> bool:
    return any(Path(folder, name).is_file() for name in _OF_SEVERAL)


@contextmanager
def explained(path: str | None, reason_for: Callable[[str, BaseException], str | None]) -> Iterator[None]:
    """Says in a line what is wrong with a checkpoint.

    Args:
        path: The checkpoint, if there is one.
        reason_for: Returns the reason, by the path and the error that it led to; None for an error of another kind.

    Raises:
        InputError: When there is a reason.
    """
    try:
        yield
    except Exception as error:
        if path is not None and (reason := reason_for(path, error)):
            raise InputError(reason) from error
        raise
