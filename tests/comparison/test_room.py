"""How many runs suit a machine: too large a module trains by itself, and no chunk takes more memory than there is."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from lit_lrsched import Constant, compare, find_lr
from lit_lrsched.comparison.engine import room
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.comparison.engine.room import free_memory, workers_with_room
from tests.foreign import MLP, Data

CPU = torch.device("cpu")
MB = 1 << 20


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the files of the system say, by their paths; those that are not among them do not exist."""
    texts: dict[str, str] = {}
    monkeypatch.setattr(room, "_text", lambda path: texts.get(path, ""))
    return texts


def test_the_least_that_is_left_counts(files: dict[str, str]) -> None:
    assert free_memory() is None
    files["/proc/meminfo"] = "MemTotal:  4096 kB\nMemAvailable:   2048 kB\n"
    assert free_memory() == 2 * MB
    files |= {"/sys/fs/cgroup/memory.max": "max\n", "/sys/fs/cgroup/memory.current": "5\n"}
    assert free_memory() == 2 * MB
    files["/sys/fs/cgroup/memory.max"] = f"{MB + 5}\n"
    assert free_memory() == MB
    old = "/sys/fs/cgroup/memory/memory"
    files |= {f"{old}.limit_in_bytes": "1000\n", f"{old}.usage_in_bytes": "400\n"}
    assert free_memory() == 600


def test_here_it_is_told() -> None:
    if not Path("/proc/meminfo").exists():
        pytest.skip("the system does not tell")
    free = free_memory()
    assert free is not None and free > 0


@pytest.mark.parametrize(("free", "workers"), [(None, 4), (4 * 48 * MB, 4), (4 * 48 * MB - 1, 3), (48 * MB, 1)])
def test_as_many_processes_train_as_have_the_memory(
    monkeypatch: pytest.MonkeyPatch, free: int | None, workers: int
) -> None:
    monkeypatch.setattr(room, "free_memory", lambda: free)
    assert workers_with_room(CPU, 4, MB, regardless=False) == workers  # three times 16 runs of a MiB


def test_without_memory_for_one_it_is_refused_whatever_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_memory", lambda: 48 * MB - 1)
    with pytest.raises(NotVectorizable, match="16 runs side by side take about 48 MiB, and 48 MiB are free"):
        workers_with_room(CPU, 4, MB, regardless=True)


def test_the_more_processes_the_larger_a_module_that_gains() -> None:
    with pytest.raises(NotVectorizable, match="works on 25 MiB for each run, and from 24 MiB on runs gain nothing"):
        workers_with_room(CPU, 2, 25 * MB, regardless=False)
    assert workers_with_room(CPU, 2, 25 * MB, regardless=True) == 2
    assert workers_with_room(CPU, 3, 25 * MB, regardless=False) == 3


@pytest.mark.parametrize("search", [False, True])
def test_what_gains_nothing_trains_by_itself_unless_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, search: bool
) -> None:
    caplog.set_level("INFO", logger="lightning.pytorch")
    monkeypatch.setattr(room, "_GAINS", 1000)
    trainer = Trainer(devices=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    options: dict[str, Any] = {"seeds": 2, "epochs": 1, "trainer": trainer}
    if search:
        run: Any = partial(find_lr, MLP, Data, lrs=(1e-4, 1e-3), points=5, **options)
    else:
        run = partial(compare, MLP, Data, {"constant": Constant()}, lrs=[0.001], **options)
    run(folder=tmp_path / "auto")
    assert "runs gain nothing side by side here" in caplog.text
    caplog.clear()
    run(folder=tmp_path / "asked for", engine="vectorized")
    assert "Trainer.fit" not in caplog.text
