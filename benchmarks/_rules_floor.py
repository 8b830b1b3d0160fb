"""The second floor of W3: the rules decide and their commits are spelled, but there are no actors.

The callers are W3's own, and commits go through the store, in portions as on the first floor.
Nothing is checked that callers pass, and nothing has an order, a mailbox, a gate, a timer, a watch
or a second try.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import time
from typing import Any

import anyio
import attrs

from benchmarks._booting import GAME_NAME, game_id
from benchmarks._portions import Portions
from benchmarks._presses import CHANNEL_NAMES, CHANNELS, CHOICE, USERS
from benchmarks._turns import NARRATIVE, Play
from gamegirl.actors import ClosedTurn
from gamegirl.actors.session import SessionBehaviour
from gamegirl.actors.session import _messages as messages
from gamegirl.actors.session._events import Audience
from gamegirl.actors.session._state import SessionState
from gamegirl.supervisor import RedisStore, Settings
from gamegirl.supervisor._signal import Awaited
from gamegirl.supervisor.stores import (
    KEEP_DUE,
    ActorKey,
    Claim,
    Claimed,
    Commit,
    Done,
    Process,
)

_LEASE_SECONDS = 3600.0
_SECONDS = 60.0
"""Without a byte from the server: never, in a benchmark."""


@attrs.define
class _Game:
    """A channel's game, and what its commits are made of."""

    key: ActorKey
    owner: str
    state: SessionState
    behaviour: SessionBehaviour
    revision: int = 0
    due: float | None = None

    def act(self, message: object, portions: Portions[Commit]) -> tuple[Any, Awaited]:
        """The answer to a message, and what is set when it may be given."""
        answer, commit = self.decide(message)
        return answer, portions.add(commit)

    def decide(self, message: object) -> tuple[Any, Commit]:
        """The answer to a message, and the commit that it waits for."""
        decision = self.behaviour.handle(self.state, message, time())
        if decision.error is not None:
            raise decision.error
        self.revision += 1
        _, due = self.behaviour.alarms(self.state)
        told = KEEP_DUE if due == self.due else due
        self.due = due
        return decision.reply, Commit(
            self.key,
            self.owner,
            self.revision,
            f"{self.key.actor_id}.{self.revision}",
            decision.writes,
            decision.requires,
            told,
        )


@asynccontextmanager
async def deciding(url: str) -> AsyncGenerator[Play, None]:
    """Games in all channels, in which callers can play."""
    store = RedisStore(url, timeout_seconds=_SECONDS)
    await store.open(Process("floor", ""), _LEASE_SECONDS)
    try:
        rules = Settings(window_seconds=_LEASE_SECONDS)
        nobody = Audience(present=False)  # As in W3, where nobody looks at events.
        games = await _booted(store, SessionBehaviour(rules, audience=nobody))
        async with anyio.create_task_group() as tasks:
            portions = Portions(partial(_make, store), tasks.start_soon)

            async def act(channel: int, message: object) -> Any:
                answer, signal = games[channel].act(message, portions)
                del message  # As the runtime does: while this waits thousands of others may.
                await signal
                return answer

            def press(channel: int, player: int) -> Coroutine[Any, Any, object]:
                user_id, user_name = USERS[player]
                return act(channel, messages.Press(user_id, user_name, CHOICE))

            def close(channel: int) -> Coroutine[Any, Any, ClosedTurn | None]:
                return act(channel, messages.CloseWindow())

            def record(channel: int, turn: ClosedTurn) -> Coroutine[Any, Any, object]:
                return act(channel, messages.Record(turn.turn, turn.game_id, NARRATIVE))

            yield Play(press, close, record)
    finally:
        await store.aclose()


async def _booted(store: RedisStore, behaviour: SessionBehaviour) -> list[_Game]:
    keys = [ActorKey(behaviour.kind, name) for name in CHANNEL_NAMES]
    claims = [Claim(key, behaviour.keys(key.actor_id), key.actor_id) for key in keys]
    games: list[_Game] = []
    for key, claimed in zip(keys, await store.claim(claims), strict=True):
        if not isinstance(claimed, Claimed):
            raise ValueError(f"{key} was not claimed: {claimed}")
        games.append(_Game(key, claimed.owner, behaviour.initial(key.actor_id), behaviour))
    boots = [messages.Boot(GAME_NAME, "", game_id(channel), "") for channel in range(CHANNELS)]
    await _make(store, [game.decide(boot)[1] for game, boot in zip(games, boots, strict=True)])
    for user_id, user_name in USERS:
        join = messages.Join(user_id, user_name)
        await _make(store, [game.decide(join)[1] for game in games])
    return games


async def _make(store: RedisStore, commits: Sequence[Commit]) -> None:
    outcomes = await store.commit(commits)
    if not all(isinstance(outcome, Done) for outcome in outcomes):
        raise ValueError(f"commits were not made: {outcomes!r:.200}")
