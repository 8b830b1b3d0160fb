"""A damaged channel, and what is wrong with what the runtime made of it.

Refused: nothing of it may have changed, each refusal names the key, and quarantine has a copy of
what it holds. Served: what could not be used, the whole key or a piece of it, is in quarantine byte
for byte, and everything that could be used was restored.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import attrs

from gamegirl.chaos._workers import CallFailed
from gamegirl.chaos.scenarios._faults import faults_of
from gamegirl.chaos.scenarios._fuzz import Held, loaded

CHANNEL = ("json", "history", "hash", "journal", "turns", "meta")
"""The keys of a channel, in the order of `channel_keys`."""

Aside: TypeAlias = "dict[str, list[dict[str, Any]]]"
"""What is in quarantine, by key: entries, with their bytes."""


@attrs.define
class Victim:
    """A channel of whose stored game one key is damaged.

    Attributes:
        place: Which key that is.
        keys: Where everything of it is.
        old: Only the replaced system's keys are there.
        live: The damage comes under the owner's hands.
        truth: The state before.
        history: The records before.
        kind: The sort of damage.
        before: What all keys held once it was damaged.
        answers: What its calls were answered, in order: the operation, the answer or error.
    """

    channel: str
    game_id: str
    place: str
    old: bool
    live: bool
    keys: dict[str, str]
    truth: dict[str, Any] = attrs.Factory(dict[str, Any])
    history: list[Any] = attrs.Factory(list[Any])
    kind: str = ""
    before: dict[str, Held] = attrs.Factory(dict[str, "Held"])
    answers: list[tuple[str, Any]] = attrs.Factory(list["tuple[str, Any]"])

    @property
    def key(self) -> str:
        """The damaged key."""
        return self.keys[self.place]

    @property
    def refused(self) -> bool:
        """Whether a call was refused because of damage."""
        return any(
            isinstance(answer, CallFailed) and answer.kind == "SessionQuarantinedError"
            for _, answer in self.answers
        )

    @property
    def told(self) -> str:
        """The channel and its damage, for people."""
        old = "old data, " if self.old else ""
        return f"{self.channel} ({old}{self.place}: {self.kind})"


def judge_refused(victim: Victim, after: dict[str, Held], aside: Aside) -> list[str]:
    """What is wrong with a channel that was refused."""
    found: list[str] = []
    for operation, answer in victim.answers:
        if not isinstance(answer, CallFailed):
            if victim.place != "save":  # The channel itself is fine: only the load is refused.
                found.append(f"{operation} was served, others were refused")
        elif answer.kind == "SessionQuarantinedError":
            if victim.key not in answer.text:
                found.append(f"{operation} doesn't say which key: {answer.text}")
        elif victim.place != "save":
            found.append(f"{operation} raised {answer}")
    kept = ("game",) if victim.place == "save" else (*CHANNEL, "game")
    found += [
        f"{victim.keys[place]} was changed"
        for place in kept
        if after[place] != victim.before[place]
    ]
    if victim.place == "fence":
        # Nothing can be written under it, not even a copy: it stays where it is, and is named.
        if after["fence"] != victim.before["fence"]:
            found.append("the fence was changed")
    elif not listed(aside, victim.key, victim.before[victim.place]):
        found.append("quarantine doesn't list it")
    return found


def judge_served(victim: Victim, aside: Aside) -> list[str]:
    """What is wrong with a channel that was served."""
    found: list[str] = []
    place = victim.place
    first = victim.answers[0][1] if victim.answers else None
    active = True
    for operation, answer in victim.answers:
        if isinstance(answer, CallFailed):
            if answer.kind == "NoActiveGameError" and not active:
                continue
            found.append(f"{operation} raised {answer}")
        elif operation == "state":
            active = answer["active"]
        elif operation == "exit":
            active = False
    if place in ("index", "fence", "due", "aside"):
        return found + _same(victim, first, aside)
    held = victim.before[place]
    faults = faults_of("game" if place == "save" else place, held)
    if faults.whole and not listed(aside, victim.key, held):
        found.append("it can't be read, and was neither refused nor put aside")
    found += [
        f"the unreadable piece {part!r:.60} is not in quarantine"
        for part in faults.parts
        if not _part_listed(aside, victim.key, part)
    ]
    if faults.any and place in ("json", "hash") and not victim.old:
        found += _same(victim, first, aside, but=faults.parts)
    if place == "history":
        found += _same(victim, first, aside)
    return found


def _says(victim: Victim, name: str, value: object) -> bool:
    """Whether the damaged form can be read so: it has this value, or none of that name."""
    held: Any = victim.before[victim.place]
    if isinstance(held, bytes):
        form: Any = loaded(held)
    else:
        form = {_shown(key): _shown(text) for key, text in held.items()}
    return isinstance(form, dict) and (name not in form or str(cast(Any, form)[name]) == str(value))


def _same(
    victim: Victim,
    state: Any,
    aside: Aside,
    but: Sequence[Any] = (),
) -> list[str]:
    """What is wrong with the state that was restored, if all of it could be, but this."""
    if not isinstance(state, dict):
        return [f"the state can't be had: {state!r}"]
    truth, given = victim.truth, cast("dict[str, Any]", state)
    names = ["game_id", "game_name", "active", "turn_number", "crown_holder"]
    # A form in which a player is malformed is another one than ours: the replaced system's
    # content wins, and what we know beside it must be put aside.
    others = bool(but) and all(
        listed(aside, victim.keys[place], victim.before[place])
        for place in ("journal", "turns", "meta")
    )
    if not victim.old and not others:
        names.append("pending_choices")
    found = [
        f"its {name} is {given[name]!r:.80}, was {truth[name]!r:.80}"
        for name in names
        if given[name] != truth[name] and not (others and _says(victim, name, given[name]))
    ]
    if not victim.old and not others:
        turns = [[turn["turn"] for turn in one["closed_turns"]] for one in (given, truth)]
        if turns[0] != turns[1]:
            found.append(f"its unrecorded turns are {turns[0]}, were {turns[1]}")
    lost = truth["players"].keys() - given["players"].keys() - set(but)
    if lost:
        found.append(f"players are lost: {sorted(lost)}")
    return found


def entries_of(fields: dict[bytes, bytes]) -> Aside:
    """What is in quarantine, by key; what isn't an entry is left out."""
    found: Aside = {}
    for value in fields.values():
        try:
            entry: Any = json.loads(value)
            entry["bytes"] = base64.b64decode(entry["value"], validate=True)
            found.setdefault(entry["key"], []).append(entry)
        except (ValueError, RecursionError, TypeError, LookupError):
            continue
    return found


def listed(aside: Aside, key: str, held: Held) -> bool:
    """Whether all that the key held is in quarantine, byte for byte."""
    for entry in aside.get(key, ()):
        if isinstance(held, bytes):
            if entry["type"] == "string" and entry["bytes"] == held:
                return True
        elif isinstance(held, dict):
            if entry["type"] == "hash" and json.loads(entry["bytes"]) == {
                _shown(name): _shown(value) for name, value in held.items()
            }:
                return True
        elif isinstance(held, list):
            if entry["type"] == "list" and json.loads(entry["bytes"]) == [*map(_shown, held)]:
                return True
        elif held is not None and entry["type"] == held.type:
            return True  # There is no copy of what we have no word for: it stays where it is.
    return held is None


def _part_listed(aside: Aside, key: str, part: bytes | str) -> bool:
    for entry in aside.get(key, ()):
        if isinstance(part, bytes):
            if entry["bytes"] == part:
                return True
        else:
            text = entry["bytes"].decode("utf-8", "surrogateescape")
            if json.dumps(part)[1:-1] in text or part in text or ascii(part)[1:-1] in text:
                return True
    return False


def _shown(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
