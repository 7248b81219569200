from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# The same examples on every machine and at every run: a failure is a finding, not a matter of luck.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# It asks MKL how to round; here other tests may have computed before the race could.
importlib.import_module("lit_lrsched.comparison.engine.mkl")

# The models here are too small to share among threads; waiting for each other costs more than the work.
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run exhaustive sweeps in full instead of a seeded sample")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--all"):
        return
    sampled: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("exhaustive"):
            item.add_marker(pytest.mark.skip(reason="exhaustive: --all runs it"))
        if item.get_closest_marker("sampled"):
            sampled.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for name, cases in sampled.items():
        marker = cases[0].get_closest_marker("sampled")
        assert marker is not None
        for item in random.Random(name).sample(cases, max(0, len(cases) - marker.args[0])):
            item.add_marker(pytest.mark.skip(reason="not in the sample: --all runs it"))


@pytest.fixture(scope="session")
def run_all(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--all"))


@pytest.fixture(autouse=True)
def wandb_ends_with_the_test() -> Iterator[None]:
    """Ends the run of W&B that a test has left open, as the end of a process does: the next one would go on with it."""
    yield
    if wandb := sys.modules.get("wandb"):
        wandb.finish()
        wandb.teardown()


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is also the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Command:
    """Runs ``lit-lrsched`` in this process, which saves the seconds that importing Lightning takes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capfd = capfd
        self.out = ""
        self.err = ""

    def __call__(self, *arguments: str) -> int:
        from lit_lrsched.__main__ import main

        self._monkeypatch.setattr(sys, "argv", ["lit-lrsched", *arguments])
        self._capfd.readouterr()
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        self.out, self.err = self._capfd.readouterr()
        return status


@pytest.fixture
def command(in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """The command line, in an empty folder."""
    return Command(monkeypatch, capfd)
