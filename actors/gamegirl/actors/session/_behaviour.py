"""The session as a behaviour: which rule answers which message, and what the runtime asks."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from gamegirl.actors._behaviour import (
    Behaviour,
    Decided,
    Decision,
    NeedsMore,
    Restored,
    Stored,
    Woken,
)
from gamegirl.actors._errors import InvalidInputError, SessionQuarantinedError
from gamegirl.actors._writes import PatchHash, Write
from gamegirl.actors.session import _games as games
from gamegirl.actors.session import _messages as messages
from gamegirl.actors.session import _people as people
from gamegirl.actors.session import _records as records
from gamegirl.actors.session import _turns as turns
from gamegirl.actors.session._changes import Changes
from gamegirl.actors.session._data import ClosedTurn, Session
from gamegirl.actors.session._events import Audience
from gamegirl.actors.session._journal import window_field
from gamegirl.actors.session._keys import CHANNEL_GAME, channel_keys, journal_key
from gamegirl.actors.session._parts import printable
from gamegirl.actors.session._restore import restore
from gamegirl.actors.session._rules import SessionRules
from gamegirl.actors.session._saves import everything
from gamegirl.actors.session._state import OpenWindow, SessionState
from gamegirl.codec import CodecError, GameGirlError, plain_text

OnTurn: TypeAlias = Callable[[ClosedTurn, Session], Awaitable[str | None]]
"""What narrates a closed turn: its text, or None if the host records the turn itself."""


class SessionBehaviour(Behaviour[SessionState]):
    """The rules of a channel's game.

    Args:
        rules: Their numbers and texts.
        on_turn: Gets every closed turn, one at a time; None: the host asks for them.
        audience: Who the events are for; None: somebody.
    """

    kind = "session"
    prefetch = CHANNEL_GAME

    def __init__(
        self,
        rules: SessionRules | None = None,
        on_turn: OnTurn | None = None,
        audience: Audience | None = None,
    ) -> None:
        self.rules = rules or SessionRules()
        self._on_turn = on_turn
        self._audience = audience or Audience()

    def initial(self, actor_id: str) -> SessionState:
        """A channel that never had a game."""
        return SessionState(actor_id)

    def keys(self, actor_id: str) -> Sequence[str]:
        """The replaced system's three keys and ours."""
        return channel_keys(actor_id)

    def restore(
        self, actor_id: str, stored: Sequence[Stored], now: float
    ) -> Restored[SessionState] | NeedsMore:
        """Make the state from what is stored; never raises: see `SessionState.quarantine`."""
        restored = restore(actor_id, stored, now, self.rules)
        if self._on_turn is None:
            return restored
        if isinstance(restored, Restored):
            return self._handed_out(restored, now)
        then = restored.then
        assert then is not None
        return NeedsMore(restored.keys, lambda more: self._handed_out(then(more), now))

    def _handed_out(self, restored: Restored[SessionState], now: float) -> Restored[SessionState]:
        changes = Changes(restored.state, self.rules, now)
        records.hand_out(changes)
        handed = changes.decision()
        decision = restored.decision
        decision.writes = [*decision.writes, *handed.writes]
        decision.effects = [*decision.effects, *handed.effects]
        return restored

    def stored(self, state: SessionState) -> Sequence[Write]:
        """Writes of all there is, for a store that has lost what it had.

        A game that has left is only written as the channel's last one: whether another channel has
        its save by now can't be told from here. Where the store has lost the exit itself, the next
        restore saves the game anew, and `load` finds it here; what was waiting for a narrative at
        the exit is lost, and so is the game if another one is booted here before that.
        """
        return () if state.quarantine else everything(state, self.rules)

    def handle(self, state: SessionState, message: Any, now: float) -> Decided:
        """Decide about one message; an overdue window is closed before it."""
        if state.quarantine and not isinstance(message, messages.Wipe):
            return Decision(
                error=SessionQuarantinedError(
                    f"channel {state.channel_id!r} can't be used, and nothing stored is touched: "
                    f"{state.quarantine}. Repair that key, or wipe the channel"
                )
            )
        changes = Changes(state, self.rules, now, self._audience.present)
        window = state.window
        before = 0
        if window is not None and now > window.deadline:
            turns.close_due(changes)
            before = changes.size()
        reply: Any = None
        refusal: GameGirlError | None = None
        delay = 0.0
        try:
            rule = _RULES.get(type(message))
            if rule is not None:
                reply = rule(changes, message)
            elif isinstance(message, messages.TurnFailed):
                delay = records.failed(changes, message)
            elif isinstance(message, messages.TurnNarrated):
                delay = records.narrated(changes, message)
            elif not isinstance(message, Woken):
                raise InvalidInputError(
                    f"a session takes no {type(message).__qualname__} (channel "
                    f"{state.channel_id!r}): use the operations of supervisor.session(channel_id)"
                )
        except GameGirlError as error:
            # No rule says so of what it was given: what it can't encode comes from elsewhere.
            if changes.size() != before or isinstance(error, CodecError):
                raise RuntimeError("a rule refused after it had changed something") from error
            refusal = error
        if self._on_turn is not None:
            records.hand_out(changes, delay)
        return changes.decision(reply, refusal)

    def wake_at(self, state: SessionState) -> float | None:
        """The first moment at which a press no longer counts in the open window."""
        return None if state.window is None else math.nextafter(state.window.deadline, math.inf)

    def due_at(self, state: SessionState) -> float | None:
        """When the window closes, or since when a turn has waited for its narrative."""
        window = state.window
        if window is not None:
            return math.nextafter(window.deadline, math.inf)
        if state.active:
            for kept in state.turns.values():
                return kept.turn.closed_at
        return None

    def alarms(self, state: SessionState) -> tuple[float | None, float | None]:
        """With an open window both are the same."""
        window = state.window
        if window is None:
            return None, self.due_at(state)
        moment = math.nextafter(window.deadline, math.inf)
        return moment, moment

    def passes_capacity(self, message: Any) -> bool:
        """Closing a window relieves a full mailbox."""
        return isinstance(message, messages.CloseWindow)

    def sender(self, message: Any) -> str | None:
        """The player who presses or joins."""
        return message.user_id if type(message) in _PLAYERS else None

    def repeats(self, state: SessionState, message: Any) -> bool:
        """Whether it is a press that was answered before."""
        return (
            isinstance(message, messages.Press)
            and message.press_id is not None
            and state.answer(message.user_id, message.press_id) is not None
        )

    def shifted(self, state: SessionState, seconds: float) -> Sequence[Write]:
        """Move the open window along with the host's clock."""
        if state.window is None:
            return ()
        window = state.window
        # Not before the epoch, where no stored moment lies: a clock may be set to its beginning.
        state.window = OpenWindow(
            max(window.opened_at + seconds, 0.0), max(window.deadline + seconds, 0.0)
        )
        field, value = window_field(state, state.window)
        return (PatchHash(journal_key(state.channel_id), {field: value}),)

    async def perform(self, work: Any) -> object | None:
        """Have a turn narrated; the answer tells how that went."""
        turn: ClosedTurn = work.turn
        if self._on_turn is None:
            return None
        try:
            narrative: Any = await self._on_turn(turn, work.session)
        except Exception as error:  # noqa: BLE001 - it comes back as a message
            return self.failed(work, error)
        if narrative is not None and not isinstance(narrative, str):
            reason = f"on_turn returned {type(narrative).__name__}, expected a text or None"
            return messages.TurnFailed(turn.token, turn.attempt, reason)
        if narrative is not None and printable(narrative) != narrative:
            reason = "on_turn returned a text with half a surrogate pair in it: it can't be stored"
            return messages.TurnFailed(turn.token, turn.attempt, reason)
        text = None if narrative is None else plain_text(narrative)
        return messages.TurnNarrated(turn.token, turn.attempt, text)

    def failed(self, work: Any, error: Exception) -> object | None:
        """A narrator that raises, or whose own client was cancelled, is asked again later."""
        turn: ClosedTurn = work.turn
        reason = printable(f"{type(error).__name__}: {error}")
        return messages.TurnFailed(turn.token, turn.attempt, reason)


def _snapshot(changes: Changes, message: messages.ReadState) -> Session:
    return changes.state.snapshot()


def _active(changes: Changes, message: messages.ReadActive) -> bool:
    return changes.state.active


_PLAYERS = frozenset[Any]((messages.Press, messages.Join))

_RULES: dict[Any, Callable[[Changes, Any], Any]] = {
    messages.Boot: games.boot,
    messages.Exit: games.exit_game,
    messages.Swap: games.swap,
    messages.Load: games.load,
    messages.Wipe: games.wipe,
    messages.Join: turns.join,
    messages.Press: turns.press,
    messages.NextTurn: turns.next_turn,
    messages.CloseWindow: turns.close_window,
    messages.Record: records.record,
    messages.Narrate: records.narrate,
    messages.ReadHistory: records.history,
    messages.ReadRoster: people.roster,
    messages.SetCrown: people.set_crown,
    messages.ReadCrown: people.crown,
    messages.SetTitleScreen: people.set_title_screen,
    messages.Save: people.save,
    messages.ReadState: _snapshot,
    messages.ReadActive: _active,
}
