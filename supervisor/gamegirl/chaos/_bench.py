"""The bench: the world of one part of a run, with its store, its workers and its figures."""

from __future__ import annotations

import random
import shutil
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import anyio
import attrs
import redis
from anyio import to_thread
from anyio.abc import TaskGroup

from gamegirl.chaos._errors import BenchError
from gamegirl.chaos._figures import Figures
from gamegirl.chaos._gateway import Crowd, Gateway
from gamegirl.chaos._ledger import Ledger
from gamegirl.chaos._nursery import Nursery
from gamegirl.chaos._proxy import Proxy
from gamegirl.chaos._redis_server import RedisServer
from gamegirl.chaos._worker import WorkerPlan
from gamegirl.chaos._workers import CallFailed, Worker, WorkerGone, start_worker
from gamegirl.supervisor import Store, open_store

__all__ = ["Bench", "BenchError"]

SETTINGS = {
    "window_seconds": 0.4,
    "lease_seconds": 0.5,
    "commit_timeout_seconds": 1.0,
    "history_max": 100_000,
    "drain_seconds": 3.0,
}
"""What workers use unless a scenario says otherwise: a game's times, ten times as fast."""

_LOG_SHOWN = 4000

_KEYS = ("game:session:*", "game:index", "sg:game_session:*", "gg:*")
"""All that the runtime writes into a Redis."""


class Bench:
    """A world with a store, workers and players, thrown away when its books are judged.

    Args:
        backend: What the workers run on.
        seed: Everything random here comes from it.
        folder: An empty folder of its own.
        target: `redis` or `sqlite`, thrown away; or the URL of an empty store.
        control: A safeguard is to be taken away.
        slack: Times may be so many times as long as promised, where other work shares the machine.
        tick: Is called at each finished round.

    Attributes:
        figures: What is reported.
        random: The scenario's.
        ledger: What was acknowledged.
        workers: Those that were started and have not ended, as far as anybody has looked.
        gateway: Sends calls to them.
        url: Where workers find the store.
        server: The bench's own server, if there is one.
        tasks: For whatever must run beside the scenario.
        watchers: Are told each event of each worker.
    """

    def __init__(
        self,
        *,
        backend: str,
        seed: int,
        folder: Path,
        target: str = "redis",
        control: bool = False,
        slack: float = 1.0,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self.backend = backend
        self.seed = seed
        self.folder = folder
        self.control = control
        self.figures = Figures()
        self.random = random.Random(seed)
        self.ledger = Ledger()
        self.workers: list[Worker] = []
        self.gateway = Gateway(lambda: self.workers, self.random)
        self.watchers: list[Callable[[Worker, dict[str, Any]], None]] = []
        self.server: RedisServer | None = None
        self.url = ""
        self.tasks: TaskGroup
        self._target = target
        self._slack = slack
        self._tick = tick
        self._stack = AsyncExitStack()
        self._over = False

    @property
    def log(self) -> Path:
        """What workers write to their standard error."""
        return self.folder / "workers.log"

    @property
    def is_redis(self) -> bool:
        """Whether the store is a Redis."""
        return not self.url.startswith("sqlite")

    async def __aenter__(self) -> Bench:
        await self._stack.__aenter__()
        try:
            await self._set_up()
        except BaseException:
            await self._stack.aclose()  # Who is interrupted here leaves no server behind either.
            raise
        return self

    async def _set_up(self) -> None:
        if self._target == "redis":
            self.server = RedisServer(self.folder / "redis")
            self._stack.callback(self.server.kill)
            await self.server.start()
            self.url = self.server.url
        elif self._target == "sqlite":
            self.url = f"sqlite:///{self.folder / 'games.db'}"
        else:
            self.url = self._target
            await to_thread.run_sync(self._check_empty)
            self._stack.callback(self._sweep_up)
        self._nursery = Nursery(f"anyio._backends._{self.backend}")
        self._stack.callback(self._nursery.close)
        self.tasks = await self._stack.enter_async_context(anyio.create_task_group())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        self._over = True
        for worker in self.workers:
            worker.kill()
        self.tasks.cancel_scope.cancel()
        return await self._stack.__aexit__(kind, error, trace)

    def _check_empty(self) -> None:
        """Nobody's games are played with."""
        if not self.is_redis:
            path = Path(self.url.partition(":///")[2])
            if path.exists():
                raise BenchError(f"there is a database at {path}: name one that isn't there")
            return
        with self.redis() as client:
            try:
                size = client.dbsize()
            except (redis.RedisError, OSError) as error:
                raise BenchError(f"the Redis of --store can't be used: {error}") from None
        if size:
            raise BenchError(
                f"the database of --store has {size:,} keys: name an empty one, such as "
                "redis://127.0.0.1:6379/9; what chaos writes there is deleted afterwards"
            )

    def _sweep_up(self) -> None:
        """Delete what was written into a store that isn't ours."""
        if not self.is_redis:
            path = Path(self.url.partition(":///")[2])
            for part in path.parent.glob(path.name + "*"):
                shutil.rmtree(part) if part.is_dir() else part.unlink()
            return
        with self.redis() as client:
            for pattern in _KEYS:
                names = list(client.scan_iter(pattern, count=1000))
                for start in range(0, len(names), 1000):
                    client.delete(*names[start : start + 1000])

    # --- Reporting ------------------------------------------------------------------------------

    def round(self) -> None:
        """A round is finished."""
        self.figures.rounds += 1
        self._tick()

    def violation(self, text: str) -> None:
        """Something is not as promised."""
        self.figures.violation(text)

    def limit(self, promised: float) -> float:
        """What a time that is promised may be here, in the promise's unit."""
        return promised * self._slack

    # --- Workers --------------------------------------------------------------------------------

    def plan(self, **changes: Any) -> WorkerPlan:
        """What a worker runs by default; settings are merged, other fields replaced."""
        settings = {**SETTINGS, **changes.pop("settings", {})}
        given: dict[str, Any] = {
            "store": self.url,
            "backend": self.backend,
            "seed": self.random.getrandbits(32),
            **changes,
        }
        return WorkerPlan(settings=settings, **given)

    async def worker(self, plan: WorkerPlan | None = None) -> Worker:
        """Start a worker; calls can be sent once its `started()` returns."""
        made = await start_worker(self._nursery, plan or self.plan(), self.log, self._watch)
        self.workers = [worker for worker in self.workers if worker.alive]
        self.workers.append(made)
        self.tasks.start_soon(made.run)
        return made

    async def staff(self, count: int, plan: WorkerPlan | None = None) -> list[Worker]:
        """Start so many workers and wait for them; each has a seed of its own.

        Raises:
            WorkerGone: One ended at once; says what it wrote.
        """
        made = [
            await self.worker(attrs.evolve(plan or self.plan(), seed=self.random.getrandbits(32)))
            for _ in range(count)
        ]
        for worker in made:
            try:
                await worker.started()
            except WorkerGone as error:
                raise WorkerGone(f"{error}: {self.log_tail()}") from error
        return made

    def _watch(self, worker: Worker, event: dict[str, Any]) -> None:
        for watcher in self.watchers:
            watcher(worker, event)

    def log_tail(self) -> str:
        """The end of what workers wrote to their standard error."""
        return self.log.read_text(errors="replace")[-_LOG_SHOWN:] if self.log.exists() else ""

    # --- The store ------------------------------------------------------------------------------

    def store(self) -> Store:
        """The store itself, for looking; not through any proxy, and never opened."""
        return open_store(self.url)

    async def read(self, *keys: str) -> list[Any]:
        """What the store holds in these keys."""
        store = self.store()
        try:
            return list(await store.read(keys))
        finally:
            await store.aclose()

    def redis(self) -> Any:
        """A client of redis-py on the store, for the judge's own looks; close it."""
        return cast(Any, redis.Redis).from_url(self.url, socket_timeout=10, protocol=2)

    async def proxy(self, *, marker: bytes = b"") -> Proxy:
        """A proxy before the Redis; workers get its `url` in their plan."""
        proxy = Proxy(self.url, marker=marker)
        await self.tasks.start(proxy.run)
        return proxy

    async def in_thread(self, work: Callable[[], Any]) -> Any:
        """Do blocking work of the judge's in a thread."""
        return await to_thread.run_sync(work)

    # --- Games ----------------------------------------------------------------------------------

    def crowd(self, **options: Any) -> Crowd:
        """Players and narrators who write into the bench's ledger."""
        return Crowd(self.gateway, self.ledger, self.random, **options)

    async def settle(self, crowd: Crowd, channels: list[str], *, seconds: float = 30.0) -> None:
        """Play all games out: close their windows and record their turns."""

        async def finish(channel: str) -> None:
            try:
                await crowd.finish(channel)
            except CallFailed as error:
                self.violation(f"{channel} could not be played out: {error}")

        try:
            with anyio.fail_after(seconds):
                async with anyio.create_task_group() as tasks:
                    for channel in channels:
                        tasks.start_soon(finish, channel)
        except TimeoutError:
            self.violation(f"the games could not be played out within {seconds:g} s")

    async def judge(self) -> None:
        """Compare the ledger with the store, and count what it holds."""
        store = self.store()
        try:
            for fault in await self.ledger.judge(store):
                self.violation(fault)
        finally:
            await store.aclose()
        self.figures.count("acknowledged presses", self.ledger.acknowledged)
        self.figures.count("turns", self.ledger.turns)
        self.figures.count("acknowledged records", self.ledger.records)


async def every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do something again and again, until cancelled."""
    while True:
        await work()
        await anyio.sleep(seconds)
