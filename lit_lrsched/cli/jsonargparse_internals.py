"""What this room needs of argparse and jsonargparse beyond their public names. Checked with jsonargparse 4.53."""

from __future__ import annotations

from argparse import Action, ArgumentParser
from collections.abc import Iterable
from typing import Any

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
