"""The parser of the commands that load neither torch nor Lightning."""

from __future__ import annotations

from collections.abc import Sequence

from jsonargparse import ArgumentParser, Namespace

from lit_lrsched.cli.comma_lists import CommaLists
from lit_lrsched.cli.offered_names import OfferedNames
from lit_lrsched.cli.parse_errors import OneLineErrors, mistake_behind
from lit_lrsched.errors import InputError


class QuickParser(OfferedNames, CommaLists, OneLineErrors, ArgumentParser):
    """Answers a mistake with one line and exit status 2."""

    def options(self, arguments: Sequence[str]) -> Namespace:
        """Returns the options that were typed, with their objects.

        Raises:
            InputError: When an object refuses what it was given.
        """
        try:
            config: Namespace = self.instantiate_classes(self.parse_args(arguments))
        except ValueError as error:
            mistake = mistake_behind(error, (InputError,))
            if mistake is None:
                raise
            raise InputError(str(mistake)) from error
        return config
