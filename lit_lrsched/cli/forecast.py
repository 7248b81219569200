"""The subcommand ``forecast``: what schedules that were never run would give. Loads neither torch nor Lightning."""

from __future__ import annotations

import sys
from typing import Optional, Union

from jsonargparse import Namespace, set_parsing_settings

from lit_lrsched.cli.json_document import print_json
from lit_lrsched.cli.outputs import check_can_be_written
from lit_lrsched.cli.quick_parser import QuickParser
from lit_lrsched.errors import InputError
from lit_lrsched.forecasting.forecast import forecast
from lit_lrsched.plans.preview import by_name
from lit_lrsched.schedules import load_all
from lit_lrsched.schedules.core import Schedule

SUMMARY = "Forecast from a few logged runs what others would give."


def run() -> None:
    """Runs the command with the arguments of the process.

    Raises:
        InputError: For a mistake that shows after parsing, such as a file that cannot be read.
    """
    set_parsing_settings(subclasses_enabled=[Schedule])
    load_all()
    config = _parser().options(sys.argv[2:])
    if not config.runs:
        raise InputError("name the runs: lit-lrsched forecast RUN RUN ... (see lit-lrsched forecast --help)")
    _forecast(config)


def _parser() -> QuickParser:
    parser = QuickParser(prog="lit-lrsched forecast", description=SUMMARY)
    parser.add_argument(
        "runs",
        type=str,
        nargs="*",
        metavar="RUN",
        help="A folder of fit or compare, a CSV with columns step, lr and a loss, or a YAML list that states the "
        "schedules of foreign logs: [{log: run.csv, schedule: {class_path: Cosine}, lr: 3e-4, steps: 20000}].",
    )
    parser.add_argument(
        "--schedules",
        type=Optional[Union[dict[str, Schedule], list[Schedule]]],
        help="The schedules to ask for, by name or as a list. Default: the main shapes, with the warmup of the runs.",
    )
    parser.add_argument("--lrs", type=Optional[list[float]], help="Peak rates. Default: those of the runs.")
    parser.add_argument(
        "--steps",
        type=Optional[list[int]],
        help="Lengths in optimizer steps. Default: the longest run's, and twice that.",
    )
    parser.add_argument("--loss", type=Optional[str], help="The logged loss. Default: val_loss, loss, train_loss, ...")
    parser.add_argument("--csv", type=Optional[str], help="File for the table: every schedule, peak rate and length.")
    parser.add_argument("--png", type=Optional[str], help="File for the picture: PNG, PDF or SVG, as its name ends.")
    parser.add_argument(
        "--export", type=Optional[str], help="File for the schedule that minimises the law, ready for fit --config."
    )
    parser.add_argument(
        "--json",
        type=bool,
        nargs="?",
        const=True,
        default=False,
        help="Prints the answer as one JSON document, and everything else on standard error.",
    )
    return parser


def _forecast(config: Namespace) -> None:
    check_can_be_written(csv=config.csv, png=config.png, export=config.export)
    schedules = by_name(config.schedules) if config.schedules else None
    found = forecast(config.runs, schedules, config.lrs, config.steps, loss=config.loss)
    found.show()
    for option, write, what in (
        (config.csv, found.write_csv, "Table"),
        (config.png, found.write_png, "Picture"),
        (config.export, found.export, "The schedule that minimises the law"),
    ):
        if option:
            write(option)
            print(f"{what}: {option}")
    if config.json:
        print_json(found.as_dict())
