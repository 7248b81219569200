"""Measures how fast many trainings run together, against one after another, in one go on the same machine.

A training is the worked example: 50 epochs of the ionosphere data in batches of 24, with a validation after each.

- plain: a hand-written PyTorch loop that slices its batches from tensors, one training after another.
- fit: ``Trainer.fit`` of the same module, without logger, checkpoints and progress, one training after another.
- together, compiled: the vectorized engine, without and with ``torch.compile``; building its program and drawing
  every seed's data count as part of the race, compiling is told beside it. Of 20 seeds, and together also of 100.
- compare, 20 and 100 seeds: ``compare()`` in Python, from the call to the last file of its report.
- command, 20 and 100 seeds: ``lit-lrsched compare`` of the same race, from the start of its process to the end; and
  when its first result was on the terminal, after the start of the process and after its first line.
- jax: the same race in JAX (``jax_race.py``), compiled beforehand, where JAX is installed.

Sides take turns, and the best of the rounds counts for each, since other programs on the machine only ever slow one
down. ``--runs`` and ``--widths`` set the points of the two curves; none of either leaves the curve out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import logging
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from torch import nn

from lit_lrsched import compare
from lit_lrsched.comparison.defaults import LRS, SCHEDULES
from lit_lrsched.comparison.engine.batches import module_and_rows
from lit_lrsched.comparison.engine.training import Training
from lit_lrsched.comparison.engine.vectorized import VectorizedRace
from lit_lrsched.ionosphere.data import IonosphereDataModule
from lit_lrsched.ionosphere.model import IonosphereClassifier

EPOCHS = 50
SEEDS = 20
SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


def recipe(seed: int, width: int = 34) -> tuple[LightningModule, LightningDataModule]:
    """Seeds everything and builds the worked example."""
    seed_everything(seed, verbose=False)
    return IonosphereClassifier(hidden=width, optimizer=SGD, lr_scheduler=None), IonosphereDataModule(seed=seed)


def plain(seed: int, width: int = 34) -> None:
    """Trains once, by hand."""
    data = recipe(seed, width)[1]
    train, validation = (loader.dataset[:] for loader in (data.train_dataloader(), data.val_dataloader()))
    network = nn.Sequential(nn.Linear(34, width), nn.ReLU(), nn.Linear(width, 1))
    loss_of, optimizer = nn.BCEWithLogitsLoss(), SGD(network.parameters())
    for _ in range(EPOCHS):
        for rows in torch.split(torch.randperm(len(train[0])), 24):
            x, y = (part[rows] for part in train)
            optimizer.zero_grad()
            loss = loss_of(network(x), y)
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            logits = network(validation[0])
            loss_of(logits, validation[1]).item()
            ((logits > 0) == validation[1]).float().mean().item()


def fit(seed: int, width: int = 34) -> None:
    """Trains once, with Lightning."""
    module, data = recipe(seed, width)
    trainer = Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, data)


def trainings(runs: int, seeds: int = SEEDS) -> list[Training]:
    """Returns trainings over the seeds, each with a rate of its own."""
    steps = EPOCHS * len(recipe(0)[1].train_dataloader())
    rates = np.linspace(0.1, 0.05, steps)
    return [Training(run % seeds, np.float64(0.999 ** (run // seeds)) * rates) for run in range(runs)]


def race(
    runs: int, width: int = 34, device: str = "cpu", compile: bool = False, seeds: int = SEEDS
) -> tuple[float, VectorizedRace]:
    """Trains all together; returns the seconds besides those of compiling, and the race."""
    started = time.perf_counter()
    together = VectorizedRace(
        partial(recipe, width=width),
        trainings(runs, seeds),
        optimizer=SGD,
        epochs=EPOCHS,
        device=device,
        compile=compile,
    )
    done = sum(len(chunk.runs) for chunk in together)
    assert done == runs
    return time.perf_counter() - started - together.compile_seconds, together


def front_door(seeds: int) -> float:
    """Races 1,000 trainings through ``compare()``; returns the seconds."""
    lrs = LRS[: 1000 // (seeds * len(SCHEDULES))]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        raced = compare(
            partial(IonosphereClassifier, optimizer=SGD, lr_scheduler=None),
            IonosphereDataModule,
            SCHEDULES,
            lrs=lrs,
            momenta=[0.9],
            seeds=seeds,
            optimizer=SGD,
            epochs=EPOCHS,
            folder=folder,
        )
        assert raced.results.trained == 1000
        return time.perf_counter() - started


def command(seeds: int) -> tuple[float, float, float]:
    """Races 1,000 trainings by the command; returns its seconds, and those until its first line and first result."""
    lrs = ",".join(map(str, LRS[: 1000 // (seeds * len(SCHEDULES))]))
    with tempfile.TemporaryDirectory() as folder:
        typed = ["compare", "--seeds", str(seeds), "--lrs", lrs, "--momenta", "0.9", "--folder", "race"]
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "lit_lrsched", *typed],
            cwd=folder,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert process.stdout is not None
        shown, line, first = b"", 0.0, 0.0
        while piece := os.read(process.stdout.fileno(), 65536):
            shown += piece
            line = line or time.perf_counter() - started
            if not first and re.search(rb"[1-9]\d*/1000", shown):
                first = time.perf_counter() - started
        assert process.wait() == 0
        return time.perf_counter() - started, line, first


def jax_race() -> Callable[[], object]:
    """Returns the race of :func:`trainings` in JAX, compiled."""
    from jax_race import JaxRace, Rows

    members = [module_and_rows(recipe, seed, EPOCHS)[:2] for seed in range(SEEDS)]
    train, validation = (
        Rows(*(np.stack([rows[stage].data[leaf].numpy() for _, rows in members]) for leaf in (0, 1)))
        for stage in ("train", "val")
    )
    names = {"w1": "network.0.weight", "b1": "network.0.bias", "w2": "network.2.weight", "b2": "network.2.bias"}
    states = [module.state_dict() for module, _ in members]
    given = trainings(1000)
    rates = np.stack([training.rates for training in given])
    return JaxRace(
        train,
        validation,
        np.stack([rows["train"].order.numpy() for _, rows in members]),
        {name: np.stack([state[path].numpy().T for state in states]) for name, path in names.items()},
        np.array([training.seed for training in given]),
        rates,
        np.full_like(rates, 0.9),
    )


def alone(side: Callable[[], object]) -> float:
    """Returns how long one training takes by itself, on one thread: more only slow so small a network down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    started = time.perf_counter()
    side()
    elapsed = time.perf_counter() - started
    torch.set_num_threads(threads)
    return elapsed


def peak_mib() -> float:
    """Returns the most memory that this process or a worker has held."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024


def main() -> None:
    """Runs all sides and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="*", default=[1, 10, 32, 100, 320, 1000, 3200, 10000])
    parser.add_argument("--widths", type=int, nargs="*", default=[34, 128, 512, 1024])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)

    curves(args.runs, args.widths)
    sides(args.rounds, args.threads)


def curves(numbers: Sequence[int], widths: Sequence[int]) -> None:
    """Prints both curves; first of all, since the memory that a process has held only ever grows."""
    each = min(alone(partial(plain, seed)) for seed in range(3))
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    print(f"{'runs':>8}{'device':>8}{'chunk':>8}{'trainings/s':>14}{'compiled':>10}{'x plain':>10}{'peak MiB':>10}")
    # A compiler holds more memory than a race: all are raced without one first.
    raced = [(runs, device, *race(runs, device=device), peak_mib()) for runs in numbers for device in devices]
    for runs, device, elapsed, together, held in raced:
        faster = race(runs, device=device, compile=True)[0]
        print(
            f"{runs:8}{device:>8}{together.chunk_size:8}{runs / elapsed:14.1f}{runs / faster:10.1f}"
            f"{each * runs / elapsed:10.1f}{held:10.0f}"
        )
    print(f"\n{'width':>8}{'device':>8}{'chunk':>8}{'ms each':>14}{'plain':>10}{'x plain':>10}")
    for width in widths:
        one = min(alone(partial(plain, 0, width)) for _ in range(2))
        for device in devices:
            elapsed, together = race(64, width, device)
            print(
                f"{width:8}{device:>8}{together.chunk_size:8}{elapsed / 64 * 1e3:14.1f}{one * 1e3:10.1f}"
                f"{one * 64 / elapsed:10.1f}"
            )


def sides(rounds: int, threads: int) -> None:
    """Prints what a training takes on each side."""
    best = defaultdict[str, float](lambda: np.inf)
    compiling, first, after = 0.0, np.inf, np.inf
    in_jax = jax_race() if importlib.util.find_spec("jax") else None
    fit(0)
    for turn in range(rounds):
        for name, side in {"plain": plain, "fit": fit}.items():
            for seed in range(3):
                best[name] = min(best[name], alone(partial(side, seed)))
        for name, compiled in {"together": False, "compiled": True}.items():
            elapsed, together = race(1000, compile=compiled)
            best[name] = min(best[name], elapsed / 1000)
            compiling = compiling if turn else max(compiling, together.compile_seconds)
        best["together, 100 seeds"] = min(best["together, 100 seeds"], race(1000, seeds=100)[0] / 1000)
        for seeds in (20, 100):
            elapsed, line, shown = command(seeds)
            first, after = min(first, shown), min(after, shown - line)
            for name, seconds in {
                f"compare, {seeds} seeds": front_door(seeds),
                f"command, {seeds} seeds": elapsed,
            }.items():
                best[name] = min(best[name], seconds / 1000)
        if in_jax:
            started = time.perf_counter()
            in_jax()
            best["jax"] = min(best["jax"], (time.perf_counter() - started) / 1000)
    print(f"\n1000 trainings, {threads} threads; compiling took {compiling:.1f} s")
    print(f"First result of the command: {first:.1f} s after its start, {after:.1f} s after its first line")
    others = ["plain", "fit", "together", *(["jax"] if in_jax else [])]
    print(f"{'':20}{'ms each':>10}" + "".join(f"{f'x {other}':>12}" for other in others))
    for name, each in best.items():
        print(f"{name:20}{each * 1e3:10.2f}" + "".join(f"{best[other] / each:12.2f}" for other in others))


if __name__ == "__main__":
    main()
