"""The built-in narrator: the same choices of the same turn always make the same story."""

from __future__ import annotations

import hashlib

from gamegirl.actors.session import ClosedTurn, Session

_OPENINGS = (
    "The cartridge hums.",
    "Somewhere a floorboard answers.",
    "The screen flickers, then holds.",
    "A cold wind turns a page.",
    "The lights go down by one.",
    "Far away a door opens by itself.",
)
_OUTCOMES = (
    "and it works, though not in the way anybody hoped",
    "and the walls seem to have waited for just that",
    "and for a moment nothing moves",
    "and something in the dark applauds",
    "and the floor gives way to stairs",
    "and a voice says: again",
)
_ENDINGS = (
    "What do you do?",
    "Nobody laughs. What next?",
    "The stars lean closer.",
    "There are two doors now.",
    "It smells of rain and solder.",
    "The clock in the hall starts again.",
)
_SILENCE = "Nobody says a word, and the story goes on alone."

CHOICE_SHOWN = 80
"""So many characters of a choice the narrator repeats; a record holds 500 in all."""

CHOICES_TOLD = 3


async def narrate(turn: ClosedTurn, session: Session) -> str:
    """Tell what comes of a turn's choices; no network, no chance."""
    digest = hashlib.blake2b(f"{turn.game_id}:{turn.turn}".encode(), digest_size=3).digest()
    opening, outcome, ending = (
        texts[byte % len(texts)]
        for texts, byte in zip((_OPENINGS, _OUTCOMES, _ENDINGS), digest, strict=True)
    )
    if not turn.choices:
        return f"{opening} {_SILENCE} {ending}"
    # The crown's holder co-narrates: what they chose is told first.
    order = sorted(turn.choices, key=lambda user_id: user_id != turn.crown_holder)
    told = [
        f"{turn.names.get(user_id, user_id)} — “{_short(turn.choices[user_id])}”"
        for user_id in order[:CHOICES_TOLD]
    ]
    if more := len(order) - len(told):
        told.append(f"{more} more")
    return f"{opening} {'; '.join(told)}: {outcome}. {ending}"


def _short(choice: str) -> str:
    line = " ".join(choice.split())
    return line if len(line) <= CHOICE_SHOWN else line[: CHOICE_SHOWN - 1] + "…"
