"""Races on a Ray cluster of two nodes on this machine: nodes, workers and the race itself die; no number changes."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lit_lrsched import Constant, Cosine, IonosphereClassifier, IonosphereDataModule, compare, find_lr
from lit_lrsched.comparison.engine.ray_cluster import RayCluster, _imported
from lit_lrsched.comparison.engine.training import Chunk
from lit_lrsched.comparison.options import RaceOptions
from lit_lrsched.comparison.records import stored_records
from lit_lrsched.errors import InputError

with_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'lit_lrsched[ray]'"
)
# Ray leaves log files and processes of its nodes to the garbage collector.
quiet = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes with a CPU each, of which the second may be killed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # no token is written into the home folder
        made = Cluster()
        yield made
        made.close()


class Cluster:
    def __init__(self) -> None:
        _imported()
        from ray.cluster_utils import Cluster as Nodes

        small = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_log_monitor": False}
        self._nodes = Nodes(initialize_head=True, head_node_args={**small, "include_dashboard": False})
        self._small = small
        self._second = None
        self.with_two_nodes()

    @property
    def address(self) -> str:
        return str(self._nodes.address)

    @property
    def head(self) -> str:
        return str(self._nodes.head_node.node_id)

    def with_two_nodes(self) -> Cluster:
        if self._second is None or not self._second.any_processes_alive():
            self._second = self._nodes.add_node(**self._small)
        elif self._second.dead_processes():
            self._nodes.remove_node(self._second, allow_graceful=False)
            self._second = self._nodes.add_node(**self._small)
        return self

    def close(self) -> None:
        self._nodes.shutdown()


def race(folder: Path, data: Callable[..., IonosphereDataModule] = IonosphereDataModule, **options):
    schedules = {"constant": Constant(), "cosine": Cosine()}
    given = {"lrs": [0.1], "seeds": 32, "epochs": 2, "folder": folder, **options}
    return compare(IonosphereClassifier, data, schedules, **given)


def results(folder: Path) -> bytes:
    return (folder / "results.csv").read_bytes()


@with_ray
@quiet
def test_a_node_dies_in_the_middle_of_a_chunk(cluster, tmp_path, capfd, caplog):
    died, head = tmp_path / "died", cluster.with_two_nodes().head

    def data(seed: int) -> IonosphereDataModule:
        """In a worker: takes its node down when a chunk begins; the worker of the other node waits for that."""
        ray = sys.modules.get("ray")
        if ray is not None and ray.is_initialized() and "default_worker" in sys.argv[0] and seed > 0:
            if ray.get_runtime_context().get_node_id() != head and not died.exists():
                died.touch()
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(60)
            while not died.exists():
                time.sleep(0.05)
        return IonosphereDataModule(seed=seed)

    race(tmp_path / "local", data)
    capfd.readouterr()
    on_ray = race(tmp_path / "ray", data, ray=cluster.address)
    assert died.exists()
    assert on_ray.results.engine == "vectorized"
    assert results(tmp_path / "ray") == results(tmp_path / "local")
    assert (on_ray.results.trained, len(stored_records(tmp_path / "ray"))) == (64, 64)
    assert "A worker of the Ray cluster died: its 32 trainings start again elsewhere." in caplog.messages
    out, err = capfd.readouterr()
    assert "raylet" not in out + err


DRIVER = """
from pathlib import Path
from tests.comparison.test_ray import race
race(Path({folder!r}), engine="sequential", seeds=6, ray={address!r})
"""


@with_ray
@quiet
def test_the_race_is_killed_and_taken_up(cluster, tmp_path):
    local, killed = tmp_path / "local", tmp_path / "killed"
    race(local, engine="sequential", seeds=6)
    code = DRIVER.format(folder=str(killed), address=cluster.with_two_nodes().address)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        while not list(killed.rglob("*.npz")) and driver.poll() is None:
            time.sleep(0.05)
        driver.kill()
    again = race(killed, engine="sequential", seeds=6, ray=cluster.address)
    assert 0 < again.results.trained < 12
    assert "of a Ray cluster" in again.results.machine
    assert results(killed) == results(local)


@pytest.mark.exhaustive
@with_ray
@quiet
def test_a_search_on_a_cluster_finds_the_same(cluster, tmp_path):
    def search(folder: Path, ray: str | None) -> float:
        small = {"lrs": (0.01, 1.0), "points": 5, "seeds": 2, "epochs": 1}
        return find_lr(IonosphereClassifier, IonosphereDataModule, **small, folder=folder, ray=ray).lr

    on_ray, local = tmp_path / "ray", tmp_path / "local"
    assert search(on_ray, cluster.with_two_nodes().address) == search(local, None)
    assert results(on_ray) == results(local)


def gone(pids: list[int]) -> bool:
    """Whether these processes end, and soon."""
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.exhaustive
@with_ray
@quiet
def test_workers_that_die_and_code_that_fails(cluster, tmp_path):
    tried, pids = tmp_path / "tried", tmp_path / "pids"

    class Race:
        def __init__(self) -> None:
            with pids.open("a") as file:
                file.write(f"{os.getpid()}\n")

        def train(self, runs: list[int]) -> Chunk:
            with tried.open("a") as file:
                file.write(f"{runs[0]}\n")
            if runs == [1]:
                os.kill(os.getpid(), signal.SIGKILL)
            if runs == [2]:
                raise KeyError("a mistake in the user's code")
            nothing = np.zeros((len(runs), 1))
            return Chunk(runs, {}, {}, np.zeros(len(runs), dtype=bool), nothing, {}, nothing)

    with RayCluster(cluster.with_two_nodes().address) as workers:
        with pytest.raises(InputError, match="3 workers of the Ray cluster died with the same trainings"):
            list(workers.train(Race, [[0], [3, 4], [1]]))
        with pytest.raises(KeyError, match="a mistake in the user's code"):
            list(workers.train(Race, [[2]]))
    count = tried.read_text().split()
    assert (count.count("1"), count.count("2")) == (3, 1)
    assert gone([int(pid) for pid in pids.read_text().split()])


@with_ray
@quiet
def test_what_a_cluster_cannot_do_is_refused_in_a_line(cluster, tmp_path):
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(InputError, match=r"no machine of the Ray cluster has 1 CPU and 0\.5 GPU for a worker"):
        race(tmp_path / "gpu", ray=cluster.address, ray_gpus=0.5)

    class Locked(IonosphereDataModule):
        lock = threading.Lock()

    with pytest.raises(InputError, match=r"cannot be sent to a Ray cluster, .*: give classes, or functions that make"):
        race(tmp_path / "locked", Locked, ray=cluster.address)
    assert not (tmp_path / "gpu").exists()
    assert not (tmp_path / "locked").exists()
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers


def test_without_ray_a_line_says_how_to_install_it(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    arguments = ["compare", "--schedules=[Constant]", "--lrs=[0.1]", "--seeds=1", "--trainer.max_epochs=1"]
    assert command(*arguments, "--ray=auto", "--folder=race") == 2
    assert command.err == "error: ray needs Ray, which is not installed: pip install 'lit_lrsched[ray]'\n"
    assert not Path("race").exists()


@with_ray
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "cluster"])
def test_an_address_where_nobody_answers(address):
    with pytest.raises(InputError, match=f"ray='{address}': nobody answers there"):
        print(RayCluster(address).workers)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"ray_cpus": 2}, "ray_cpus=2 says nothing without ray"),
        ({"ray": "auto", "ray_cpus": 0}, "ray_cpus=0: give a fraction above 0"),
        ({"ray": "auto", "ray_cpus": 1.5}, "ray_cpus=1.5: give a fraction above 0"),
        ({"ray": "auto", "ray_gpus": 2}, "ray_gpus=2: a worker trains on one GPU"),
    ],
)
def test_resources_that_ray_cannot_give(options, told):
    with pytest.raises(InputError, match=told):
        RaceOptions(**options)
