"""Handing turns out to `on_turn`: one at a time, at least once, recorded exactly once."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from tests.session.world import GAME, OTHER, Channel, World

from gamegirl.actors import Cancel, ClosedTurn, LimitError, Perform, Session, TurnToken
from gamegirl.actors.session import SessionBehaviour, TurnAttemptFailed, TurnGivenUp
from gamegirl.actors.session import _messages as m


async def never(turn: ClosedTurn, session: Session) -> str | None:
    raise NotImplementedError


@pytest.fixture
def channel() -> Channel:
    channel = World(never)["c"]
    channel.boot()
    return channel


@pytest.fixture(autouse=True)
def _handed_out_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    # A restore hands turns out again, one attempt later: it equals memory in all else.
    def compare(channel: Channel) -> None:
        pass

    monkeypatch.setattr(Channel, "compare", compare)


def work(channel: Channel) -> m.HandOut | None:
    """What the last decision wants performed."""
    for effect in channel.decision.effects:
        if isinstance(effect, Perform):
            assert effect.key == "turn"
            assert isinstance(effect.work, m.HandOut)
            return effect.work
    return None


def turn_of(channel: Channel) -> m.HandOut:
    handed = work(channel)
    assert handed is not None
    return handed


def delay_of(channel: Channel) -> float:
    """After how many seconds it is to be performed."""
    (effect,) = [one for one in channel.decision.effects if isinstance(one, Perform)]
    return effect.delay_seconds


def play(channel: Channel) -> None:
    channel.press("ana", "run")
    channel.close()


def test_closed_turn_is_handed_out(channel: Channel) -> None:
    """With the turn, a snapshot, and how often it was handed out, which is stored."""
    play(channel)
    handed = turn_of(channel)
    assert (handed.turn.turn, handed.turn.attempt, delay_of(channel)) == (1, 1, 0.0)
    assert handed.session.turn_number == 1
    assert channel.world.store.field("gg:session:c:turns", "a:1") == "1"
    assert not channel.world.behaviour.may_release(channel.state)


def test_one_at_a_time(channel: Channel) -> None:
    """The next turn is handed out when the first is done."""
    play(channel)
    token = turn_of(channel).turn.token
    play(channel)
    assert work(channel) is None
    channel.ask(m.TurnNarrated(token, 1, "and so"))
    assert turn_of(channel).turn.turn == 2
    assert [record.narrative_summary for record in channel.history()] == ["and so"]


def test_left_to_the_host(channel: Channel) -> None:
    """After None, the next turn waits until the host has recorded the first."""
    play(channel)
    play(channel)
    channel.ask(m.TurnNarrated(TurnToken(GAME, 1), 1, None))
    assert work(channel) is None
    play(channel)
    assert work(channel) is None
    channel.record(1)
    assert turn_of(channel).turn.turn == 2


def test_recorded_by_the_host_meanwhile(channel: Channel) -> None:
    """The host's record stands; the next turn waits until `on_turn` is back."""
    play(channel)
    play(channel)
    channel.record(1, "the host's")
    assert work(channel) is None
    channel.ask(m.TurnNarrated(TurnToken(GAME, 1), 1, "too late"))
    assert turn_of(channel).turn.turn == 2
    assert [record.narrative_summary for record in channel.history()] == ["the host's"]


def test_failure_is_tried_again(channel: Channel) -> None:
    """With growing delays; in the end the turn's record has no narrative, and an event tells."""
    play(channel)
    delays: list[float] = []
    for attempt in range(1, 6):
        channel.ask(m.TurnFailed(TurnToken(GAME, 1), attempt, "no luck"))
        assert channel.events[-1] == TurnAttemptFailed("c", GAME, 1, attempt, "no luck")
        assert turn_of(channel).turn.attempt == attempt + 1
        delays.append(delay_of(channel))
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0]
    channel.ask(m.TurnFailed(TurnToken(GAME, 1), 6, "no luck"))
    assert channel.events[-1] == TurnGivenUp("c", GAME, 1, 6, "no luck")
    assert [record.narrative_summary for record in channel.history()] == [""]
    assert work(channel) is None


def test_delay_is_bounded() -> None:
    """However often it fails."""
    channel = World(never, turn_retries_max=1_000)["c"]
    channel.boot()
    play(channel)
    for attempt in range(1, 40):
        channel.ask(m.TurnFailed(TurnToken(GAME, 1), attempt, "no luck"))
    assert delay_of(channel) == 30.0


def test_restart_hands_out_again(channel: Channel) -> None:
    """A restored session hands its oldest unrecorded turn out again, one attempt later."""
    play(channel)
    play(channel)
    channel.restart()
    assert turn_of(channel).turn.turn == 1
    assert turn_of(channel).turn.attempt == 2
    # What the first attempt gives is nobody's any more: the second is running.
    channel.ask(m.TurnFailed(TurnToken(GAME, 1), 1, "old"))
    assert work(channel) is None
    channel.ask(m.TurnNarrated(TurnToken(GAME, 1), 2, "new"))
    assert turn_of(channel).turn.turn == 2


def test_recorded_and_forgotten(channel: Channel) -> None:
    """A narrator that comes back long after the host has recorded everything."""
    for _ in range(4):
        play(channel)
    for turn in range(1, 5):
        channel.record(turn)
    channel.ask(m.TurnFailed(TurnToken(GAME, 1), 1, "late"))
    play(channel)
    assert turn_of(channel).turn.turn == 5


@pytest.mark.parametrize("leave", ["exit", "swap", "wipe", "load"])
def test_cancelled_with_its_game(channel: Channel, leave: str) -> None:
    """Work on a turn ends when its game leaves; what it still says changes nothing."""
    play(channel)
    if leave == "wipe":
        channel.ask(m.Wipe())
    elif leave == "load":
        channel.world["d"].boot(OTHER)
        channel.world["d"].exit()
        channel.load(OTHER)
    else:
        getattr(channel, leave)()
    assert Cancel("turn") in channel.decision.effects
    before = dict(channel.world.store)
    channel.ask(m.TurnNarrated(TurnToken(GAME, 1), 1, "late"))
    assert channel.world.store == before
    assert work(channel) is None


def test_handed_out_again_after_load(channel: Channel) -> None:
    """Unrecorded turns go with their game; the attempts are counted on."""
    play(channel)
    channel.exit()
    assert work(channel) is None
    assert channel.world.behaviour.may_release(channel.state)
    channel.load()
    assert turn_of(channel).turn.attempt == 2


def test_record_that_does_not_fit() -> None:
    """If a narrative can't be stored, the turn's record has none."""
    channel = World(never, record_bytes_max=400, summary_max=10_000)["c"]
    channel.boot()
    play(channel)
    channel.ask(m.TurnNarrated(TurnToken(GAME, 1), 1, "x" * 1_000))
    assert isinstance(channel.events[-1], TurnGivenUp)
    assert [record.narrative_summary for record in channel.history()] == [""]


def test_record_that_cannot_fit() -> None:
    """A turn of a save with larger limits holds up nothing: it gets a record all the same."""
    channel = World(never, record_bytes_max=300, summary_max=0)["c"]
    channel.boot()
    play(channel)
    small = World(never, record_bytes_max=50, summary_max=0, turn_retries_max=0)
    channel.world.behaviour = small.behaviour
    channel.ask(m.TurnFailed(TurnToken(GAME, 1), 1, "no luck"))
    assert isinstance(channel.events[-1], TurnGivenUp)
    assert [record.narrative_summary for record in channel.history()] == [""]
    assert not channel.snapshot().closed_turns


def test_host_records_what_cannot_fit() -> None:
    """The limit binds the narrative that a call brings: without one the record is made."""
    channel = World(record_bytes_max=300, summary_max=100)["c"]
    channel.boot()
    play(channel)
    channel.world.behaviour = World(record_bytes_max=50, summary_max=100).behaviour
    with pytest.raises(LimitError, match="shorten the narrative"):
        channel.record(1, "And so.")
    assert channel.record(1, "").narrative_summary == ""


def test_narrative_that_cannot_be_stored(channel: Channel) -> None:
    """It counts as a failure, with the same delays and the same end as any other."""
    play(channel)
    delays: list[float] = []
    for attempt in range(1, 6):
        channel.ask(m.TurnNarrated(TurnToken(GAME, 1), attempt, "\ud800"))
        assert isinstance(channel.events[-1], TurnAttemptFailed)
        delays.append(delay_of(channel))
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0]
    channel.ask(m.TurnNarrated(TurnToken(GAME, 1), 6, "\ud800"))
    assert isinstance(channel.events[-1], TurnGivenUp)
    assert [record.narrative_summary for record in channel.history()] == [""]


@pytest.mark.anyio
@pytest.mark.parametrize("raises", [True, False])
async def test_narrator_that_says_what_cannot_be_stored(raises: bool) -> None:
    """It comes back as a failure whose reason can be written anywhere."""

    async def half(turn: Any, session: Any) -> str:
        if raises:
            raise ValueError("\ud800")
        return "\ud800"

    channel = World(half)["c"]
    channel.boot()
    play(channel)
    answer: Any = await channel.world.behaviour.perform(turn_of(channel))
    assert isinstance(answer, m.TurnFailed)
    assert answer.reason.encode()


def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run what never really waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


@pytest.mark.parametrize(
    ("gives", "narrative"),
    [("and so", "and so"), (None, None), ("", "")],
)
def test_perform(channel: Channel, gives: str | None, narrative: str | None) -> None:
    """What `on_turn` returns comes back as a message."""
    seen: list[tuple[ClosedTurn, Session]] = []

    async def on_turn(turn: ClosedTurn, session: Session) -> str | None:
        seen.append((turn, session))
        return gives

    play(channel)
    handed = turn_of(channel)
    message = finish(SessionBehaviour(on_turn=on_turn).perform(handed))
    assert message == m.TurnNarrated(TurnToken(GAME, 1), 1, narrative)
    assert seen == [(handed.turn, handed.session)]


@pytest.mark.parametrize("gives", [7, b"bytes", ValueError("no luck")])
def test_perform_fails(channel: Channel, gives: Any) -> None:
    """An error, or what is neither a text nor None, comes back as a failure that says which."""

    async def on_turn(turn: ClosedTurn, session: Session) -> Any:
        if isinstance(gives, Exception):
            raise gives
        return gives

    play(channel)
    message = finish(SessionBehaviour(on_turn=on_turn).perform(turn_of(channel)))
    assert isinstance(message, m.TurnFailed)
    assert ("ValueError: no luck" if isinstance(gives, Exception) else "returned") in message.reason
