"""A store in a dict, and channels that play on it without a loop or a clock.

Every decision is applied to the store at once, as a commit would, and then the channel is restored
from the store into a second state, which must equal the first: so each test of a rule also tests
what that rule writes.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, cast

from gamegirl.actors import (
    AppendList,
    Decided,
    Decision,
    Drop,
    Emit,
    NeedsMore,
    PatchHash,
    PutHash,
    PutList,
    PutText,
    Quarantined,
    Restored,
    SessionBehaviour,
    SessionRules,
    SessionState,
    Woken,
    Write,
)
from gamegirl.actors.session import _messages as m
from gamegirl.actors.session._games import entry_channel
from gamegirl.actors.session._keys import CHANNEL_GAME, INDEX_KEY, channel_keys, game_key

Held = bytes | dict[bytes, bytes] | list[bytes]
GAME = "aaaaaaaaaaaa"
OTHER = "bbbbbbbbbbbb"


def as_bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


class Store(dict[str, Held]):
    """Keys of three types, as Redis has them."""

    def commit(self, decision: Decided) -> None:
        """Apply all writes, or raise what a condition says."""
        for require in decision.requires:
            held = self.hash(require.key).get(require.field.encode())
            if held != (None if require.value is None else require.value.encode()):
                raise require.error
        for write in decision.writes:
            self.write(write)

    def write(self, write: Write) -> None:
        match write:
            case PutText(key, text):
                self[key] = as_bytes(text)
            case PutHash(key, fields):
                self[key] = encoded(fields)
            case PatchHash(key, fields, remove):
                held = self.hash(key) | encoded(fields)
                for name in remove:
                    held.pop(name.encode(), None)
                self[key] = held
            case PutList(key, items):
                self[key] = [as_bytes(item) for item in items]
            case AppendList(key, items, keep):
                self[key] = [*self.list(key), *(as_bytes(item) for item in items)][-keep:]
            case Drop(key):
                self.pop(key, None)
        if write.key in self and not self[write.key]:
            del self[write.key]

    def hash(self, key: str) -> dict[bytes, bytes]:
        held = self.get(key, {})
        assert isinstance(held, dict)
        return held

    def list(self, key: str) -> list[bytes]:
        held = self.get(key, [])
        assert isinstance(held, list)
        return held

    def text(self, key: str) -> bytes:
        held = self[key]
        assert isinstance(held, bytes)
        return held

    def field(self, key: str, name: str) -> str | None:
        value = self.hash(key).get(name.encode())
        return None if value is None else value.decode()


def encoded(fields: Mapping[str, str | bytes]) -> dict[bytes, bytes]:
    return {name.encode(): as_bytes(value) for name, value in fields.items()}


class World:
    """A store and the channels on it."""

    def __init__(self, on_turn: Any = None, **rules: Any) -> None:
        self.store = Store()
        self.rules = SessionRules(**rules)
        self.behaviour = SessionBehaviour(self.rules, on_turn)
        self.now = 1_000.0
        self._ids = count(1)
        self._channels: dict[str, Channel] = {}

    def __getitem__(self, channel_id: str) -> Channel:
        if channel_id not in self._channels:
            self._channels[channel_id] = Channel(self, channel_id)
        return self._channels[channel_id]

    def new_id(self) -> str:
        return f"{next(self._ids):012x}"

    def found(self, game_id: str) -> m.Load:
        """The message that a reference sends to load a game."""
        entry: Any = self.store.hash(INDEX_KEY).get(game_id.encode())
        game = self.store.get(game_key(game_id))
        where = entry_channel(entry) if game is None and entry is not None else None
        keys = () if where is None else channel_keys(where)
        channel = tuple(self.store.get(key) for key in keys)
        return m.Load(game_id, self.new_id(), game, entry, where, channel)


class Channel:
    """A channel's actor, restored from the store when it is first used."""

    def __init__(self, world: World, channel_id: str) -> None:
        self.world = world
        self.channel_id = channel_id
        self.events: list[Any] = []
        self.quarantined: list[Quarantined] = []
        self.source = ""
        self.decision: Decided = Decision()
        self._state: SessionState | None = None

    @property
    def state(self) -> SessionState:
        if self._state is None:
            self.restart()
        assert self._state is not None
        return self._state

    def restart(self, now: float | None = None) -> SessionState:
        """Throw the state away and load it anew."""
        self.world.now = self.world.now if now is None else now
        restored = self.read(self.world.store)
        self.world.store.commit(restored.decision)
        self.quarantined += restored.quarantined
        self.source = restored.source
        self.decision = restored.decision
        self._state = restored.state
        return restored.state

    def read(self, store: Store) -> Restored[SessionState]:
        """What a restore makes of a store."""
        behaviour, now = self.world.behaviour, self.world.now
        keys = list(behaviour.keys(self.channel_id))
        stored: list[Any] = [copy.deepcopy(store.get(key)) for key in keys]
        restored = behaviour.restore(self.channel_id, stored, now)
        if isinstance(restored, NeedsMore):
            assert restored.then is not None
            restored = restored.then([store.get(key) for key in restored.keys])
        assert isinstance(restored, Restored)
        at_once = behaviour.restore(self.channel_id, [*stored, prefetched(store, stored)], now)
        if isinstance(at_once, NeedsMore):
            assert at_once.then is not None
            at_once = at_once.then([store.get(key) for key in at_once.keys])
        # What was read along saves asking, and changes nothing.
        assert at_once.source == restored.source
        assert whole(at_once.state) == whole(restored.state)
        assert list(at_once.decision.writes) == list(restored.decision.writes)
        assert list(at_once.quarantined) == list(restored.quarantined)
        return restored

    def send(self, message: object, now: float | None = None) -> Decided:
        """Handle a message, commit it and compare with what a restore would give."""
        state = self.state
        self.world.now = self.world.now + 1 if now is None else now
        decision = self.world.behaviour.handle(state, message, self.world.now)
        try:
            self.world.store.commit(decision)
        except Exception:
            self._state = None
            raise
        self.decision = decision
        self.events += [effect.event for effect in decision.effects if isinstance(effect, Emit)]
        self.compare()
        return decision

    def compare(self) -> None:
        """What is stored must give the state that is in memory."""
        if not self.state.quarantine:
            restored = self.read(self.world.store)
            assert whole(restored.state) == whole(self.state)
            # What is counted while presses come may be a little more, and never less.
            assert restored.state.choices_bytes <= self.state.choices_bytes or not self.state.active
            assert not restored.quarantined
            if self.state.active and self.state.listed >= 0:
                entry = self.world.store.hash(INDEX_KEY)[self.state.game_id.encode()]
                assert json.loads(entry)["turn_number"] == self.state.turn_number

    def ask(self, message: object, now: float | None = None) -> Any:
        decision = self.send(message, now)
        if decision.error is not None:
            raise decision.error
        return decision.reply

    def boot(self, game_id: str = GAME, name: str = "The Loop", url: str = "") -> Any:
        return self.ask(m.Boot(name, url, game_id, self.world.new_id()))

    def press(
        self, user_id: str, choice: str = "run", now: float | None = None, **more: Any
    ) -> Any:
        return self.ask(m.Press(user_id, user_id.title(), choice, **more), now)

    def join(self, user_id: str, now: float | None = None) -> Any:
        return self.ask(m.Join(user_id, user_id.title()), now)

    def close(self, now: float | None = None) -> Any:
        return self.ask(m.CloseWindow(), now)

    def wake(self, now: float | None = None) -> None:
        """Send the wake-up that the state asks for."""
        wake_at = self.world.behaviour.wake_at(self.state)
        assert now is not None or wake_at is not None
        self.ask(Woken(), wake_at if now is None else now)

    def record(self, turn: int, narrative: str = "And so.", game_id: str | None = None) -> Any:
        return self.ask(m.Record(turn, game_id, narrative))

    def history(self, number: int = 50) -> Any:
        return self.ask(m.ReadHistory(number))

    def exit(self) -> Any:
        return self.ask(m.Exit(self.world.new_id()))

    def load(self, game_id: str = GAME) -> Any:
        return self.ask(self.world.found(game_id))

    def swap(self, game_id: str = OTHER, name: str = "Neon") -> Any:
        return self.ask(m.Swap(name, "", game_id, self.world.new_id()))

    def snapshot(self) -> Any:
        return self.ask(m.ReadState())


def prefetched(store: Store, stored: Sequence[Any]) -> Any:
    """What a store reads along with a channel's keys."""
    fields = stored[CHANNEL_GAME.place]
    if not isinstance(fields, dict):
        return None
    held: Mapping[bytes, bytes] = cast("Any", fields)
    name = held.get(CHANNEL_GAME.field.encode())
    if name is None:
        return None
    game = store.get(CHANNEL_GAME.prefix + name.decode(errors="replace"))
    return game if isinstance(game, dict) and len(game) <= CHANNEL_GAME.fields_max else None


def whole(state: SessionState) -> dict[str, Any]:
    """All of a state that a restart must not lose."""
    return {
        "session": state.snapshot(),
        "roster": list(state.players),
        "pending": list(state.choices.items())
        and [(user_id, choice.sequence, choice.text) for user_id, choice in state.choices.items()]
        if state.active
        else list(state.pending().items()),
        "answers": state.answers,
        "turns": {turn: (kept.turn, kept.answers) for turn, kept in state.turns.items()},
        "recorded": list(state.recorded.items()),
        "answered": state.answered,
        "journal": state.journal,
        "joins": state.joins,
        "records": state.records,
        "saved": state.saved,
    }


def reasons(quarantined: Sequence[Quarantined]) -> list[str]:
    return [one.reason for one in quarantined]
