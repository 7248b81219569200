"""What this room needs of LightningCLI beyond its public names. Checked with Lightning 2.6."""

from __future__ import annotations

from typing import Any

from lit_lrsched.cli.lightning_cli_package import LightningArgumentParser, LightningCLI


class OpenCLI(LightningCLI):
    """A ``LightningCLI`` whose inner steps can be overridden by public names."""

    def add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        """Adds the trainer's subcommands to the parser of the command."""
        super()._add_subcommands(parser, **kwargs)

    def subcommand_parser(self, trainer_class: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """Makes the parser of one of the trainer's subcommands."""
        return super()._prepare_subcommand_parser(trainer_class, subcommand, **kwargs)

    def run_subcommand(self, subcommand: str) -> None:
        """Runs the subcommand."""
        super()._run_subcommand(subcommand)

    def parse_checkpoint(self) -> None:
        """Takes the hyperparameters of the checkpoint into the configuration."""
        super()._parse_ckpt_path()

    def add_common_arguments(self, parser: LightningArgumentParser) -> None:
        """Adds the arguments that all subcommands have: trainer, model, data and the options of subclasses."""
        self._add_arguments(parser)

    def add_subcommand(
        self, parser: LightningArgumentParser, name: str, own: LightningArgumentParser, added: list[str], summary: str
    ) -> None:
        """Adds a subcommand that is no method of the trainer; ``added`` are the arguments to run it with."""
        self.note_arguments(name, own, added)
        assert parser._subcommands_action is not None
        parser._subcommands_action.add_subcommand(name, own, help=summary)

    def note_arguments(self, name: str, own: LightningArgumentParser, added: list[str]) -> None:
        """Notes the parser of a subcommand, and the arguments to run it with."""
        self._subcommand_method_arguments[name] = added
        self._subcommand_parsers[name] = own

    def arguments_of(self, subcommand: str) -> dict[str, Any]:
        """Returns the arguments to run a subcommand with, model and data left out."""
        config, names = self.config_init[subcommand], self._subcommand_method_arguments[subcommand]
        return {name: value for name, value in config.items() if name in names}

    def parser_of(self, subcommand: str | None) -> LightningArgumentParser:
        """Returns the parser of a subcommand, or of the command where it has none."""
        return self._parser(subcommand)

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        self.add_subcommands(parser, **kwargs)

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        return self.subcommand_parser(klass, subcommand, **kwargs)

    def _run_subcommand(self, subcommand: str) -> None:
        self.run_subcommand(subcommand)

    def _parse_ckpt_path(self) -> None:
        self.parse_checkpoint()
