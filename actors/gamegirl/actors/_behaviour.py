"""What an actor does: a plain function of state, message and now.

A behaviour never waits and reads no clock, so its decisions are atomic on a single-threaded loop,
can be tested without one and can be simulated. The runtime knows behaviours, decisions, writes and
effects; it knows nothing of what they are about.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar, cast

import attrs
import msgspec

from gamegirl.actors._errors import InvalidInputError
from gamegirl.actors._writes import PutText, Require, Write
from gamegirl.codec import CodecError, Fault, GameGirlError, JsonCodec, encode_json, escape_id

StateT = TypeVar("StateT")

Stored: TypeAlias = "bytes | Mapping[bytes, bytes] | Sequence[bytes] | WrongType | None"
"""What a key holds: a text, a hash, a list, a type that we don't know, or nothing."""


@attrs.frozen
class WrongType:
    """The key holds something that is neither a text nor a hash nor a list."""

    name: str


class Emit(msgspec.Struct, frozen=True, gc=False):
    """Tell the observers, once the decision is committed."""

    event: object


class Perform(msgspec.Struct, frozen=True):
    """Do slow work outside, once the decision is committed: `Behaviour.perform(work)`.

    What it returns comes back to the actor as a message. At most one piece of work a key and actor
    runs at a time: a second one with the same key replaces the first, which is cancelled.

    Attributes:
        key: Names the work, to replace or cancel it.
        work: What `perform` gets.
        delay_seconds: It starts after about so long (less by some jitter).
    """

    key: str
    work: object
    delay_seconds: float = 0.0


class Cancel(msgspec.Struct, frozen=True, gc=False):
    """Cancel the work that runs under this key, if any."""

    key: str


class WakeWaiters(msgspec.Struct, frozen=True, gc=False):
    """Handle the messages that wait for `Later` once more."""


Effect: TypeAlias = "Emit | Perform | Cancel | WakeWaiters"


class Later(msgspec.Struct, frozen=True):
    """A reply that is not ready: `message` is handled again after the next `WakeWaiters`.

    Waiting messages survive restarts of the actor; loss of ownership and failure end them.
    """

    message: object


class Decision(msgspec.Struct):
    """What a behaviour decided about one message.

    Attributes:
        reply: What the caller gets, or `Later`.
        error: What the caller gets instead, if set: a refusal. The state must fit the writes all
            the same (a refusal usually has none).
        writes: What changes in the store; frozen from now on.
        requires: Conditions of the commit. A decision that has any is committed alone.
        effects: What happens outside, once the writes are committed.
        quarantined: What could not be used: it is copied aside with the writes.
    """

    reply: Any = None
    writes: Sequence[Write] = ()
    effects: Sequence[Effect] = ()
    error: GameGirlError | None = None
    requires: Sequence[Require] = ()
    quarantined: Sequence[Quarantined] = ()

    @property
    def quiet(self) -> bool:
        """Whether nothing comes of it but an answer."""
        return not (self.writes or self.effects or self.requires or self.quarantined)


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What `Decision(reply)` is, in less than half the time: nothing comes of it but an answer.

    It doesn't change, so one that is given often may be made once.

    Attributes:
        reply: What the caller gets, or `Later`.

    Example:
        >>> Answer(2).reply, Answer(2).writes
        (2, ())
    """

    reply: Any = None

    writes: ClassVar[Sequence[Write]] = ()
    effects: ClassVar[Sequence[Effect]] = ()
    error: ClassVar[GameGirlError | None] = None
    requires: ClassVar[Sequence[Require]] = ()
    quarantined: ClassVar[Sequence[Quarantined]] = ()
    quiet: ClassVar[bool] = True


Decided: TypeAlias = "Decision | Answer"
"""What a behaviour may decide."""


class Woken(msgspec.Struct, frozen=True, gc=False):
    """The message that the runtime sends when `Behaviour.wake_at` has come."""


@attrs.frozen
class Quarantined:
    r"""Something stored that could not be used: it is copied aside before anything is overwritten.

    Attributes:
        key: The store's key it was found in.
        value: The original bytes. Of a whole hash or list: its JSON, in which bytes that are no
            UTF-8 are half surrogate pairs (the byte 0xff is `\udcff`), so that nothing is lost.
        reason: What was wrong with it.
        type: "string", "hash" or "list": `value` is all that the key held, and can be put back.
            "part": it is a piece of that. Another type's name: nothing of it could be copied.
    """

    key: str
    value: bytes
    reason: str
    type: str = "part"

    @classmethod
    def whole(cls, key: str, stored: Stored | str, reason: str) -> Quarantined:
        r"""All that a key holds.

        Example:
            >>> Quarantined.whole("k", {b"name": b"\xff"}, "is no UTF-8").value
            b'{"name":"\\udcff"}'
        """
        held: Any = stored
        if held is None or isinstance(held, WrongType):
            name = "none" if held is None else held.name
            return cls(key, name.encode(), reason, name)
        if isinstance(held, str):
            return cls(key, held.encode("utf-8", "surrogatepass"), reason, "string")
        if isinstance(held, bytes):
            return cls(key, held, reason, "string")
        if isinstance(held, Mapping):
            fields = cast("Mapping[bytes | str, bytes | str]", held)
            plain = {_text(name): _text(value) for name, value in fields.items()}
            return cls(key, _json(plain), reason, "hash")
        return cls(key, _json([_text(item) for item in held]), reason, "list")


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")


def _json(plain: object) -> bytes:
    try:
        return encode_json(plain)
    except CodecError:  # There are half surrogate pairs in it, which only escapes can say.
        return json.dumps(plain, separators=(",", ":")).encode()


class Restored(msgspec.Struct, Generic[StateT]):
    """What a behaviour made of the stored keys.

    Attributes:
        state: The actor's state from now on.
        source: Which form it came from, for events and logs ("new", "json", "hash" …).
        decision: Writes and effects of the restoring itself (its reply is ignored).
        quarantined: What could not be used.
    """

    state: StateT
    source: str = "new"
    decision: Decision = msgspec.field(default_factory=Decision)
    quarantined: Sequence[Quarantined] = ()


class NeedsMore(msgspec.Struct, frozen=True):
    """`restore` can't tell without these keys.

    Attributes:
        keys: What to read.
        then: Goes on with what they hold, in this order; it is called once at the most. None:
            `restore` is called again, with their values after those that it got before.
    """

    keys: Sequence[str]
    then: Callable[[Sequence[Stored]], Restored[Any]] | None = None


class Prefetch(msgspec.Struct, frozen=True, gc=False):
    """A further key, a small hash, that `restore` nearly always wants: read along with the others.

    Its name is `prefix` and what a field of one of the actor's keys says. It is a guess that saves
    asking: a `restore` that can't do without the key says `NeedsMore` where this gave None. Nobody
    owns that key by this: whoever does may change it a moment later, so what you write because of
    it needs a `Require`.

    Attributes:
        place: The actor's key that says it, a hash, by its place in `Behaviour.keys`.
        field: The field there.
        prefix: What the name of the further key, a hash, begins with.
        fields_max: With more fields than that it isn't read.

    Raises:
        InvalidInputError: There is no such place, field or number.

    Example:
        >>> Prefetch(0, "game", "gg:game:", fields_max=2).prefix
        'gg:game:'
    """

    place: int
    field: str
    prefix: str
    fields_max: int

    def __post_init__(self) -> None:
        given: Any = self  # From whoever doesn't check types.
        if (
            type(given.place) is not int
            or given.place < 0
            or not isinstance(given.field, str)
            or not isinstance(given.prefix, str)
            or type(given.fields_max) is not int
            or given.fields_max < 1
        ):
            raise InvalidInputError(
                "a Prefetch has a place from 0, a field, a prefix and a number of fields from 1, "
                f"not {self!r:.200}"
            )


class Behaviour(ABC, Generic[StateT]):
    """A kind of actor.

    The simplest one has a state class with an `actor_id`, says its `kind` and `codec`, and answers
    `initial` and `handle`; its state is then stored as one JSON text and `stored(state)` makes the
    write for it. Others override what they need.

    Example:
        >>> @attrs.define
        ... class Count:
        ...     actor_id: str
        ...     total: int = 0
        >>> class Counter(Behaviour[Count]):
        ...     kind = "counter"
        ...     codec = JsonCodec(Count)
        ...     def initial(self, actor_id): return Count(actor_id)
        ...     def handle(self, state, message, now):
        ...         state.total += message
        ...         return Decision(state.total, writes=self.stored(state))
        >>> Counter().handle(Count("a"), 2, now=0.0).reply
        2
    """

    kind: str
    codec: JsonCodec[StateT]
    prefetch: Prefetch | None = None
    """What else a claim reads: `restore`, which is yours then, gets it or None after the keys."""

    @abstractmethod
    def handle(self, state: StateT, message: Any, now: float) -> Decided:
        """Decide about one message; an `Answer` will do if nothing is to be written or done.

        Args:
            state: The actor's own; change it in place. If this raises, it is thrown away.
            message: What was asked or told, or `Woken`.
            now: When the message was enqueued, in epoch seconds.
        """

    def initial(self, actor_id: str) -> StateT:
        """The state of an actor of which nothing is stored."""
        raise TypeError(f"{type(self).__name__} must define initial() or restore()")

    def keys(self, actor_id: str) -> Sequence[str]:
        """The store's keys that make up an actor; `restore` gets what they hold, in this order."""
        return (f"gg:actor:{self.kind}:{escape_id(actor_id)}",)

    def restore(
        self, actor_id: str, stored: Sequence[Stored], now: float
    ) -> Restored[StateT] | NeedsMore:
        """Make the state from what is stored, or say what else must be read for it.

        Raises:
            CodecError: It can't be used: the actor is quarantined.
        """
        (text,) = stored
        if text is None:
            return Restored(self.initial(actor_id))
        if not isinstance(text, bytes):
            what = f"{self.keys(actor_id)[0]} holds something else than a text"
            raise CodecError(self.kind, (Fault("", what),))
        return Restored(self.codec.decode(text), source="json")

    def stored(self, state: StateT) -> Sequence[Write]:
        """The full form: writes that store the whole state, whatever the store holds now."""
        actor_id: str = cast(Any, state).actor_id
        return (PutText(self.keys(actor_id)[0], self.codec.encode(state)),)

    def wake_at(self, state: StateT) -> float | None:
        """When the actor wants a `Woken` message, in epoch seconds; None: not at all."""
        return None

    def due_at(self, state: StateT) -> float | None:
        """From when on some process must host the actor although nobody speaks to it."""
        return self.wake_at(state)

    def alarms(self, state: StateT) -> tuple[float | None, float | None]:
        """`wake_at` and `due_at`, asked for together after each message."""
        return self.wake_at(state), self.due_at(state)

    def may_release(self, state: StateT) -> bool:
        """Whether an idle actor may leave memory (it is restored by the next message)."""
        return self.due_at(state) is None

    def sender(self, message: Any) -> str | None:
        """Whose share of the mailbox the message takes; None: nobody's."""
        return None

    def passes_capacity(self, message: Any) -> bool:
        """Whether the message is enqueued though the mailbox is full (it relieves the actor)."""
        return False

    def repeats(self, state: StateT, message: Any) -> bool:
        """Whether the message only asks again for what was done before, and changes nothing."""
        return False

    def shifted(self, state: StateT, seconds: float) -> Sequence[Write]:
        """The host's clock was set: move the deadlines of `state` by so many seconds."""
        return ()

    async def perform(self, work: Any) -> object | None:
        """Do the slow work of a `Perform`; what it returns, if not None, is sent to the actor."""
        raise TypeError(f"{type(self).__name__} has effects to perform but no perform()")

    def failed(self, work: Any, error: Exception) -> object | None:
        """What is sent to the actor when `perform` raised; None: it crashes, and restarts.

        Args:
            work: What was to be done.
            error: What it raised; of a cancellation that nobody asked for, a `RuntimeError`.
        """
        return None
