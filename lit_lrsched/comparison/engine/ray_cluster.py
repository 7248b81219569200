"""A Ray cluster as the workers of a race: its actors train chunks, and a chunk whose actor dies goes to another."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import torch

from lit_lrsched.comparison.engine.training import Chunk
from lit_lrsched.errors import InputError
from lit_lrsched.trainer.lightning_package import rank_zero_info

# How often the same trainings may lose their worker. What takes three with it would take a fourth.
_TRIES = 3

# Seconds without news after which to look whether the cluster still has room, and whether to say that nothing happens.
_PATIENCE = 10
_SILENCE = 60


class Race(Protocol):
    """Trainings that can be trained in chunks."""

    def train(self, runs: list[int]) -> Chunk:
        """Trains the runs of one chunk."""


class RayCluster:
    """The workers that a Ray cluster gives to a race: as many as its CPUs and GPUs are enough for.

    A context: it is connected to when it is first used, and left at the end; what was started for it is then stopped.

    Args:
        address: ``"auto"``: the cluster of ``RAY_ADDRESS``, or the one that runs on this machine. ``"local"``: one is
            started on this machine. Else the address of a cluster, such as ``"10.0.0.1:6379"``.
        cpus: CPUs for each worker, and threads that it computes with; a fraction shares one CPU.
        gpus: GPUs for each worker, at most 1; a fraction shares one GPU, and 0 means to train on CPUs.
    """

    def __init__(self, address: str, cpus: float = 1, gpus: float = 0) -> None:
        self._address = address
        self._cpus = cpus
        self._gpus = gpus
        self._ray: Any = None
        self._is_ours = False
        self._most_workers = 0

    def __enter__(self) -> RayCluster:
        """Does nothing yet: where all trainings are done already, no cluster is needed."""
        return self

    def __exit__(self, *error: object) -> None:
        """Leaves the cluster, and stops one that was started for this race."""
        if self._is_ours:
            self._ray.shutdown()
        self._ray, self._is_ours = None, False

    def __str__(self) -> str:
        """Returns what trained, in a few words."""
        return f"{self._most_workers} x {self.device.type} of a Ray cluster"

    @property
    def device(self) -> torch.device:
        """Where its workers train."""
        return torch.device("cuda" if self._gpus else "cpu")

    @property
    def workers(self) -> int:
        """How many workers the cluster has room for now, if nobody else uses it.

        Raises:
            InputError: When there is no such cluster, or none of its machines is large enough for one worker.
        """
        self._connect()
        wanted = {name: each for name, each in (("CPU", self._cpus), ("GPU", self._gpus)) if each}
        room = sum(
            min(int(node["Resources"].get(name, 0) / each + 1e-9) for name, each in wanted.items())
            for node in self._ray.nodes()
            if node["Alive"]
        )
        if room == 0:
            asked = " and ".join(f"{each:g} {name}" for name, each in wanted.items())
            raise InputError(
                f"no machine of the Ray cluster has {asked} for a worker: add one, or ask for less with ray_cpus and "
                "ray_gpus; what was finished is kept"
            )
        self._most_workers = max(self._most_workers, room)
        return room

    def free_memory(self) -> int:
        """Returns half of the memory that is free on the GPU of a worker; 0 for workers without one."""
        if not self._gpus or not self.workers:  # Ray would wait for a GPU that nobody has
            return 0
        ask = self._ray.remote(num_cpus=self._cpus, num_gpus=self._gpus, max_calls=1)(_free_memory_of_gpu)
        return int(self._ray.get(ask.remote()) * self._gpus) // 2

    def train(self, recipe: Callable[[], Race], chunks: Sequence[list[int]]) -> Iterator[Chunk]:
        """Trains chunks on the cluster, and yields each when it is finished.

        Args:
            recipe: Makes the race, once in every worker. It must be picklable by cloudpickle.
            chunks: The runs of each chunk.

        Raises:
            InputError: When the recipe cannot be sent, a worker cannot import what it needs, or the same trainings
                lose one worker after another.
        """
        count = min(self.workers, len(chunks))
        resources = {"num_cpus": self._cpus, "num_gpus": self._gpus}
        crew = _Crew(self._ray, recipe, resources, max(1, int(self._cpus)), chunks)
        try:
            for _ in range(count):
                crew.hire()
            silent = 0
            while crew.has_work:
                news = crew.wait(_PATIENCE)
                silent = 0 if news or crew.is_training else silent + _PATIENCE
                if not news and self.workers and silent == _SILENCE:
                    rank_zero_info("Waiting: no worker of the Ray cluster is ready.")
                yield from news
        finally:
            crew.dismiss()

    def _connect(self) -> None:
        if self._ray is not None:
            return
        ray = _imported()
        if ray.is_initialized():
            if self._address != "auto":
                raise InputError(f"ray={self._address!r}: this process uses a Ray cluster already: give ray='auto'")
        else:
            with _own_sigterm():
                _join(ray, self._address)
            self._is_ours = True
        self._ray = ray


def cluster_of(address: str | None, cpus: float | None, gpus: float | None, device: torch.device) -> RayCluster | None:
    """Returns the cluster that trains; None without an address.

    Args:
        address: As for :class:`RayCluster`.
        cpus: CPUs for each worker. None: 1.
        gpus: GPUs for each worker. None: 1 where trainings are meant for a GPU, else 0.
        device: What trainings are meant for.
    """
    if address is None:
        return None
    return RayCluster(address, cpus or 1, float(device.type == "cuda") if gpus is None else gpus)


class _Crew:
    """The actors that train the chunks of one race.

    Args:
        ray: The library, connected.
        recipe: Makes the race.
        resources: What each actor takes of its machine.
        threads: With how many threads each computes.
        chunks: The runs of each chunk.
    """

    def __init__(
        self,
        ray: Any,
        recipe: Callable[[], Race],
        resources: dict[str, float],
        threads: int,
        chunks: Sequence[list[int]],
    ) -> None:
        self._ray = ray
        self._actor = ray.remote(**resources, max_restarts=0, max_task_retries=0)(_Worker)
        self._recipe = ray.put(_pickled(ray, recipe))
        self._settings = (os.getcwd(), threads, torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled())
        self._left = deque(chunks)
        self._idle: list[Any] = []
        self._awaited: dict[Any, tuple[Any, list[int]]] = {}  # by what: the actor, and its runs; none while it builds
        self._losses: Counter[int | None] = Counter()  # by the first run of the chunk, None while building
        self._hired = 0

    @property
    def has_work(self) -> bool:
        """Whether a chunk is left or being trained."""
        return bool(self._left) or self.is_training

    @property
    def is_training(self) -> bool:
        """Whether an actor is at a chunk."""
        return any(runs for _, runs in self._awaited.values())

    def hire(self) -> None:
        """Asks for an actor. It gets no chunk before it has been started somewhere and has built the race."""
        actor = self._actor.remote(*self._settings)
        self._awaited[actor.build.remote(self._recipe)] = actor, []
        self._hired += 1

    def wait(self, seconds: float) -> list[Chunk]:
        """Waits for news of the actors, and gives those that are free something to do. Returns what was finished."""
        finished, _ = self._ray.wait([*self._awaited], timeout=seconds)
        chunks = [chunk for answer in finished if (chunk := self._received(answer)) is not None]
        while self._left and self._idle:
            actor, runs = self._idle.pop(), self._left.popleft()
            self._awaited[actor.train.remote(runs)] = actor, runs
        return chunks

    def dismiss(self) -> None:
        """Ends all actors, whatever they are at."""
        for actor in [*self._idle, *(actor for actor, _ in self._awaited.values())]:
            self._ray.kill(actor)

    def _received(self, answer: Any) -> Chunk | None:
        actor, runs = self._awaited.pop(answer)
        errors = self._ray.exceptions
        try:
            chunk = self._ray.get(answer)
        except errors.RayTaskError as error:
            self._idle.append(actor)
            raise error.cause from error  # the user's own, or a mistake of theirs
        except (errors.RayActorError, errors.ObjectLostError, errors.OutOfMemoryError, errors.NodeDiedError) as error:
            self._lose(actor, runs, error)
            return None
        self._idle.append(actor)
        return pickle.loads(chunk) if runs else None

    def _lose(self, actor: Any, runs: list[int], error: Exception) -> None:
        """Puts back what an actor was at when it died, and asks for another one."""
        self._ray.kill(actor)  # it may only be out of reach
        if getattr(error, "actor_init_failed", False):
            raise InputError(
                f"a worker of the Ray cluster could not start, {_last_line(error)}: "
                "every machine needs the same packages"
            ) from error
        first = runs[0] if runs else None
        self._losses[first] += 1
        if self._losses[first] == (_TRIES if runs else _TRIES * self._hired):
            raise InputError(
                f"{self._losses[first]} workers of the Ray cluster died with the same trainings, as they do where "
                "memory runs out: what was finished is kept, and the same call goes on; a larger ray_cpus means fewer "
                "workers on a machine"
            ) from error
        if runs:
            self._left.appendleft(runs)
            rank_zero_info(f"A worker of the Ray cluster died: its {len(runs)} trainings start again elsewhere.")
        self.hire()


class _Worker:
    """What an actor runs.

    Args:
        folder: The working directory of the race: relative paths mean the same here, where it is there.
        threads: Threads to compute with.
        dtype: torch's default type.
        deterministic: Whether torch uses deterministic algorithms.
    """

    def __init__(self, folder: str, threads: int, dtype: torch.dtype, deterministic: bool) -> None:
        with suppress(OSError):
            os.chdir(folder)
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        torch.use_deterministic_algorithms(deterministic)
        self._race: Race

    def build(self, recipe: bytes) -> None:
        """Makes the race."""
        try:
            make = pickle.loads(recipe)
        except ImportError as error:
            raise InputError(
                f"a worker of the Ray cluster cannot import what is trained, {error}: every machine needs the "
                "same packages and your own code, in a shared folder or by `ray job submit --working-dir .`"
            ) from error
        self._race = make()

    def train(self, runs: list[int]) -> bytes:
        """Trains a chunk. Returns it as bytes: arrays would show memory that is gone when the cluster is left."""
        return pickle.dumps(self._race.train(runs))


def _imported() -> Any:
    """Returns Ray, as quiet as the race is without it: it reads these variables when it is imported and started."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it reports to nobody
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # what its daemons say of a worker that died
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or it announces a change
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        if error.name != "ray":
            raise
        raise InputError("ray needs Ray, which is not installed: pip install 'lit_lrsched[ray]'") from None
    return ray


def _join(ray: Any, address: str) -> None:
    named = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    if named not in ("auto", "local"):
        _check_answers(named)
    more = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **more)
    except ConnectionError as error:
        raise InputError(
            f"ray={address!r}: no Ray cluster runs here, and RAY_ADDRESS names none: start one with "
            "`ray start --head`, give the address of one, or 'local'"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise InputError(f"ray={address!r}: the cluster cannot be joined: {' '.join(str(error).split())}") from error


def _check_answers(address: str) -> None:
    """Refuses an address where nobody answers, for which Ray would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
    except (OSError, ValueError) as error:
        raise InputError(
            f"ray={address!r}: nobody answers there ({error}): give host and port of a cluster, such as 10.0.0.1:6379"
        ) from error


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keeps the handler of SIGTERM, for which Ray installs its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _pickled(ray: Any, recipe: Callable[[], Race]) -> bytes:
    try:
        text: bytes = ray.cloudpickle.dumps(recipe)
    except Exception as error:  # whatever the user's objects raise
        raise InputError(
            f"the model, its data, the optimizer or a schedule cannot be sent to a Ray cluster, {_last_line(error)}: "
            "give classes, or functions that make them"
        ) from error
    return text


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip().rstrip(".")


def _free_memory_of_gpu() -> int:
    return int(torch.cuda.mem_get_info()[0])
