"""The ledger: it finds what was lost, and calls nothing lost that its player replaced."""

from __future__ import annotations

from gamegirl.load._ledger import Ledger, Place, Placed, Verdict, choice_number, choice_text


def acknowledged(ledger: Ledger, *, turn: int = 1, player: int = 0) -> int:
    number = ledger.send()
    ledger.acknowledge(0, player, number, turn)
    return number


def judged(ledger: Ledger, *placed: Placed) -> Verdict:
    verdict = ledger.judge(0, "channel", placed)
    counted = (
        verdict.records
        + verdict.closed_turns
        + verdict.open_windows
        + verdict.replaced
        + verdict.lost
    )
    assert counted == verdict.acknowledged  # Each is somewhere.
    return verdict


def at(number: int, *, turn: int = 1, player: int = 0, place: Place = Place.RECORD) -> Placed:
    return Placed(turn, player, number, place)


def test_a_press_may_be_in_a_record_a_closed_turn_or_the_open_window() -> None:
    """All three are places where the game has it."""
    ledger = Ledger(1, 2)
    one, two, three = (acknowledged(ledger, turn=turn) for turn in (1, 2, 3))
    verdict = judged(
        ledger,
        at(one, turn=1),
        at(two, turn=2, place=Place.CLOSED),
        at(three, turn=3, place=Place.OPEN),
    )
    assert verdict.holds
    assert (verdict.records, verdict.closed_turns, verdict.open_windows) == (1, 1, 1)


def test_a_press_that_is_nowhere_is_lost() -> None:
    """It is counted, and named."""
    ledger = Ledger(1, 2)
    acknowledged(ledger)
    verdict = judged(ledger)
    assert (verdict.lost, verdict.holds) == (1, False)
    assert "player 0 is not in turn 1" in verdict.examples[0]


def test_a_press_in_another_turn_than_was_said_is_lost() -> None:
    """The answer said in which turn it counts."""
    ledger = Ledger(1, 2)
    number = acknowledged(ledger, turn=1)
    verdict = judged(ledger, at(number, turn=2))
    assert (verdict.lost, verdict.foreign) == (1, 1)


def test_a_press_of_another_player_replaces_nothing() -> None:
    """Each player has a choice of their own."""
    ledger = Ledger(1, 2)
    acknowledged(ledger, player=0)
    other = acknowledged(ledger, player=1)
    assert judged(ledger, at(other, player=1)).lost == 1


def test_a_later_press_of_the_same_window_replaces_the_earlier() -> None:
    """The latest choice counts; had the earlier one stayed, the later would be lost."""
    ledger = Ledger(1, 2)
    first, second = acknowledged(ledger), acknowledged(ledger)
    verdict = judged(ledger, at(second))
    assert (verdict.holds, verdict.records, verdict.replaced) == (True, 1, 1)
    assert judged(ledger, at(first)).lost == 2


def test_either_of_two_presses_at_one_time_may_have_come_last() -> None:
    """Who sends two without waiting can't know which arrives first; a third one, later, is last."""
    ledger = Ledger(1, 2)
    first, second = ledger.send(), ledger.send()
    ledger.acknowledge(0, 0, second, 1)
    ledger.acknowledge(0, 0, first, 1)
    assert judged(ledger, at(first)).holds
    assert judged(ledger, at(second)).holds
    third = acknowledged(ledger)
    assert judged(ledger, at(third)).replaced == 2
    assert not judged(ledger, at(second)).holds


def test_a_press_in_doubt_may_be_there_or_not() -> None:
    """Unless another one was acknowledged after it had been given up: that one must be there."""
    ledger = Ledger(1, 2)
    doubtful = ledger.send()
    ledger.doubt(doubtful)
    assert judged(ledger).holds
    assert judged(ledger, at(doubtful)).holds
    later = acknowledged(ledger)
    assert judged(ledger, at(later)).holds
    assert judged(ledger, at(doubtful)).lost == 1


def test_a_press_in_doubt_may_replace_one_that_was_acknowledged() -> None:
    """It was sent later, and nobody knows."""
    ledger = Ledger(1, 2)
    acknowledged(ledger)
    doubtful = ledger.send()
    ledger.doubt(doubtful)
    verdict = judged(ledger, at(doubtful))
    assert (verdict.holds, verdict.replaced) == (True, 1)


def test_a_press_that_was_refused_must_not_be_there() -> None:
    """So must none that nobody made, and none twice."""
    ledger = Ledger(1, 2)
    refused = ledger.send()
    assert judged(ledger, at(refused)).foreign == 1
    assert judged(ledger, at(0)).foreign == 1
    number = acknowledged(ledger)
    assert judged(ledger, at(number), at(number, place=Place.OPEN)).foreign == 1


def test_verdicts_of_processes_add_up() -> None:
    """Counts are summed, and some examples kept."""
    total = Verdict()
    for _ in range(20):
        ledger = Ledger(1, 2)
        acknowledged(ledger)
        total.add(judged(ledger))
    assert (total.acknowledged, total.lost) == (20, 20)
    assert 0 < len(total.examples) < 20


def test_what_was_not_verified_does_not_hold() -> None:
    """Whatever else was found; the first reason is kept."""
    total = Verdict(acknowledged=3, records=3)
    assert total.holds
    total.add(Verdict(unverified="the store is away"))
    total.add(Verdict(unverified="another one"))
    total.add(Verdict(acknowledged=1, records=1))
    assert (total.holds, total.acknowledged, total.lost) == (False, 4, 0)
    assert total.unverified == "the store is away"


def test_a_choice_says_which_press_it_is() -> None:
    """And what isn't one of ours is none."""
    assert choice_number(choice_text(41)) == 41
    assert choice_number("Open the door") == choice_number("choice x") == 0
