"""Whatever happens in whatever order, the store gives back what is in memory.

`Channel.send` compares after each message. What the rules promise across messages is checked by a
model that is as plain as a list, and sabotaged controls show that the comparison can fail.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.session import old_system as old
from tests.session.world import Channel, Store, World, as_bytes

from gamegirl.actors import Decided, Drop, GameGirlError, PatchHash, Woken, Write
from gamegirl.actors.session import _messages as m

USERS = st.sampled_from(["ana", "bo", "cy:1", "ä🎮"])
GAMES = st.sampled_from(["aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"])
CHANNELS = st.sampled_from(["c", "d"])
TEXTS = st.text(alphabet='a\n"\\é🎮', max_size=5)
OPERATIONS = st.one_of(
    st.tuples(st.just("press"), USERS, TEXTS, st.sampled_from([None, "x", "y:z"])),
    st.tuples(st.just("press"), USERS, TEXTS, st.none()),
    st.tuples(st.just("join"), USERS),
    st.tuples(st.just("send"), st.sampled_from([m.CloseWindow(), m.CloseWindow(empty=True)])),
    st.tuples(st.just("send"), st.sampled_from([m.Save(), Woken(), m.Narrate("once")])),
    st.tuples(st.just("send"), st.builds(m.SetCrown, st.none() | USERS)),
    st.tuples(st.just("send"), st.builds(m.SetTitleScreen, TEXTS)),
    st.tuples(st.just("record"), st.integers(0, 3)),
    st.tuples(st.just("boot"), GAMES),
    st.tuples(st.just("swap"), GAMES),
    st.tuples(st.just("load"), GAMES),
    st.tuples(st.just("exit")),
    st.tuples(st.just("restart")),
    st.tuples(st.just("wipe")),
)
STEPS = st.lists(
    st.tuples(CHANNELS, st.sampled_from([0.5, 3.0, 10.0, 10.5, 5_000.0]), OPERATIONS), max_size=40
)


class Ledger:
    """Which presses were accepted, and which turn of which game each must be in."""

    def __init__(self) -> None:
        self.accepted: dict[tuple[str, int], dict[str, str]] = {}

    def press(self, answer: Any, user_id: str, choice: str) -> None:
        self.accepted.setdefault((answer.game_id, answer.turn), {})[user_id] = choice

    def forget(self, game_id: str) -> None:
        for key in [key for key in self.accepted if key[0] == game_id]:
            del self.accepted[key]

    def check(self, channel: Channel) -> None:
        """Every known turn of the channel's game has exactly the presses that were accepted."""
        session = channel.state.snapshot()
        turns: dict[int, Any] = {turn.turn: turn.choices for turn in session.closed_turns}
        if session.pending_choices:
            turns[session.turn_number + 1] = session.pending_choices
        for turn, choices in turns.items():
            assert dict(choices) == self.accepted.get((session.game_id, turn), {})


def do(channel: Channel, operation: tuple[Any, ...], ledger: Ledger) -> None:
    """Perform an operation; a refusal must have written nothing that it promised not to."""
    game_id = channel.state.game_id
    match operation:
        case ["press", user_id, choice, press_id]:
            state = channel.state
            known = press_id is not None and state.answer(user_id, press_id) is not None
            answer = channel.press(user_id, choice, channel.world.now, press_id=press_id)
            if not known:
                ledger.press(answer, user_id, choice)
        case ["join", user_id]:
            channel.join(user_id, channel.world.now)
        case ["send", message]:
            channel.ask(message, channel.world.now)
        case ["record", back]:
            channel.record(max(0, channel.state.turn_number - back))
        case ["restart"]:
            channel.restart()
        case ["wipe"]:
            try:
                channel.ask(m.Wipe())
            except GameGirlError:
                channel.ask(m.Wipe(game_id))
            else:
                ledger.forget(game_id)
        case ["exit"]:
            channel.exit()
        case _:
            name, argument = operation
            getattr(channel, name)(argument)


def play(steps: list[Any], world: World, ledger: Ledger) -> None:
    for channel_id, seconds, operation in steps:
        channel = world[channel_id]
        world.now += seconds
        try:
            do(channel, operation, ledger)
        except GameGirlError:
            channel.compare()
        ledger.check(channel)
        live = [one.state.game_id for one in (world["c"], world["d"]) if one.state.active]
        assert len(live) == len(set(live)), "a game is live twice"


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_any_order(steps: list[Any]) -> None:
    """Memory and store agree after every message; every accepted press is in its turn."""
    world = World(closed_turns_max=3, history_max=4, press_ids_max=2, players_max=3)
    play(steps, world, Ledger())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.integers(1, 3), st.integers(0, 30), STEPS)
def test_the_old_system_in_between(
    before: list[Any], steps: int, turn: int, after: list[Any]
) -> None:
    """Whatever we were doing, its content wins when it has played, and we can go on from there."""
    world = World(closed_turns_max=3)
    ledger = Ledger()
    play(before, world, ledger)
    session = old.new_game("c", "dddddddddddd") | {"turn_number": turn}
    old.write(world.store, session, {"zoe": "look"}, steps=steps)
    channel = world["c"]
    state = channel.restart()
    assert (state.game_id, state.turn_number, state.active) == ("dddddddddddd", turn, True)
    assert not state.turns
    channel.compare()
    ledger.accepted[state.game_id, turn + 1] = state.pending()
    play(after, world, ledger)


SABOTAGE = [
    "press is not written",
    "window is not cleared",
    "turn is not written",
    "stamps are not written",
    "forms are not written",
]


@pytest.mark.parametrize("sabotage", SABOTAGE)
def test_the_comparison_can_fail(sabotage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that is forgotten is noticed: the tests above can fail."""
    original = Store.write

    def write(store: Store, write: Write) -> None:
        if sabotage == "press is not written" and isinstance(write, PatchHash):
            kept = {k: v for k, v in write.fields.items() if not k.startswith("p:")}
            write = PatchHash(write.key, kept, write.remove)
        if sabotage == "window is not cleared" and isinstance(write, Drop):
            return
        if sabotage == "turn is not written" and write.key.endswith(":turns"):
            return
        if sabotage == "stamps are not written" and write.key.endswith(":turns"):
            assert isinstance(write, PatchHash)
            kept = {
                k: re.sub(rb',"stamps":[^]]*]', b"", as_bytes(v)) for k, v in write.fields.items()
            }
            write = PatchHash(write.key, kept, write.remove)
        if sabotage == "forms are not written" and write.key == "game:session:c":
            return
        original(store, write)

    channel = World()["c"]
    channel.boot()
    monkeypatch.setattr(Store, "write", write)
    with pytest.raises(AssertionError):  # noqa: PT012 - whichever step notices it
        channel.press("ana")
        channel.restart()
        assert not channel.state.quarantine
        channel.close()
        channel.press("bo")
        channel.restart()
        channel.record(1)
        channel.restart()
        assert not channel.quarantined
        assert not channel.state.quarantine


def test_decisions_are_frozen() -> None:
    """What a decision carries isn't changed by later messages: it may be committed much later."""
    channel = World()["c"]
    decisions: list[tuple[Decided, str]] = []
    channel.boot()
    for message in (
        m.Press("ana", "Ana", "run", press_id="x"),
        m.Press("bo", "Bo", "hide"),
        m.CloseWindow(),
        m.Record(1, None, "x"),
        m.SetCrown("bo"),
        m.Swap("Neon", "", "bbbbbbbbbbbb", "n"),
        m.Wipe(),
    ):
        decision = channel.send(message)
        decisions.append((decision, repr(decision)))
    for decision, before in decisions:
        assert repr(decision) == before
