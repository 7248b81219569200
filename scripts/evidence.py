"""Races the catalogue over small tasks and writes docs/evidence.md: which schedule to try first, and how sure that is.

    nice python scripts/evidence.py                    # the page, its pictures and the README's part
    python scripts/evidence.py --tasks moons,digits    # some tasks: the page goes beside their races
    python scripts/evidence.py --seeds 2 --epochs 1    # a rehearsal, likewise

Each race is a ``compare`` in a folder of its own: what was interrupted goes on with the same command.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from evidence_over_tasks import Evidence, Raced, errors_of
from evidence_page import draw_profiles, draw_ranking, page, part_of_readme
from evidence_tasks import TASKS

from lit_lrsched import (
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    Linear,
    MultiStep,
    OneCycle,
    Plateau,
    WarmupCosine,
    WarmupInverseSqrt,
    WarmupLinear,
    WarmupStableDecay,
    compare,
)
from lit_lrsched.plans.figures import save

ROOT = Path(__file__).resolve().parents[1]
SEEDS = 20
COSTS = "costs.json"
FACTORS = (1 / 9, 1 / 3, 1.0, 3.0, 9.0)  # of a task's rate


def schedules_for(epochs: int) -> dict[str, Any]:
    """Returns what races, simple ones first; durations are shares of the training, as one would choose them unseen."""
    return {
        "Constant": Constant(),
        "Linear": Linear(),
        "Cosine": Cosine(),
        "Exponential": Exponential(gamma=0.01 ** (1 / epochs)),
        "MultiStep": MultiStep(["50%", "75%"], gamma=0.1),
        "Plateau": Plateau(monitor="val_loss", factor=0.3, patience=max(1, epochs // 10)),
        "CosineRestarts": CosineRestarts(period="25%"),
        "WarmupInverseSqrt": WarmupInverseSqrt("10%"),
        "WarmupLinear": WarmupLinear("10%"),
        "WarmupCosine": WarmupCosine("10%"),
        "WarmupStableDecay": WarmupStableDecay("10%", "20%"),
        "OneCycle": OneCycle(),
    }


def main() -> None:
    """Races and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", help="some of them, with commas between: " + "; ".join(TASKS))
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of each setting (default: %(default)s)")
    parser.add_argument("--epochs", type=int, help="of each training, in place of the task's own")
    parser.add_argument("--folder", type=Path, default=Path("lightning_logs", "evidence"), help="of the races")
    options = parser.parse_args()
    names = list(TASKS) if options.tasks is None else [name.strip() for name in options.tasks.split(",")]
    if unknown := [name for name in names if name not in TASKS]:
        parser.error(f"--tasks {', '.join(unknown)}: no such task; there are {', '.join(TASKS)}")
    raced = []
    for number, name in enumerate(names, 1):
        print(f"Task {number} of {len(names)}: {name}", flush=True)
        raced.append(race(name, options.seeds, options.epochs, options.folder))
    evidence = Evidence(raced, minutes=sum(_costs(options.folder).values()) / 60)
    whole = options.tasks is None and options.epochs is None and options.seeds == SEEDS
    write(evidence, ROOT / "docs" if whole else options.folder)
    if whole:
        readme = ROOT / "README.md"
        readme.write_text(part_of_readme(evidence, readme.read_text()))
    print(evidence.answer)


def race(name: str, seeds: int, epochs: int | None, folder: Path) -> Raced:
    """Returns the race of one task, trained where it has not been."""
    task, before = TASKS[name], _cpu_seconds()
    found = compare(
        task.model,
        task.data,
        schedules_for(epochs or task.epochs),
        lrs=[float(f"{factor * task.lr:.4g}") for factor in FACTORS],
        seeds=seeds,
        epochs=epochs or task.epochs,
        metric="val_error",
        reference="Constant",
        folder=folder / name.replace(" ", "_"),
    )
    if found.results.trained:
        costs = _costs(folder)
        costs[name] = costs.get(name, 0) + _cpu_seconds() - before
        (folder / COSTS).write_text(json.dumps(costs))
    errors = errors_of(found, list(schedules_for(task.epochs)))
    if errors[0].mean() == 0:
        sys.exit(f"{name}: Constant makes no error on test data, so there is none to remove: leave the task out")
    return Raced(name, task, found, errors)


def write(evidence: Evidence, folder: Path) -> None:
    """Writes the page and its pictures."""
    (folder / "img").mkdir(parents=True, exist_ok=True)
    save(draw_ranking(evidence), folder / "img" / "evidence.png")
    save(draw_profiles(evidence), folder / "img" / "evidence_profiles.png")
    (folder / "evidence.md").write_text(page(evidence))


def _costs(folder: Path) -> dict[str, float]:
    """Returns how many seconds one core has worked for each task, in the goes that finished it."""
    file = folder / COSTS
    costs: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}
    return costs


def _cpu_seconds() -> float:
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system


if __name__ == "__main__":
    main()
