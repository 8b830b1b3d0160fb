"""What one message has changed, gathered until its handler returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gamegirl.actors._behaviour import Answer, Decided, Decision, Effect, Emit, Quarantined
from gamegirl.actors._errors import GameActiveError
from gamegirl.actors._writes import Drop, PatchHash, Require, Value, Write
from gamegirl.actors.session._data import ClosedTurn
from gamegirl.actors.session._keys import game_key, journal_key, turns_key
from gamegirl.actors.session._rules import SessionRules
from gamegirl.actors.session._state import SessionState
from gamegirl.actors.session._writing import full_forms
from gamegirl.codec import GameGirlError


class Changes(msgspec.Struct, eq=False, gc=False):
    """Writes, conditions and effects of one message, in order.

    Attributes:
        observed: Whether somebody looks at the events of each press and turn. Nobody mostly does:
            then they aren't made.
        forms: The full forms are written at the end, once, however many rules asked for them.
        relisted: The listing's entry is written also if its turn number is there already.
        turns: Closed turns to write, in one patch.
        turns_gone: Closed turns to remove.
        closed: The turn whose window was overdue when the message came.
    """

    state: SessionState
    rules: SessionRules
    now: float
    observed: bool = True
    writes: list[Write] = []
    requires: Sequence[Require] = ()
    effects: list[Effect] | tuple[()] = ()
    quarantined: Sequence[Quarantined] = ()
    closed: ClosedTurn | None = None
    forms: bool = False
    relisted: bool = True
    turns: dict[str, Value] = {}
    turns_gone: Sequence[str] = ()

    def write(self, *writes: Write) -> None:
        """Put writes after those that are there."""
        self.writes += writes

    def journal(self, fields: dict[str, Value]) -> None:
        """Put fields into the journal."""
        self.writes.append(PatchHash(self.state.journal_key or self._journal_key(), fields))

    def clear_journal(self) -> None:
        """Empty the journal, if there is anything in it."""
        state = self.state
        if state.journal:
            self.writes.append(Drop(state.journal_key or self._journal_key()))
            state.journal = 0
        if state.joins:
            state.joins.clear()

    def _journal_key(self) -> str:
        key = self.state.journal_key = journal_key(self.state.channel_id)
        return key

    def full(self, *, relisted: bool = True) -> None:
        """Write the full forms; without an open window they hold all that the journal does."""
        self.relisted = relisted or (self.forms and self.relisted)
        self.forms = True
        if self.state.window is None:
            self.clear_journal()

    def emit(self, event: object) -> None:
        """Tell the observers."""
        self.effect(Emit(event))

    def effect(self, effect: Effect) -> None:
        """Have something done outside."""
        effects = self.effects
        if isinstance(effects, tuple):
            self.effects = [effect]
        else:
            effects.append(effect)

    def require_holder(self, game_id: str, holder: str | None, message: str) -> None:
        """Commit only if the game is held as we think, else refuse with `GameActiveError`."""
        error = GameActiveError(message)
        self.requires = (*self.requires, Require(game_key(game_id), "holder", holder, error))

    def size(self) -> int:
        """How much has been gathered, to see whether anything was added."""
        return len(self.writes) + len(self.requires) + len(self.turns) + self.forms

    def decision(self, reply: Any = None, error: GameGirlError | None = None) -> Decided:
        """All of it."""
        writes = self.writes
        if self.turns or self.turns_gone:
            key = turns_key(self.state.channel_id)
            writes.append(PatchHash(key, self.turns, tuple(self.turns_gone)))
        if self.forms:
            writes += full_forms(self.state, self.rules, relisted=self.relisted)
        if not (writes or self.effects or self.requires or self.quarantined) and error is None:
            return Answer(reply)  # As of all that only read.
        # Tuples: the garbage collector lets go of one that holds nothing that it must walk through.
        return Decision(
            reply, tuple(writes), tuple(self.effects), error, self.requires, self.quarantined
        )
