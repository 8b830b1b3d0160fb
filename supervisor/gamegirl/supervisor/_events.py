"""What the runtime tells its observers, as data. Game events are the session behaviour's own."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from weakref import WeakSet

import anyio
import msgspec

from gamegirl.actors.session import Audience


class ActorEvent(msgspec.Struct, frozen=True):
    """Something that happened to one actor.

    Attributes:
        kind: The kind of its behaviour.
        actor_id: Its id; of a session, the channel's.
    """

    kind: str
    actor_id: str


class ActorRestored(ActorEvent, frozen=True):
    """It was claimed and is live.

    Attributes:
        source: The form it was restored from; "new" if nothing was stored.
        claimed_from: Whose it was before; empty: nobody's.
        restart: It was live here before, and crashed or was thrown back.
    """

    source: str
    claimed_from: str
    restart: bool


class ActorCrashed(ActorEvent, frozen=True):
    """Its handler raised; it restarts.

    Attributes:
        message: The message that was handled; it is not replayed.
        error: What was raised.
        traceback: For a person.
    """

    message: object
    error: BaseException
    traceback: str


class ActorFailed(ActorEvent, frozen=True):
    """It crashed too often and is stopped.

    Attributes:
        restarts: How often in the restart window.
    """

    restarts: int


class ActorReleased(ActorEvent, frozen=True):
    """It left memory; nobody owns it."""


class ActorLost(ActorEvent, frozen=True):
    """Another process owns it now; what was not committed here is refused.

    Attributes:
        owner: The other's token.
    """

    owner: str


class CommitFailed(ActorEvent, frozen=True):
    """A commit was refused or is overdue.

    Attributes:
        reason: What the store said.
    """

    reason: str


class StoreRegressed(ActorEvent, frozen=True):
    """The store went back in time; the actor is written anew from memory.

    Attributes:
        expected: The revision that had been committed.
        found: The revision that is stored; None: no fence at all.
    """

    expected: int
    found: int | None


class ContentQuarantined(ActorEvent, frozen=True):
    """Something stored could not be used; it was copied to quarantine.

    Attributes:
        key: The store's key it was found in.
        reason: What is wrong with it.
        entry: The field of the quarantine's hash that has the copy.
    """

    key: str
    reason: str
    entry: str


class StoreLost(msgspec.Struct, frozen=True):
    """The store can't be reached; what is unsettled is sent until it is.

    Attributes:
        reason: What went wrong.
    """

    reason: str


class SweepFailed(msgspec.Struct, frozen=True):
    """Orphaned channels can't be looked for; told once, until it works again.

    Attributes:
        reason: What went wrong.
    """

    reason: str


class StoreBack(msgspec.Struct, frozen=True):
    """The store answers again."""


class ClockMoved(msgspec.Struct, frozen=True):
    """The host's wall clock was set, or the host slept; open windows were moved along.

    Attributes:
        seconds: By so much.
    """

    seconds: float


class EventsLost(msgspec.Struct, frozen=True):
    """This observer was too slow.

    Attributes:
        count: So many of the oldest events it did not get.
    """

    count: int


class EventStream(AsyncIterator[object]):
    """One observer's events, from the moment it was made; iterate over it, then `close` it.

    Of what was decided before and is committed after it, the events of presses and turns are
    missing: nobody was there for whom to make them.
    """

    def __init__(self, hub: EventHub, most: int) -> None:
        self._hub = hub
        self._events: deque[object] = deque(maxlen=most)
        self._lost = 0
        self._closed = False
        self._ready: anyio.Event | None = None

    def put(self, event: object) -> None:
        """Add an event; the oldest goes when there are too many."""
        if len(self._events) == self._events.maxlen:
            self._lost += 1
        self._events.append(event)
        self._wake()

    def _wake(self) -> None:
        if self._ready is not None:
            self._ready.set()
            self._ready = None

    async def __anext__(self) -> object:
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            if self._ready is None:
                self._ready = anyio.Event()
            await self._ready.wait()
        if self._lost:
            lost, self._lost = self._lost, 0
            return EventsLost(lost)
        return self._events.popleft()

    def close(self) -> None:
        """Get no more events; an iteration ends after those it has."""
        self._closed = True
        self._hub.leave(self)
        self._wake()

    async def __aenter__(self) -> EventStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class EventHub:
    """Hands each event to all observers.

    Args:
        most: So many events an observer may fall behind.
        listener: Is called with each event at once.

    Attributes:
        audience: Whether there are observers.
    """

    def __init__(self, most: int, listener: Callable[[object], None]) -> None:
        self._most = most
        self._listener = listener
        # Weakly: whoever drops its stream without closing it is no observer any more.
        self._streams: WeakSet[EventStream] = WeakSet()
        self.audience = Audience(present=False)

    def __len__(self) -> int:
        return len(self._streams)

    def stream(self) -> EventStream:
        """A new observer's stream."""
        stream = EventStream(self, self._most)
        self._streams.add(stream)
        self.audience.present = True
        return stream

    def leave(self, stream: EventStream) -> None:
        """The observer wants no more."""
        self._streams.discard(stream)

    def publish(self, event: object) -> None:
        """Tell everybody."""
        self._listener(event)
        audience = self.audience
        if audience.present:  # To iterate over a weak set takes a microsecond, also an empty one.
            audience.present = len(self._streams) > 0
            for stream in self._streams:
                stream.put(event)

    def close(self) -> None:
        """End all streams."""
        for stream in tuple(self._streams):
            stream.close()
