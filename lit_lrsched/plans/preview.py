"""Shows what schedules will do, without training: as a table, a picture and a CSV file."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lit_lrsched.errors import InputError
from lit_lrsched.errors import shown as as_shown
from lit_lrsched.plain import plain
from lit_lrsched.plans.audit import Finding
from lit_lrsched.plans.console import console_on
from lit_lrsched.plans.figures import in_html
from lit_lrsched.plans.picture import MOST_IN_ONE, Look, draw_rates, picture
from lit_lrsched.plans.plan import plan_of
from lit_lrsched.plans.table import MOST_COLUMNS, distinct, rows_of, table
from lit_lrsched.plans.theory import InTheory
from lit_lrsched.plans.view import View, clock_of, run_in_words
from lit_lrsched.schedules.core import Horizon, Interval, Schedule, ScheduleLike, as_schedule, check_horizon, name_of
from lit_lrsched.schedules.drawing import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Preview:
    """What schedules will do.

    Args:
        views: The plans, by name, with their curves and what the audit says; a single one has the name ``""``.
        refused: Why plans are missing, if any are.
        in_theory: What theory says of them, where that was asked for.
    """

    views: Mapping[str, View]
    refused: Sequence[Finding] = ()
    in_theory: InTheory | None = None

    @property
    def table(self) -> list[dict[str, Any]]:
        """The rows, of plain numbers and text, which ``pandas.DataFrame`` takes.

        Of a single schedule the key moments, each with ``moment``, ``step``, ``epoch`` where its length is known, and
        the values there; of several one row each with ``schedule``, ``first``, ``peak``, ``mean`` and ``last``.
        """
        return rows_of(self.views) if self.views else []

    @property
    def findings(self) -> list[Finding]:
        """What the audit says, failures and warnings."""
        of_views = [
            Finding(finding.level, f"{name}: {finding.text}" if name else finding.text)
            for name, view in self.views.items()
            for finding in view.findings
        ]
        return [*self.refused, *of_views, *(self.in_theory.findings if self.in_theory else ())]

    @property
    def notes(self) -> list[str]:
        """What there is to know of the plans besides, a sentence each."""
        return [f"{name}: {note}" if name else note for name, view in self.views.items() for note in view.plan.notes]

    def as_dict(self) -> dict[str, Any]:
        """Returns the preview as plain data, for JSON.

        The keys: ``steps`` and ``steps_per_epoch`` of the run, None where they are not known, ``table``, ``findings``,
        each with ``level`` and ``text``, ``notes``, and ``theory``, None where it was not asked for.
        """
        horizon = self._first.plan.horizon if self.views else None
        return {
            "steps": horizon and horizon.steps,
            "steps_per_epoch": horizon and horizon.steps_per_epoch,
            "table": plain(self.table),
            "findings": [finding._asdict() for finding in self.findings],
            "notes": self.notes,
            "theory": plain(self.in_theory.rows) if self.in_theory else None,
        }

    def plot(self, ax: Axes | None = None) -> tuple[Figure, Axes]:
        """Draws the curves.

        Args:
            ax: Where to draw the learning rates. None for a figure of its own, which pyplot does not hold and which
                shows whatever else is scheduled as well, such as the momentum.

        Returns:
            The figure, and the axes with the learning rates, the first where there are many.
        """
        if ax is None:
            figure = picture(self.views)
            return Plot(figure, figure.axes[0])
        draw_rates(self.views, ax)
        return Plot(cast("Figure", ax.figure), ax)

    def __repr__(self) -> str:
        text = io.StringIO()
        console = console_on(text)
        console.print(run_in_words(self._first.plan), soft_wrap=True)
        console.print(table(dict(list(self.views.items())[:_IN_REPR])), soft_wrap=True)
        more = len(self.views) - _IN_REPR
        lines = [f"{more} more in table"] if more > 0 else []
        return "\n".join(["Preview", text.getvalue().rstrip(), *lines, *map(str, self.findings[:_IN_REPR])])

    def _repr_html_(self) -> str:
        """Returns the picture and the table, as HTML that loads nothing."""
        about = ", ".join(self.views) if len(self.views) > 1 else self._first.plan.title
        found = "".join(f"<p>{html.escape(str(finding))}</p>" for finding in self.findings)
        image = in_html(picture(self.views), f"Learning rate: {about}", width="45em")
        return f"{image}{_html_table(self.table)}{found}"

    @property
    def _first(self) -> View:
        return next(iter(self.views.values()))


_IN_REPR = 16  # rows, for one screen


def _html_table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    lines = ["".join(f"<td>{html.escape(_as_text(value))}</td>" for value in row.values()) for row in rows]
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{line}</tr>' for line in lines)}</tbody></table>"
    )


def _as_text(value: str | float | None) -> str:
    return "-" if value is None else value if isinstance(value, str) else f"{value:.6g}"


def preview(
    schedule: ScheduleLike | Mapping[str, ScheduleLike],
    horizon: Horizon,
    interval: Interval = "step",
    lr: float | None = None,
) -> Preview:
    """Returns what a schedule will do: its curve, its key moments and what the audit says of it.

    Args:
        schedule: A :class:`~lit_lrsched.Schedule`, a function ``(step, horizon) -> float``, or a dict of several by
            name, to compare them.
        horizon: How long training lasts.
        interval: How often the schedule moves on, ``"step"`` or ``"epoch"``.
        lr: The base learning rate, finite and above 0. None shows the factors that multiply it.

    Returns:
        The preview. A notebook shows its picture and table; ``.plot()`` returns figure and axes, to be saved by
        ``figure.savefig("curve.png")``, and ``.table`` the rows.

    Raises:
        InputError: When an argument is of the wrong type, or a schedule does not fit the horizon.

    >>> from lit_lrsched import Horizon, WarmupCosine
    >>> shown = preview(WarmupCosine(warmup="10%"), Horizon(500, steps_per_epoch=10), lr=0.1)
    >>> shown.table[1]
    {'moment': 'warmup ends, decay begins, peak', 'step': 50, 'epoch': 5.0, 'lr': 0.1}
    >>> figure, axes = shown.plot()
    """
    schedules = _schedules_by_name(schedule)
    check_horizon(horizon)
    return Preview({name: View.of(plan_of(one, horizon, interval, lr)) for name, one in schedules.items()})


def _schedules_by_name(given: ScheduleLike | Mapping[str, ScheduleLike]) -> dict[str, Schedule]:
    if not isinstance(given, Mapping):
        return {"": as_schedule(given)}
    if not given or not all(isinstance(name, str) for name in given):
        raise InputError(
            f"schedule={as_shown(given)} is not a dict of schedules by name: write one, like {{'a': Linear()}}"
        )
    return {name: as_schedule(schedule, f"schedule[{name!r}]") for name, schedule in given.items()}


def by_name(schedules: Mapping[str, Any] | list[Any]) -> dict[str, Any]:
    """Returns schedules by name: the given names, or those of the classes.

    Where a class comes more than once, the arguments by which its schedules differ are part of the name, as far as they
    are given; schedules that are alike in that too are numbered.

    >>> from lit_lrsched import Cosine, Linear
    >>> list(by_name([Linear(), Cosine(), Linear(end=0.1), Linear(end=0.1)]))
    ['Linear', 'Cosine', 'Linear(end=0.1)', 'Linear(end=0.1) 2']
    """
    if isinstance(schedules, Mapping):
        return dict(schedules)
    alike: dict[str, list[dict[str, Any]]] = {}
    for schedule in schedules:
        alike.setdefault(name_of(schedule), []).append(_given_arguments(schedule))
    found: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for schedule in schedules:
        name = _told_apart(name_of(schedule), _given_arguments(schedule), alike[name_of(schedule)])
        counts[name] = counts.get(name, 0) + 1
        found[f"{name} {counts[name]}" if counts[name] > 1 else name] = schedule
    return found


def _given_arguments(schedule: Any) -> dict[str, Any]:
    """Returns the arguments that a schedule, or a callable that makes a scheduler, was given besides its defaults."""
    if isinstance(schedule, partial):
        return dict(schedule.keywords)
    if not is_dataclass(schedule):
        return {}
    return {
        field.name: value for field in fields(schedule) if (value := getattr(schedule, field.name)) != field.default
    }


def _told_apart(name: str, given: Mapping[str, Any], alike: Sequence[Mapping[str, Any]]) -> str:
    """Returns a name with those of the given numbers and words that others of the class do not share."""
    differ = {
        key: value
        for key, value in given.items()
        if isinstance(value, (bool, int, float, str)) and any(other.get(key) != value for other in alike)
    }
    label = ", ".join(
        f"{key}={value if isinstance(value, str) else format(value, 'g')}" for key, value in differ.items()
    )
    return f"{name}({label})" if label and len(label) <= 40 else name


def show(shown: Preview, png: str | None = None, csv: str | None = None, look: Look | None = None) -> int:
    """Prints tables and findings, and writes a picture and a CSV file.

    Args:
        shown: What to show.
        png: File to write the picture to, as PNG, PDF or SVG: as its name ends. None: no file.
        csv: File to write every tick of every plan to. None: no file.
        look: How the picture is to look. None: as usual.

    Returns:
        1 when there is a failure among the findings, otherwise 0.

    Raises:
        InputError: When a file cannot be written, or a look is asked for where each schedule has a picture of its own.
    """
    from rich.console import Console
    from rich.text import Text

    _check_names(png, csv)
    if png and look not in (None, Look()) and len(shown.views) > MOST_IN_ONE:
        raise InputError(
            f"title, log and size are for a picture of up to {MOST_IN_ONE} schedules, and these are "
            f"{len(shown.views)}: leave them out"
        )
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    views, in_theory = shown.views, shown.in_theory
    for plan in {view.plan.horizon: view.plan for view in views.values()}.values():
        console.print(run_in_words(plan))
    if views:
        console.print(table(views))
    for note in shown.notes:
        console.print(note)
    if len(views) == 1 and (left_out := list(distinct(next(iter(views.values())).curve))[MOST_COLUMNS:]):
        console.print(f"In the picture and the CSV file only: {', '.join(left_out)}.")
    if in_theory is not None:
        console.print(in_theory.table)
        for note in in_theory.notes:
            console.print(note)
    for finding in shown.findings:
        console.print(Text.assemble((finding.level, _STYLES[finding.level]), f": {finding.text}"))
    if png and views:
        _write(png, lambda path: picture(views, look).savefig(path))
        console.print(f"Picture: {png}")
    if csv and views:
        _write(csv, lambda path: _write_csv(path, views))
        console.print(f"Every tick: {csv}")
    return int(any(finding.level == "failure" for finding in shown.findings))


_STYLES = {"failure": "bold red", "warning": "yellow"}


def _check_names(png: str | None, csv: str | None) -> None:
    """Refuses names under which nothing would be written, before there is any output."""
    for name in filter(None, (png, csv)):
        if Path(name).is_dir():
            raise InputError(f"{name!r} cannot be written: it is a folder: give another file")
    if png and not Path(png).suffix:  # matplotlib would add one
        raise InputError(f"{png!r} cannot be written: a picture ends in .png, .pdf or .svg: give another file")


def _write(name: str, save: Any) -> None:
    path = Path(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path)
    except (OSError, ValueError) as error:  # matplotlib raises ValueError for a format it does not know
        reason = (isinstance(error, OSError) and error.strerror) or str(error).split("(")[0].strip()
        known = ", like preview.png, preview.pdf or preview.svg" if isinstance(error, ValueError) else ""
        raise InputError(f"{name!r} cannot be written: {reason}: give another file{known}") from error


def _write_csv(path: Path, views: Mapping[str, View]) -> None:
    columns = list(dict.fromkeys(column for view in views.values() for column in view.curve.values))
    named = len(views) > 1
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        units = dict.fromkeys(["step", *(clock_of(view.plan)[0] for view in views.values())])
        is_resumed = any(view.plan.begun for view in views.values())
        writer.writerow([*(["schedule"] if named else []), *units, *(["done"] if is_resumed else []), *columns])
        for name, view in views.items():
            plan = view.plan
            for step in range(0, plan.horizon.steps, plan.stride):
                values = plan.at(step)
                times = [step, int(clock_of(plan)[1](step))][: len(units)]
                done = [int(step < plan.begun)] if is_resumed else []
                row = [*times, *done, *(values.get(column, "") for column in columns)]
                writer.writerow([name, *row] if named else row)
