"""What this room needs of argparse and jsonargparse beyond their public names. Checked with jsonargparse 4.53."""

from __future__ import annotations

import warnings
from argparse import Action, ArgumentParser
from collections.abc import Iterable
from typing import Any

import yaml  # type: ignore[import-untyped]
from jsonargparse import DefaultHelpFormatter


class ValueHook(ArgumentParser):
    """Makes a jsonargparse parser pass every value through :meth:`before_parsing` before it is parsed."""

    def before_parsing(self, action: Action, value: Any) -> Any:
        """Returns the value to parse in place of one that was typed or stands in a configuration."""
        return value

    def _get_values(self, action: Action, arg_strings: list[str]) -> Any:  # argparse: of options on the command line
        return super()._get_values(action, [self.before_parsing(action, one) for one in arg_strings])

    def _check_value_key(self, action: Action, value: Any, *args: Any, **kwargs: Any) -> Any:  # of configurations
        value = self.before_parsing(action, value)
        return super()._check_value_key(action, value, *args, **kwargs)  # type: ignore[misc]


class WritesText(ArgumentParser):
    """Leaves out of what it writes what no text says, such as a default that is an instance: it stays the default."""

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """Returns a configuration as text."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=rf"\s*{_NO_TEXT}")
            text: str = super().dump(*args, **kwargs)  # type: ignore[misc]
        if _NO_TEXT not in text:
            return text
        header = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
        written: str = yaml.safe_dump(_texts(yaml.safe_load(text)), sort_keys=False, allow_unicode=True)
        return header + written


# What jsonargparse writes in the place of such a value.
_NO_TEXT = "Unable to serialize instance "


def _texts(value: Any) -> Any:
    """Returns values without those that no text says; a list that holds one is none either.

    >>> _texts({"a": {"b": 1, "c": "Unable to serialize instance ReLU()"}, "d": [1, "Unable to serialize instance x"]})
    {'a': {'b': 1}}
    """
    if isinstance(value, list):
        return [_texts(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {name: _texts(one) for name, one in value.items() if not _holds_none(one)}


def _holds_none(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return any(isinstance(one, str) and one.startswith(_NO_TEXT) for one in values)


class PublicClasses(DefaultHelpFormatter):
    """Makes the help name no classes but those that a person may choose."""

    def _get_help_string(self, action: Action) -> str:  # argparse: before it is wrapped into lines
        head, known, tail = super()._get_help_string(action).partition("known subclasses: ")
        classes = tail.removesuffix(")").split(", ")
        return f"{head}{known}{', '.join(filter(_is_public, classes))})" if known else head


def _is_public(path: str) -> bool:
    """Tells the path of a class that a person may choose from that of a base or of an internal class.

    >>> list(map(_is_public, ["lit_lrsched.Linear", "lit_lrsched.optim.scheduled_lr.ScheduledLR", "torch.optim.SGD"]))
    [True, False, True]
    """
    return path not in _INTERNAL and not (path.startswith("lit_lrsched.") and path.count(".") > 1)


# Bases, and schedulers that somebody else makes.
_INTERNAL = (
    "lightning.pytorch.Callback",
    "lightning.pytorch.LightningDataModule",
    "lightning.pytorch.LightningModule",
    "lightning.pytorch.cli.ReduceLROnPlateau",
    "lit_lrsched.ScheduledLR",
    "pytorch_lightning.Callback",
    "pytorch_lightning.LightningDataModule",
    "pytorch_lightning.LightningModule",
    "pytorch_lightning.cli.ReduceLROnPlateau",
    "torch.optim.Optimizer",
    "torch.optim.lr_scheduler.LRScheduler",
    "torch.optim.swa_utils.SWALR",
)


def type_of(action: Action) -> Any:
    """Returns the type that the values of an option have; None where it has none."""
    return getattr(action, "_typehint", None)


def actions_of(parser: ArgumentParser) -> list[Action]:
    """Returns the options of a parser, those of its subcommands left out."""
    return parser._actions


def subcommands_of(parser: ArgumentParser) -> dict[str, ArgumentParser]:
    """Returns the parsers of the subcommands, by name."""
    found: dict[str, ArgumentParser] = {}
    for action in parser._actions:
        found |= getattr(action, "_name_parser_map", {})
    return found


def all_actions(parser: ArgumentParser) -> Iterable[Action]:
    """Yields the options of a parser and of its subcommands."""
    yield from actions_of(parser)
    for child in subcommands_of(parser).values():
        yield from all_actions(child)
