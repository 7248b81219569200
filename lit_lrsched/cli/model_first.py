"""The model's module, imported before Lightning: which of its two packages the model is made with, decides."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lit_lrsched.cli.pairs import pairs_of


def import_model(arguments: Sequence[str]) -> None:
    """Imports the modules of the models that a command line and its configurations name; other commands name none.

    What cannot be imported or read is left for the parser to tell.

    Args:
        arguments: The arguments of the process.
    """
    for name in _models(arguments):
        module = name.rpartition(".")[0]
        if module and not module.startswith("lit_lrsched"):
            with suppress(Exception):
                importlib.import_module(module)


def _models(arguments: Sequence[str]) -> Iterator[str]:
    for option, value in pairs_of(arguments):
        if option in ("--model", "--model.class_path"):
            yield value
        elif option in ("-c", "--config"):
            yield from _models_in(Path(value))


def _models_in(configuration: Path) -> Iterator[str]:
    import yaml  # type: ignore[import-untyped]

    # A pipe can be read once, by the parser. What is typed is no file, and `Path.is_file` refuses it where it is long.
    if not os.path.isfile(configuration):
        return
    try:
        found = yaml.safe_load(configuration.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return
    whole = found if isinstance(found, Mapping) else {}
    for part in (whole, *(one for one in whole.values() if isinstance(one, Mapping))):  # of a subcommand, maybe
        model: Any = part.get("model")
        name = model.get("class_path") if isinstance(model, Mapping) else model
        if isinstance(name, str):
            yield name
