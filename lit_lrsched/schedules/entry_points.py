"""Schedules of other packages, which their entry points give a short name on the command line."""

from __future__ import annotations

import importlib.metadata
from functools import cache
from importlib.metadata import EntryPoint

from lit_lrsched.errors import InputError, described
from lit_lrsched.schedules.core import Schedule

GROUP = "lit_lrsched.schedules"


@cache
def installed() -> dict[str, tuple[EntryPoint, ...]]:
    """Returns who offers a schedule of each name. None of the packages is imported."""
    offers: dict[str, tuple[EntryPoint, ...]] = {}
    for offer in importlib.metadata.entry_points(group=GROUP):
        offers[offer.name] = (*offers.get(offer.name, ()), offer)
    return offers


def load(name: str, *, taken: str | None) -> type[Schedule]:
    """Imports the schedule that a package offers by a name, from when on jsonargparse knows the name.

    Args:
        name: A name of :func:`installed`.
        taken: The path of a class of that name that is here without any package, or None.

    Raises:
        InputError: When several classes have the name, the package cannot be imported, or what it offers is not a
            schedule of that name.
    """
    offers = installed()[name]
    paths = [path for path in (taken, *map(_path, offers)) if path is not None]
    if len(paths) > 1:
        owners = " and ".join(map(_owner, offers))
        raise InputError(f"{name!r} is the name of several schedules, by {owners}: write {' or '.join(paths)}")
    (offer,) = offers
    try:
        found = offer.load()
    except Exception as error:  # whatever its import may raise
        raise InputError(
            f"{name!r}: {_owner(offer)} offers it and cannot be imported: {described(error)}: mend or remove it"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Schedule) and found.__name__ == name):
        raise InputError(
            f"{name!r}: {_owner(offer)} offers {offer.value!r} by this name, which is no schedule of that name: "
            f"its entry point has to name a subclass of lit_lrsched.Schedule called {name}"
        )
    return found


def _path(offer: EntryPoint) -> str:
    return offer.value.replace(":", ".")


def _owner(offer: EntryPoint) -> str:
    return f"{offer.dist.name} {offer.dist.version}" if offer.dist else offer.value
