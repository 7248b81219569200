"""The folder of a race: its mean learning curves, an epoch a step."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from lit_lrsched.comparison.records import Record, stored_records
from lit_lrsched.errors import InputError, did_you_mean
from lit_lrsched.forecasting.logged_run import LoggedRun
from lit_lrsched.forecasting.rate_path import RatePath

_LOSSES = ("val_loss", "train_loss")


def read_race(folder: Path, loss: str | None) -> tuple[list[LoggedRun], str, list[str]]:
    """Returns a run for every schedule and peak rate of a race, the mean over its seeds; an epoch counts as a step.

    Settings in which a seed diverged are left out, and of several momenta or weight decays the first is taken.

    Raises:
        InputError: When the race has logged no such loss, no setting finished, or the loss falls in none.
    """
    members: dict[tuple[str, float, float, float], list[Record]] = defaultdict(list)
    for key, record in sorted(stored_records(folder).items()):
        members[key.setting].append(record)
    used = _loss(folder, members, loss)
    notes = [f"{folder}: an epoch counts as a step; each curve is the mean {used} over seeds."]
    momentum, decay = next(iter(members))[2:]
    finished = {
        setting: records
        for setting, records in members.items()
        if setting[2:] == (momentum, decay) and not any(record.diverged for record in records)
    }
    if len(finished) < len(members):
        notes.append(
            f"{len(members) - len(finished)} of its {len(members)} settings diverged or have another momentum."
        )
    if not finished:
        raise InputError(f"{folder}: every run diverged: race lower rates first")
    runs = [run for setting, records in finished.items() if (run := _mean(setting, records, used))]
    if not runs:
        raise InputError(f"{folder}: its {used} falls in no setting: a forecast needs a loss, which loss names")
    if rising := len(finished) - len(runs):
        notes.append(f"{rising} settings are left out: their {used} does not fall.")
    return runs, used, notes


def _loss(folder: Path, members: dict[tuple[str, float, float, float], list[Record]], loss: str | None) -> str:
    curves = next(iter(members.values()))[0].curves if members else {}
    known = [name for name in curves if name != "lr"]
    wanted = [loss] if loss is not None else [*_LOSSES, *(name for name in known if "loss" in name)]
    found = [name for name in wanted if name in curves]
    if not found:
        hint = did_you_mean(loss, known) if loss else ""
        has = f"it has {', '.join(known)}; name one of them with loss" if known else "it has none"
        raise InputError(f"{folder} has no curve of {loss or 'a loss'}{hint}: {has}")
    return found[0]


def _mean(setting: tuple[str, float, float, float], records: list[Record], used: str) -> LoggedRun | None:
    losses = np.mean([record.curves[used] for record in records], axis=0)
    rates = np.mean([record.curves["lr"] for record in records], axis=0)
    name = f"{setting[0]} at {setting[1]:g}"
    try:
        return LoggedRun(np.arange(1, len(losses) + 1), losses, RatePath.of(rates), name)
    except InputError:  # at a rate that is too high, say
        return None
