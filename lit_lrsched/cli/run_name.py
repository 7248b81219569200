"""What a run is called: as ``--run_name`` says, or by its schedule and peak rate, such as ``Cosine-0.1``."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from typing import Any

from jsonargparse import Namespace

from lit_lrsched.class_paths import import_from
from lit_lrsched.errors import InputError
from lit_lrsched.trainer.lightning_package import CSVLogger, TensorBoardLogger


def default_name(config: Namespace, model: str) -> str:
    """Returns schedule and peak rate, as far as the configuration knows them; without a schedule the model's name.

    Args:
        config: The options of the subcommand, as plain values.
        model: The name of the model's class.

    >>> cosine = Namespace(class_path="lit_lrsched.Cosine", init_args=Namespace(end=0.0))
    >>> adam = Namespace(class_path="torch.optim.Adam", init_args=Namespace(lr=3e-4))
    >>> default_name(Namespace(lr_scheduler=cosine, optimizer=adam), "Net")
    'Cosine-0.0003'
    """
    given = config.get("model") or Namespace()  # type: ignore[no-untyped-call]  # a class without arguments
    of_model = given.get("init_args", given) or {}
    schedule = config.get("lr_scheduler") or of_model.get("lr_scheduler")
    optimizer = config.get("optimizer") or of_model.get("optimizer")
    rates = (
        _argument(schedule, "max_lr"),  # in place of the optimizer's, in OneCycleLR and CyclicLR
        _argument(optimizer, "lr"),
        of_model.get("lr"),
        of_model.get("learning_rate"),
    )
    path = schedule.get("class_path") if isinstance(schedule, (Namespace, dict)) else None
    name = path.rpartition(".")[2] if path else model
    rate = next((rate for rate in rates if isinstance(rate, (int, float))), None)
    return name if rate is None else f"{name}-{rate:g}"


def names_of(name: str) -> Iterator[str]:
    """Yields the names that runs of one name get, one after the other.

    >>> list(itertools.islice(names_of("Cosine-0.1"), 3))
    ['Cosine-0.1', 'Cosine-0.1-v1', 'Cosine-0.1-v2']
    """
    yield name
    yield from (f"{name}-v{number}" for number in itertools.count(1))


def is_run_of(name: str, folder: str) -> bool:
    """Returns whether a folder is that of a run of this name.

    >>> is_run_of("a", "a-v12"), is_run_of("a", "a-vision")
    (True, False)
    """
    return folder == name or (folder.startswith(f"{name}-v") and folder[len(name) + 2 :].isdigit())


def check_name(name: str) -> None:
    """Refuses a name that is no folder's.

    Raises:
        InputError: When it is empty, or has a slash.
    """
    if name.strip() != name or name in ("", ".", "..") or set(name) & {"/", "\\", "\0"}:
        raise InputError(f"run_name={name!r} cannot be the name of a folder: give one without slashes, like baseline")


def name_loggers(given: Any, name: str) -> None:
    """Gives the name of a run to the loggers of a configuration, each where it keeps it.

    The folder of TensorBoard's and CSV's logger, their ``version``; ``run_name`` or ``name`` of any other.

    Args:
        given: What the configuration says of the trainer's logger.
        name: The name of the run.

    Raises:
        InputError: When there is no logger, or one that has another name already or cannot have one.
    """
    if given is False:
        raise InputError(f"run_name={name!r} names no run where trainer.logger is false: leave one of them out")
    for logger in given if isinstance(given, list) else [given]:
        if isinstance(logger, Namespace):
            _name(logger, name)


def _name(logger: Namespace, name: str) -> None:
    kind = import_from(logger.class_path)
    known = inspect.signature(kind).parameters
    is_folder = isinstance(kind, type) and issubclass(kind, (TensorBoardLogger, CSVLogger))
    names = ("version",) if is_folder else ("run_name", "name")
    option = next((one for one in names if one in known), None)
    if option is None:
        raise InputError(
            f"run_name={name!r}: {kind.__name__} has no argument {' or '.join(names)}: leave run_name out, and name "
            f"the run as {kind.__name__} does"
        )
    arguments = logger.get("init_args")
    if arguments is None:
        arguments = logger.init_args = Namespace()  # type: ignore[no-untyped-call]
    if arguments.get(option) not in (known[option].default, name):
        raise InputError(
            f"run_name={name!r}: trainer.logger.{option}={arguments.get(option)!r} names the run already: leave one of "
            "them out"
        )
    arguments[option] = name


def _argument(given: Any, name: str) -> Any:
    arguments = given.get("init_args") if isinstance(given, (Namespace, dict)) else None
    return arguments.get(name) if arguments else None
