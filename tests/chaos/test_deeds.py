"""The judge of concurrent calls: it believes what some order explains, and nothing else."""

from __future__ import annotations

import math

from gamegirl.chaos._deeds import (
    DONE,
    DOUBTFUL,
    REFUSED,
    Deed,
    Place,
    World,
    explained,
    name_by_others,
)

SAVED = World({}, {"g": "save:1"})
IN_A = World({"a": Place("g")}, {"g": "channel:a"})
BOTH = World({"a": Place("g"), "b": Place("g")}, {"g": "channel:a"})


def deed(kind: str, channel: str, *, began: float = 0, ended: float = 1, **fields: str) -> Deed:
    fields = {"game": "g", "outcome": DONE, **fields}
    return Deed(kind, channel, began=began, ended=ended, **fields)


def refused(kind: str, channel: str, refusal: str, *, began: float = 0, ended: float = 1) -> Deed:
    return deed(kind, channel, began=began, ended=ended, outcome=REFUSED, refusal=refusal)


def test_one_of_two_loads_is_explained() -> None:
    """The other one was told that the game is active."""
    lost = refused("load", "b", "GameActiveError")
    assert explained(SAVED, [deed("load", "a"), lost], IN_A)


def test_two_loads_of_one_game_are_not() -> None:
    """Whatever the store looks like afterwards: in one of two orders each comes second."""
    for after in (IN_A, BOTH):
        assert not explained(SAVED, [deed("load", "a"), deed("load", "b")], after)


def test_an_exit_between_them_explains_both() -> None:
    """But only if it can have been between them."""
    loads = deed("load", "a"), deed("load", "b")
    after = World({"a": Place("g", "save:2"), "b": Place("g")}, {"g": "channel:b"})
    assert explained(SAVED, [*loads, deed("exit", "a")], after)
    assert not explained(SAVED, [*loads, deed("exit", "a", began=2, ended=3)], after)


def test_what_had_been_answered_comes_first() -> None:
    """A refusal is explained by what was before its answer, not by what came later."""
    load, late = deed("load", "a", began=2, ended=3), refused("load", "b", "GameActiveError")
    assert not explained(SAVED, [late, load], IN_A)
    late.ended = 2.5
    assert explained(SAVED, [late, load], IN_A)


def test_what_is_in_doubt_happened_or_not() -> None:
    """Both are explained; that it happened halfway isn't."""
    doubtful = deed("load", "a", ended=math.inf, outcome=DOUBTFUL)
    assert explained(SAVED, [doubtful], SAVED)
    assert explained(SAVED, [doubtful], IN_A)
    assert not explained(SAVED, [doubtful], World({"a": Place("g")}, {"g": "save:1"}))


def test_a_game_never_disappears() -> None:
    """Unless somebody forgot it, or wiped the channel that had it or had saved it."""
    gone = World({}, {})
    assert not explained(SAVED, [refused("load", "a", "UnknownGameError")], gone)
    assert explained(SAVED, [deed("forget", "")], gone)
    assert explained(IN_A, [deed("wipe", "a", game="")], gone)
    left = World({"a": Place("g", "save:1")}, {"g": "save:1"})
    assert explained(left, [deed("wipe", "a", game="")], gone)
    elsewhere = World({"a": Place("g", "save:0")}, {"g": "save:1"})
    assert not explained(elsewhere, [deed("wipe", "a", game="")], gone)


def test_a_press_is_in_the_game_that_was_live() -> None:
    """An answer that names another one isn't explained."""
    assert explained(IN_A, [deed("press", "a")], IN_A)
    assert not explained(IN_A, [deed("press", "a", game="h")], IN_A)
    assert not explained(IN_A, [refused("press", "a", "NoActiveGameError")], IN_A)


def test_a_game_whose_swap_was_not_answered_is_named_by_its_presses() -> None:
    """Also if it was exited and wiped before anybody looked."""
    swap = deed("swap", "a", game="a title", outcome=DOUBTFUL, ended=math.inf)
    deeds = [swap, deed("press", "a", game="new"), deed("exit", "a", game=""), deed("wipe", "a")]
    assert not explained(World({}, {}), deeds, World({}, {}))
    name_by_others([swap], deeds, ["g"])
    assert swap.game == "new"
    assert explained(World({}, {}), deeds, World({}, {}))


def test_no_game_is_named_that_others_have_made() -> None:
    """Nor one that was pressed in another channel."""
    swap = deed("swap", "a", game="a title", outcome=DOUBTFUL, ended=math.inf)
    name_by_others([swap], [swap, deed("press", "a"), deed("press", "b", game="new")], ["g"])
    assert swap.game == "a title"
