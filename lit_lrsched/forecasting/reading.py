"""Reads logged runs: a folder of ``fit``, a folder of ``compare``, a CSV file, or a YAML list of logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Union

from lit_lrsched.class_paths import from_plain, without_partial
from lit_lrsched.errors import InputError, did_you_mean, shown
from lit_lrsched.forecasting.fit_folders import read_fit
from lit_lrsched.forecasting.log_columns import read_csv
from lit_lrsched.forecasting.logged_run import LoggedRun
from lit_lrsched.forecasting.runs_of_logs import RunOfLog, run_of
from lit_lrsched.forecasting.schedule_paths import path_of
from lit_lrsched.schedules.checks import check_positive, check_whole
from lit_lrsched.schedules.core import Horizon, Schedule, as_schedule

RunLike = Union[LoggedRun, str, Path]

_KEYS = ("log", "schedule", "lr", "steps", "loss")


class Read(NamedTuple):
    """Runs that were read.

    Args:
        runs: The runs.
        losses: The name of the loss of each that was read from a log.
        notes: What was done on the way, one sentence each.
    """

    runs: list[LoggedRun]
    losses: list[str]
    notes: list[str]


def read_runs(runs: RunLike | Sequence[RunLike], loss: str | None = None) -> Read:
    """Reads runs.

    Args:
        runs: Paths, and runs that are there already.
        loss: The column with the loss. None: the first of ``val_loss``, ``loss``, ``train_loss`` and the like.

    Raises:
        InputError: When a file cannot be read, a column is missing, a run tells nothing, or the losses or the steps of
            runs are not the same quantity.
    """
    given = list(runs) if isinstance(runs, Iterable) and not isinstance(runs, str) else [runs]
    given = [_folder_of(Path(one)) if isinstance(one, (str, Path)) else one for one in given]
    read = Read([], [], [])
    steps = set()
    for one in given:
        if isinstance(one, LoggedRun):
            read.runs.append(one)
        elif isinstance(one, Path):
            steps.add(_is_race(one))
            _read_path(one, loss, read)
        else:
            raise InputError(f"runs: {shown(one)} is not a run: give paths, or LoggedRun(steps, losses, rates)")
    if len(steps) > 1:
        raise InputError("of a race an epoch counts as a step, of other logs an optimizer step: forecast them apart")
    names = Counter(read.losses)
    if len(names) > 1:
        found = ", ".join(f"{name} ({count} of them)" for name, count in names.items())
        raise InputError(
            f"the runs log different losses: {found}: name the one that all have with loss, or give the columns one "
            "name"
        )
    _leave_out_copies(read)
    left_out = sum(run.left_out for run in read.runs)
    if left_out:
        read.notes.append(f"{left_out} rows were left out: repeated, before the first step, or not finite numbers.")
    return read


def _leave_out_copies(read: Read) -> None:
    """Leaves out runs that are there already: one that counts twice makes intervals too narrow."""
    kept: dict[tuple[bytes, ...], LoggedRun] = {}
    for run in read.runs:
        arrays = (run.steps, run.losses, run.path.steps, run.path.rates)
        first = kept.setdefault(tuple(array.tobytes() for array in arrays), run)
        if first is not run:
            read.notes.append(f"{run.name} is a copy of {first.name}, which counts once.")
    read.runs[:] = kept.values()


def _folder_of(path: Path) -> Path:
    """Returns the folder of a run for the log that Lightning's CSV logger wrote into it, else the path itself."""
    return path.parent if path.name == "metrics.csv" and (path.parent / "hparams.yaml").exists() else path


def _is_race(path: Path) -> bool:
    return (path / "curves.npz").exists()


def _read_path(path: Path, loss: str | None, read: Read) -> None:
    name = str(path)
    if not path.exists():
        raise InputError(f"{name} does not exist: give a folder of fit or compare, a CSV file, or a YAML list of logs")
    if _is_race(path):
        from lit_lrsched.forecasting.race_folders import read_race  # loads torch and Lightning

        runs, used, notes = read_race(path, loss)
        read.runs.extend(runs)
        read.losses.extend([used] * len(runs))
        read.notes.extend(notes)
    elif path.is_dir():
        _add(read, read_fit(path, loss))
    elif path.suffix in (".yaml", ".yml"):
        for entry in _entries(path):
            _add(read, _stated(path, entry, loss))
    else:
        _add(read, run_of(read_csv(path, name, loss), loss))


def _add(read: Read, found: RunOfLog) -> None:
    read.runs.append(found.run)
    read.losses.append(found.loss)
    read.notes.extend(note for note in found.notes if note not in read.notes)


def _entries(path: Path) -> list[Mapping[str, Any]]:
    import yaml  # type: ignore[import-untyped]

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as YAML: correct it") from error
    form = "a list like [{log: run.csv, schedule: {class_path: Cosine}, lr: 3e-4, steps: 20000}]"
    if not isinstance(content, list) or not content or not all(isinstance(entry, Mapping) for entry in content):
        raise InputError(f"{path} is no list of runs: write {form}")
    for entry in content:
        for key in entry:
            if key not in _KEYS:
                raise InputError(f"{path} has an unknown key {key!r}{did_you_mean(str(key), _KEYS)}: write {form}")
        if "log" not in entry:
            raise InputError(f"{path} has a run without log: write {form}")
    return content


def _stated(path: Path, entry: Mapping[str, Any], loss: str | None) -> RunOfLog:
    wanted = loss or entry.get("loss")
    log = read_csv(path.parent / str(entry["log"]), str(entry["log"]), wanted)
    last = log.columns[log.loss(wanted)].last
    length = entry.get("steps", last)
    try:
        check_whole("steps", length, least=last)
        if "schedule" not in entry and "lr" in entry:
            raise InputError("lr is stated without the schedule that it belongs to: add schedule, or leave lr out")
        if "schedule" not in entry:
            return run_of(log, wanted, length=length)
        if "lr" not in entry:
            raise InputError("there is no peak rate for the schedule: add lr")
        lr = _number(entry["lr"])
        check_positive("lr", lr, example=3e-4)
        planned = path_of(schedule_from(entry["schedule"]), Horizon(length), lr)
    except InputError as error:
        raise InputError(f"{path}, {log.name}: {error}") from error
    return run_of(log, wanted, planned)


def _number(value: Any) -> Any:
    """Returns a number, also one like 3e-4, which is text to PyYAML; anything else as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def schedule_from(plain: Any) -> Schedule:
    """Returns a schedule from plain configuration, whose class may go by its short name.

    Raises:
        InputError: When there is no such class, it refuses its arguments, or it is no function of the step.

    >>> schedule_from({"class_path": "WarmupCosine", "init_args": {"warmup": "300st", "end": 0.1}})
    WarmupCosine(warmup='300st', start=None, end=0.1)
    """
    found = from_plain(_with_paths({"class_path": plain} if isinstance(plain, str) else plain))
    maker = without_partial(found)
    if isinstance(maker, type):
        raise InputError(f"{maker.__name__} is no schedule of this package: log its rates in a column lr instead")
    schedule = as_schedule(found)
    if schedule.driven_by_metric:
        raise InputError(f"{schedule.describe()} follows a metric: log its rates in a column lr instead")
    return schedule


def _with_paths(plain: Any) -> Any:
    from lit_lrsched import schedules

    if isinstance(plain, list):
        return [_with_paths(item) for item in plain]
    if not isinstance(plain, Mapping):
        return plain
    found = {key: _with_paths(value) for key, value in plain.items()}
    name = found.get("class_path")
    if isinstance(name, str) and "." not in name:
        if name not in schedules.__all__:
            raise InputError(f"there is no schedule {name!r}{did_you_mean(name, schedules.__all__)}: name another")
        found["class_path"] = f"lit_lrsched.{name}"
    return found
