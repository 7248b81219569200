"""The private names of argparse, jsonargparse and LightningCLI that the command line uses are still there."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser, DefaultHelpFormatter
from lightning.pytorch.cli import LightningCLI

import lit_lrsched

ROOM = Path(lit_lrsched.__file__).parent / "cli"
JSONARGPARSE = ["_actions", "_check_value_key", "_get_help_string", "_get_values", "_name_parser_map", "_typehint"]
LIGHTNING = [
    "_add_arguments",
    "_add_subcommands",
    "_parse_ckpt_path",
    "_parser",
    "_prepare_subcommand_parser",
    "_run_subcommand",
    "_subcommand_method_arguments",
    "_subcommand_parsers",
]


class Cli(LightningCLI):
    def instantiate_classes(self):
        self.model = self.datamodule = self.trainer = None

    def _run_subcommand(self, subcommand):
        pass


@pytest.fixture(scope="module")
def cli():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["cli", "fit", "--model=lightning.pytorch.demos.boring_classes.BoringModel"])
        return Cli(seed_everything_default=False)


@pytest.mark.parametrize("name", LIGHTNING)
def test_lightning_has_what_is_used(cli, name):
    assert hasattr(cli, name)


def test_jsonargparse_has_what_is_used(cli):
    parser = ArgumentParser()
    action = parser.add_argument("--value", type=list[int])
    assert action in parser._actions
    assert action._typehint == list[int]
    assert callable(parser._check_value_key)
    assert argparse.ArgumentParser._get_values
    assert DefaultHelpFormatter._get_help_string
    assert cli.parser._subcommands_action._name_parser_map["fit"] is cli._subcommand_parsers["fit"]


def private_names(text: str) -> set[str]:
    """The names with an underscore that are reached through a dot, or by text, in the source of a file."""
    return {*re.findall(r"\.(_[a-z]\w*)", text), *re.findall(r'"(_[a-z]\w*)"', text)}


def test_they_stand_in_two_files_and_in_these_lists():
    used = private_names((ROOM / "lightning_cli_internals.py").read_text())
    assert used == {*LIGHTNING, "_subcommands_action"}
    used = private_names((ROOM / "jsonargparse_internals.py").read_text())
    assert used == {*JSONARGPARSE}
    for path in ROOM.glob("*.py"):
        if not path.stem.endswith("internals"):
            # What a class of this room keeps to itself is its own.
            foreign = re.findall(r"(?<!self)(?<!super\(\))(?<!cls)\.(_[a-z]\w*)", path.read_text())
            assert foreign == [], path
