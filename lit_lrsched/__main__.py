"""The command ``lit-lrsched``, also ``python -m lit_lrsched``."""

from __future__ import annotations

import gc
import io
import sys
from collections.abc import Callable
from functools import partial


def main() -> None:
    """Runs the command.

    Ends with status 2 and one line on standard error when the user made a mistake or the disk takes no more, with 130
    after Ctrl-C and with 143 after SIGTERM.
    """
    from lit_lrsched.cli.endings import disk_trouble, readers_may_leave, sigterm_like_ctrl_c, status_of
    from lit_lrsched.cli.json_document import output_for_json
    from lit_lrsched.errors import InputError

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log of both streams has their lines in order

    # As with `python -m`: classes and functions in the folder where the command is typed can be named.
    if "" not in sys.path:
        sys.path.insert(0, "")
    with readers_may_leave(), sigterm_like_ctrl_c(), output_for_json(sys.argv):
        try:
            run = _program(sys.argv[1:])
            run()
        except InputError as error:
            sys.exit(_report(str(error)))
        except KeyboardInterrupt as stop:
            if not getattr(stop, "announced", False):
                print("Interrupted.", file=sys.stderr)
            sys.exit(status_of(stop))
        except Exception as error:
            trouble = disk_trouble(error)
            if trouble is None:
                raise
            sys.exit(_report(trouble))


def _program(arguments: list[str]) -> Callable[[], None]:
    # What importing Lightning makes, 400,000 objects, stays to the end. To search it for garbage again and again,
    # while it grows and afterwards, takes a third of the time until the first step.
    gc.disable()
    try:
        if (page := _help_page(arguments)) is not None:
            return partial(print, page, end="")
        if arguments == ["--version"]:
            return _print_version
        if arguments[:1] == ["schedules"]:
            from lit_lrsched.cli.schedules import run
        elif _has_horizon_by_hand(arguments):
            from lit_lrsched.cli.quick_preview import run
        elif arguments[:1] == ["forecast"]:
            from lit_lrsched.cli.forecast import run
        else:
            from lit_lrsched.cli.model_first import import_model

            import_model(arguments)
            from lit_lrsched.cli.command import run
        return run
    finally:
        gc.freeze()
        gc.enable()


def _help_page(arguments: list[str]) -> str | None:
    """Returns the help that is asked for; None where nothing but help is not."""
    if schedule := _schedule_to_explain(arguments):
        from lit_lrsched.cli.schedule_page import page_of_schedule

        return page_of_schedule(schedule)
    if arguments and arguments[-1] not in ("-h", "--help"):
        return None
    from lit_lrsched.cli.help_pages import front_page, page_of

    if len(arguments) > 1:
        return page_of(arguments[0]) if len(arguments) == 2 or arguments[0] == "forecast" else None
    return front_page()


def _schedule_to_explain(arguments: list[str]) -> str | None:
    """Returns the class that ``--lr_scheduler.help NAME`` asks about."""
    from lit_lrsched.cli.pairs import pairs_of

    return dict(pairs_of(arguments)).get("--lr_scheduler.help")


def _print_version() -> None:
    from lit_lrsched import __version__
    from lit_lrsched.cli.version import in_a_line

    print(in_a_line(__version__))


def _has_horizon_by_hand(arguments: list[str]) -> bool:
    """Tells a preview that needs neither model nor data, and so neither Lightning nor the seconds to load it."""
    names = {argument.partition("=")[0] for argument in arguments}
    return arguments[:1] == ["preview"] and {"--epochs", "--steps_per_epoch"} <= names and not names & {"-h", "--help"}


def _report(mistake: str) -> int:
    print(f"error: {' '.join(mistake.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
