"""How many runs suit a machine: too large a module trains by itself, and no chunk takes more memory than there is."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, Subset

from lit_lrsched import Constant, compare, find_lr
from lit_lrsched.comparison.builds import build_from
from lit_lrsched.comparison.engine import room, vectorized
from lit_lrsched.comparison.engine.batches import module_and_rows
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.comparison.engine.room import free_memory, seeds_with_room, workers_with_room
from lit_lrsched.comparison.engine.training import Training
from lit_lrsched.comparison.engine.vectorized import VectorizedRace
from tests.foreign import MLP, Data

CPU = torch.device("cpu")
MB = 1 << 20
SGD = partial(torch.optim.SGD, lr=0.1)


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
    files["/sys/fs/cgroup/memory.stat"] = "anon 2\ninactive_file 3\n"  # of files, which give way
    assert free_memory() == MB + 3
    old = "/sys/fs/cgroup/memory/memory"
    files |= {f"{old}.limit_in_bytes": "1000\n", f"{old}.usage_in_bytes": "400\n"}
    assert free_memory() == 600
    files["/sys/fs/cgroup/memory/memory.stat"] = "inactive_file 7\ntotal_inactive_file 50\n"
    assert free_memory() == 650


def test_here_it_is_told() -> None:
    if not Path("/proc/meminfo").exists():
        pytest.skip("the system does not tell")
    free = free_memory()
    assert free is not None
    assert free > 0


@pytest.mark.parametrize(("free", "workers"), [(None, 4), (4 * 48 * MB, 4), (4 * 48 * MB - 1, 3), (48 * MB, 1)])
def test_as_many_processes_train_as_have_the_memory(
    monkeypatch: pytest.MonkeyPatch, free: int | None, workers: int
) -> None:
    monkeypatch.setattr(room, "free_memory", lambda: free)
    assert workers_with_room(CPU, 4, MB, 0, regardless=False) == workers  # three times 16 runs of a MiB


def test_without_memory_for_one_it_is_refused_whatever_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_memory", lambda: 48 * MB - 1)
    with pytest.raises(
        NotVectorizable, match="16 runs side by side and their data take about 48 MiB, and 48 MiB are free"
    ):
        workers_with_room(CPU, 4, MB, 0, regardless=True)


def test_the_more_processes_the_larger_a_module_that_gains() -> None:
    with pytest.raises(NotVectorizable, match="works on 25 MiB for each run, and from 24 MiB on runs gain nothing"):
        workers_with_room(CPU, 2, 25 * MB, 0, regardless=False)
    assert workers_with_room(CPU, 2, 25 * MB, 0, regardless=True) == 2
    assert workers_with_room(CPU, 3, 25 * MB, 0, regardless=False) == 3


@pytest.mark.parametrize(("free", "seeds"), [(None, None), (0, 1), (54 * MB, 1), (62 * MB - 1, 2), (62 * MB, 3)])
def test_a_chunk_holds_the_data_of_as_many_seeds_as_the_memory(
    monkeypatch: pytest.MonkeyPatch, free: int | None, seeds: int | None
) -> None:
    # Three times 16 runs of a MiB with data of 2 MiB; every further seed's as they are fetched, and in their row.
    monkeypatch.setattr(room, "free_memory", lambda: free)
    assert seeds_with_room(CPU, 1, MB, 2 * MB) == seeds
    monkeypatch.setattr(room, "free_memory", lambda: None if free is None else 4 * free)
    assert seeds_with_room(CPU, 4, MB, 2 * MB) == seeds


class Same(Data):
    """The same rows for all seeds."""

    def __init__(self) -> None:
        super().__init__()


def test_seeds_whose_data_are_too_much_together_train_in_chunks_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def raced(data: Any, seeds: int | None) -> tuple[list[list[int]], bytes, VectorizedRace]:
        monkeypatch.setattr(vectorized, "seeds_with_room", lambda *_: seeds)
        trainings = [Training(run // 2, np.full(4, 0.01)) for run in range(10)]
        race = VectorizedRace(build_from(MLP, data), trainings, optimizer=SGD, epochs=2, workers=1)
        chunks = list(race)
        losses = np.concatenate([chunk.losses for chunk in chunks])
        return [chunk.runs for chunk in chunks], losses.tobytes(), race

    together, losses, _ = raced(Data, 5)
    assert together == [[*range(10)]]
    apart, same_losses, race = raced(Data, 2)
    assert apart == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert same_losses == losses
    race.know(range(5))
    assert race._known.keys() == {4}
    together, *_ = raced(Same, 2)
    assert together == [[*range(10)]]


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


class Counted(Dataset[Any]):
    """A thousand rows of ten numbers that notes how often one is fetched."""

    def __init__(self, augmented: bool = False) -> None:
        self.augmented = augmented
        self.fetched = 0

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        self.fetched += 1
        numbers = torch.rand(10) if self.augmented else torch.full((10,), place / 1000)
        return numbers, numbers[:1]


def rows_of(dataset: Dataset[Any], free: int | None = None, **options: Any) -> Any:
    class Given(Data):
        def train_dataloader(self) -> Any:
            return DataLoader(dataset, batch_size=20, **options)

    return module_and_rows(lambda seed: (MLP(), Given()), 0, epochs=2, free=free)


def test_rows_that_change_are_found_before_all_are_fetched() -> None:
    with pytest.raises(NotVectorizable, match="change from one fetch to the next"):
        rows_of(dataset := Counted(augmented=True))
    assert dataset.fetched == 2 * 20


def test_rows_that_the_memory_cannot_hold_are_not_fetched() -> None:
    needed = 3 * 1000 * 11 * 4
    with pytest.raises(NotVectorizable, match="its 1,000 rows take about 0 MiB, and 0 MiB are free"):
        rows_of(dataset := Counted(), free=needed - 1)
    assert dataset.fetched == 2 * 20
    rows_of(dataset, free=needed)


def test_rows_of_a_part_are_fetched_without_those_that_nobody_uses() -> None:
    rows = rows_of(Subset(dataset := Counted(), range(400, 440)))[1]["train"]
    assert dataset.fetched == 2 * 20 + 40 + 20  # the first batch, twice; all; and the last batch
    assert rows.data[0][rows.order[0], 0].tolist() == pytest.approx([place / 1000 for place in range(400, 440)])


def test_a_race_asks_for_the_memory_before_it_fetches_and_not_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(free: int) -> int:
        once = iter([free])
        monkeypatch.setattr(vectorized, "free_memory", lambda: next(once))
        trainings = [Training(seed, np.full(4, 0.01)) for seed in range(3)]
        build = build_from(MLP, Data)
        return sum(len(chunk.runs) for chunk in VectorizedRace(build, trainings, optimizer=SGD, epochs=2, workers=1))

    assert trained(1 << 40) == 3
    with pytest.raises(NotVectorizable, match="rows take about"):
        trained(1)


def test_batches_that_are_padded_are_told() -> None:
    class Sequences(Counted):
        def __getitem__(self, place: int) -> Any:
            return torch.ones(1 + place % 25)

    with pytest.raises(NotVectorizable, match="a batch depends on which rows it holds"):
        rows_of(Sequences(), collate_fn=lambda items: pad_sequence(items, batch_first=True))
