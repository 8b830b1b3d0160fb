"""Whether there is an order of concurrent calls that explains all of their answers.

The judge of what several processes do to the same games at once. A world says which channel has
which game, and who holds each game; a deed is one call, with the interval in which it took effect
if it did. Answers are as promised if the deeds, put into some order that respects who had been
answered before whom, lead from the world before them to the one after, each as it was answered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import attrs

DONE, REFUSED, DOUBTFUL = "done", "refused", "in doubt"

_NODES_MAX = 100_000
"""So many steps of the search are made at most."""

_TOUCHES = frozenset(("press", "close", "record"))


@attrs.frozen
class Place:
    """A channel's game.

    Attributes:
        saved: The save that it left behind; empty: it is live here.
    """

    game: str
    saved: str = ""


Channels: TypeAlias = Mapping[str, Place]
Games: TypeAlias = Mapping[str, str]


@attrs.frozen
class World:
    """Which channel has which game, and who holds each game.

    Attributes:
        channels: Of those that ever had a game; the last one, if none is live.
        games: Game to holder: `channel:…` or `save:…`.
    """

    channels: Channels
    games: Games

    @property
    def key(self) -> tuple[frozenset[tuple[str, Place]], frozenset[tuple[str, str]]]:
        """What makes it another world; for sets."""
        return frozenset(self.channels.items()), frozenset(self.games.items())

    def live(self, channel: str) -> str | None:
        """The game that is live there."""
        place = self.channels.get(channel)
        return place.game if place is not None and not place.saved else None

    def same(self, other: World) -> bool:
        """Whether both are alike: what a save is called doesn't matter, only whose it is."""
        return self._told() == other._told()

    def _told(self) -> object:
        channels = {
            channel: (
                place.game,
                "live" if not place.saved else self.games.get(place.game) == place.saved,
            )
            for channel, place in self.channels.items()
        }
        games = {
            game: holder if holder.startswith("channel:") else "saved"
            for game, holder in self.games.items()
        }
        return channels, games

    def eject(self, channel: str, save: str) -> World:
        """The channel's live game, if there is one, becomes a save."""
        game = self.live(channel)
        if game is None:
            return self
        return World(
            {**self.channels, channel: Place(game, save)},
            {**self.games, game: save},
        )

    def put(self, channel: str, game: str) -> World:
        """The channel has this game from now on."""
        return World(
            {**self.channels, channel: Place(game)},
            {**self.games, game: f"channel:{channel}"},
        )

    def drop(self, game: str) -> World:
        """The game is deleted."""
        return World(
            self.channels, {name: holder for name, holder in self.games.items() if name != game}
        )

    def empty(self, channel: str) -> World:
        """The channel never had a game."""
        return World(
            {name: place for name, place in self.channels.items() if name != channel}, self.games
        )


@attrs.define(eq=False)
class Deed:
    """One call.

    Attributes:
        kind: Its operation; `press`, `close` and `record` only need a live game.
        channel: Where; empty for `forget`.
        game: The game it names or, of a press and the like, the one it was answered to be of.
        began: When it was sent, on any clock that only goes forward.
        ended: When it was answered; never, if that is in doubt.
        outcome: Done, refused or in doubt.
        refusal: The class name of what it raised.
        text: What that said.
    """

    kind: str
    channel: str
    game: str = ""
    began: float = 0.0
    ended: float = math.inf
    outcome: str = DOUBTFUL
    refusal: str = ""
    text: str = ""

    def __str__(self) -> str:
        told = self.outcome if self.outcome != REFUSED else f"{self.refusal}: {self.text[:90]}"
        return f"{self.kind}({self.channel}, {self.game}) → {told}"

    def overlaps(self, other: Deed) -> bool:
        """Whether either could have happened before the other."""
        return self.began <= other.ended and other.began <= self.ended

    def after(self, world: World) -> World | None:
        """The world once it is done; None: it can't be done in this one."""
        live, channel, game = world.live(self.channel), self.channel, self.game
        save = f"save:{id(self)}"
        holder = world.games.get(game)
        if self.kind == "boot":
            return world.put(channel, game) if live is None and holder is None else None
        if self.kind == "swap":
            return world.eject(channel, save).put(channel, game) if holder is None else None
        if self.kind == "load":
            if holder is None or holder.startswith("channel:"):
                return None
            return world.eject(channel, save).put(channel, game)
        if self.kind == "exit":
            return world.eject(channel, save) if live is not None else None
        if self.kind == "forget":
            if holder is None or holder.startswith("channel:"):
                return None
            return world.drop(game)
        if self.kind == "wipe":
            place = world.channels.get(channel)
            if place is not None and place.saved in ("", world.games.get(place.game)):
                world = world.drop(place.game)
            return world.empty(channel)
        # It only looks: at the game it was answered to be of, or at any.
        return world if live is not None and game in ("", live) else None

    def refusable(self, world: World) -> bool:
        """Whether what it was refused for is true in this world."""
        live, holder = world.live(self.channel), world.games.get(self.game)
        if self.refusal == "NoActiveGameError":
            return live is None
        if self.refusal == "UnknownGameError":
            return holder is None
        if self.refusal == "GameExistsError":
            return holder is not None
        if self.refusal == "StaleTurnError":
            return live not in (None, self.game)
        if self.refusal == "GameActiveError":
            if self.kind == "boot":
                return live is not None
            return holder is not None and holder.startswith("channel:")
        if self.refusal == "TurnBacklogError":
            return live is not None
        # Not owned, not started, closing: nothing that the world could explain.
        return self.refusal in ("OwnedElsewhereError", "SupervisorClosedError", "WorkerGone")


def name_by_others(unnamed: Iterable[Deed], deeds: Sequence[Deed], known: Iterable[str]) -> None:
    """Give deeds the ids of the games that they made, of which only others were told.

    Args:
        unnamed: Their answers were lost, and their games may be gone again.
        deeds: All, among them those that were answered to be of such a game.
        known: The ids of all games that nobody of these has made.
    """
    taken = set(known)
    for deed in unnamed:
        strangers = [
            other.game
            for other in deeds
            if other.channel == deed.channel
            and other.kind in _TOUCHES
            and other.game
            and other.game not in taken
        ]
        if strangers:
            deed.game = strangers[0]
            taken.add(deed.game)


def explained(before: World, deeds: Sequence[Deed], after: World) -> bool:
    """Whether some order of the deeds leads from one world to the other.

    What only looked, or was refused, takes its place as soon as it can, since it changes nothing;
    so only what did something is tried in every order. What is in doubt may have happened or not.
    """
    seen: set[object] = set()
    stack: list[tuple[World, frozenset[Deed]]] = [(before, frozenset(deeds))]
    while stack:
        world, left = _looked(*stack.pop(), deeds)
        key = world.key, left
        if key in seen:
            continue
        seen.add(key)
        if len(seen) > _NODES_MAX:
            raise RecursionError(f"{len(deeds)} deeds are too many to be put into order")
        if all(deed.outcome == DOUBTFUL for deed in left) and world.same(after):
            return True
        for deed in left:
            if deed.outcome == REFUSED or not _free(deed, left):
                continue
            following = deed.after(world)
            if following is not None:
                stack.append((following, left - {deed}))
    return False


def _looked(
    world: World, left: frozenset[Deed], deeds: Sequence[Deed]
) -> tuple[World, frozenset[Deed]]:
    again = True
    while again:
        again = False
        for deed in left:
            if deed.outcome == REFUSED:
                fits = deed.refusable(world) or _contested(deed, deeds)
            else:
                fits = deed.kind in _TOUCHES and (
                    deed.outcome == DOUBTFUL or deed.after(world) is not None
                )
            if fits and _free(deed, left):
                left -= {deed}
                again = True
    return world, left


def _free(deed: Deed, left: frozenset[Deed]) -> bool:
    """Whether none of the others had been answered before it was sent."""
    return all(other.ended >= deed.began for other in left)


def _contested(deed: Deed, deeds: Sequence[Deed]) -> bool:
    """Whether it could be told to try again, because somebody else was at the same game."""
    if deed.refusal != "GameActiveError":
        return False
    return "try again" in deed.text and any(
        other is not deed and other.outcome != REFUSED and deed.overlaps(other) for other in deeds
    )
