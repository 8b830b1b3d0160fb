"""The rules of a turn: press, window, close, next turn, record."""

from __future__ import annotations

import math

import pytest
from tests.session.world import GAME, OTHER, Channel, World

from gamegirl.actors import (
    Later,
    LimitError,
    NoActiveGameError,
    PatchHash,
    Pressed,
    StaleTurnError,
    TurnBacklogError,
    TurnToken,
    UnknownTurnError,
    WakeWaiters,
    Window,
    Woken,
)
from gamegirl.actors.session import (
    ChoicePressed,
    PlayerJoined,
    RecordUnreadable,
    TurnClosed,
    TurnRecorded,
    WindowOpened,
    _turns,
)
from gamegirl.actors.session import _messages as m
from gamegirl.actors.session._journal import choice_bytes
from gamegirl.supervisor import is_compiled


@pytest.fixture
def channel(world: World) -> Channel:
    channel = world["c"]
    channel.boot()
    channel.events.clear()
    return channel


@pytest.mark.parametrize("empty", [True, False])
def test_closing_just_past_the_deadline(channel: Channel, empty: bool) -> None:
    """Whoever closes a window that has closed by itself in this moment gets its turn, only it."""
    channel.press("ana", "run", 100.0)
    turn = channel.ask(m.CloseWindow(empty), 110.5)
    assert (turn.turn, dict(turn.choices), turn.closed_at) == (1, {"ana": "run"}, 110.0)
    assert channel.snapshot().turn_number == 1


def test_first_press_opens_window(channel: Channel) -> None:
    """The first press of a turn opens its window, for as long as the rules say."""
    pressed = channel.press("ana", "Open the door", 100.0)
    assert pressed.opened
    assert (pressed.game_id, pressed.turn) == (GAME, 1)
    assert (pressed.deadline, pressed.remaining) == (110.0, 10.0)
    assert pressed.token == TurnToken(GAME, 1)
    assert channel.snapshot().window == Window(100.0, 110.0)
    assert channel.events == [
        PlayerJoined("c", GAME, "ana", "Ana"),
        WindowOpened("c", GAME, 1, 110.0),
        ChoicePressed("c", GAME, "ana", 1),
    ]


def test_opened_once_a_turn(channel: Channel) -> None:
    """`opened` is true exactly once a turn, also when one player presses twice."""
    opened = [channel.press(user, "run", 100.0).opened for user in ("ana", "ana", "bo", "ana")]
    assert opened == [True, False, False, False]


def test_latest_choice_wins_in_first_order(channel: Channel) -> None:
    """A player's latest choice counts, at the place of their first press."""
    for user, choice in [("ana", "1"), ("bo", "2"), ("ana", "3"), ("cy", "4")]:
        channel.press(user, choice, 100.0)
    assert list(channel.snapshot().pending_choices.items()) == [
        ("ana", "3"),
        ("bo", "2"),
        ("cy", "4"),
    ]


def test_press_joins(channel: Channel) -> None:
    """A press joins a new player and keeps the name of a known one."""
    channel.join("bo", 99.0)
    channel.press("ana", "run", 100.0)
    channel.ask(m.Press("bo", "Somebody else", "run"), 101.0)
    players = channel.snapshot().players
    assert [(p.user_name, p.joined_turn) for p in players.values()] == [("Bo", 0), ("Ana", 0)]


def test_press_refreshes(channel: Channel) -> None:
    """A press refreshes both stamps and ends the skipping."""
    channel.join("ana", 100.0)
    for _ in range(3):
        channel.ask(m.CloseWindow(empty=True))
    assert channel.state.players["ana"].consecutive_skips == 3
    channel.press("ana", "run", 5_000.0)
    player = channel.state.players["ana"]
    assert (player.last_active, player.last_active_turn, player.consecutive_skips) == (
        5_000.0,
        3,
        0,
    )


def test_stamp_never_falls(channel: Channel) -> None:
    """A clock that was set back doesn't make anybody seem gone for longer."""
    channel.join("ana", 500.0)
    channel.join("ana", 400.0)
    assert channel.state.players["ana"].last_active == 500.0


@pytest.mark.parametrize(("now", "turn"), [(110.0, 1), (math.nextafter(110.0, 200.0), 2)])
def test_press_at_deadline(channel: Channel, now: float, turn: int) -> None:
    """A press at the deadline counts in the turn; a later one opens the next window."""
    channel.press("ana", "run", 100.0)
    pressed = channel.press("bo", "run", now)
    assert (pressed.turn, pressed.opened) == (turn, turn == 2)


def test_late_wake_closes_at_deadline(channel: Channel) -> None:
    """However late the loop is, the turn closed at its deadline."""
    channel.press("ana", "run", 100.0)
    channel.wake(now=500.0)
    (turn,) = channel.snapshot().closed_turns
    assert (turn.opened_at, turn.closed_at) == (100.0, 110.0)


def test_wake_asked_for_closes(channel: Channel) -> None:
    """The wake-up that is asked for closes the window; one at the deadline itself doesn't."""
    channel.press("ana", "run", 100.0)
    channel.ask(Woken(), 110.0)
    assert channel.state.window is not None
    channel.wake()
    assert channel.state.window is None
    assert channel.world.behaviour.wake_at(channel.state) is None


def test_close_raises_skips_of_others(channel: Channel) -> None:
    """Every player who did not choose has one more skip; the turn has the others' choices."""
    for user in ("ana", "bo", "cy"):
        channel.join(user)
    channel.press("bo", "run", 100.0)
    turn = channel.close()
    assert turn.turn == channel.state.turn_number == 1
    assert dict(turn.choices) == {"bo": "run"}
    assert dict(turn.names) == {"bo": "Bo"}
    skips = {p.user_id: p.consecutive_skips for p in channel.state.players.values()}
    assert skips == {"ana": 1, "bo": 0, "cy": 1}
    assert channel.events[-1] == TurnClosed("c", GAME, 1, 1)
    assert WakeWaiters() in channel.decision.effects


def test_close_without_window(channel: Channel) -> None:
    """Without a window, closing gives nothing, or a turn without choices if asked for."""
    assert channel.close() is None
    assert channel.state.turn_number == 0
    turn = channel.ask(m.CloseWindow(empty=True), 50.0)
    assert (turn.turn, dict(turn.choices), turn.opened_at, turn.closed_at) == (1, {}, 50.0, 50.0)


def test_press_for_a_turn(channel: Channel) -> None:
    """A press for the turn that is played counts; for one that is over it is refused."""
    assert channel.press("ana", turn=1, game_id=GAME).turn == 1
    channel.close()
    with pytest.raises(StaleTurnError, match="turn 1 of channel 'c', which is over"):
        channel.press("ana", turn=1)
    with pytest.raises(StaleTurnError, match=OTHER):
        channel.press("ana", turn=2, game_id=OTHER)
    with pytest.raises(UnknownTurnError, match="hasn't begun"):
        channel.press("ana", turn=3)
    assert channel.state.window is None


def test_press_for_a_turn_that_just_ended(channel: Channel) -> None:
    """A button of a turn whose deadline has passed is stale, and the turn is closed by that."""
    channel.press("ana", now=100.0)
    decision = channel.send(m.Press("bo", "Bo", "run", turn=1), 111.0)
    assert isinstance(decision.error, StaleTurnError)
    assert decision.writes
    assert "bo" not in channel.state.players


def test_press_id_repeats_the_answer(channel: Channel) -> None:
    """The same press id of the same user gives the identical answer and has no second effect."""
    first = channel.press("ana", "run", 100.0, press_id="x")
    decision = channel.send(m.Press("ana", "Ana", "hide", press_id="x"), 105.0)
    assert decision.reply == first
    assert not decision.writes
    assert not decision.effects
    assert channel.state.pending() == {"ana": "run"}


def test_press_id_is_the_users_own(channel: Channel) -> None:
    """Two users may use the same press id, and no pair of ids looks like another."""
    channel.press("a:b", "1", 100.0, press_id="c")
    second = channel.press("a", "2", 100.0, press_id="b:c")
    assert not second.opened
    assert channel.state.pending() == {"a:b": "1", "a": "2"}


def test_press_id_outlives_the_turn(channel: Channel) -> None:
    """Press ids are remembered for unrecorded turns and for the last two recorded ones."""
    answers: list[Pressed] = []
    for turn in range(1, 5):
        answers.append(channel.press("ana", "run", press_id=f"press {turn}"))
        channel.close()
    assert [channel.press("ana", "run", press_id=f"press {t}") for t in range(1, 5)] == answers
    for turn in range(1, 5):
        channel.record(turn)
    for turn in (3, 4):
        assert channel.press("ana", "run", turn=turn, press_id=f"press {turn}").turn == turn
    assert channel.press("ana", "run", press_id="press 2").turn == 5


def test_repeat_is_known_beforehand(channel: Channel) -> None:
    """The runtime can see that a press only repeats, so that it needs no share of a mailbox."""
    behaviour = channel.world.behaviour
    press = m.Press("ana", "Ana", "run", press_id="x")
    assert not behaviour.repeats(channel.state, press)
    channel.ask(press)
    assert behaviour.repeats(channel.state, press)
    assert not behaviour.repeats(channel.state, m.Press("ana", "Ana", "run"))
    assert not behaviour.repeats(channel.state, m.ReadState())


def test_press_ids_are_bounded() -> None:
    """So many press ids a user and window; then a press with another one is refused."""
    channel = World(press_ids_max=2)["c"]
    channel.boot()
    channel.press("ana", press_id="1")
    channel.press("ana", press_id="2")
    with pytest.raises(LimitError, match="2 different press ids"):
        channel.press("ana", press_id="3")
    channel.press("ana", press_id="1")
    channel.press("bo", press_id="3")
    channel.press("ana", "no id")
    assert channel.state.pending() == {"ana": "no id", "bo": "run"}


def test_backlog() -> None:
    """At the limit of unrecorded turns only a press that would open a window is refused."""
    channel = World(closed_turns_max=2)["c"]
    channel.boot()
    for _ in range(2):
        channel.press("ana")
        channel.join("bo")
        channel.close()
    with pytest.raises(TurnBacklogError, match="2 closed turns of channel 'c'"):
        channel.press("ana")
    channel.join("cy")
    channel.record(1)
    assert channel.press("ana").opened
    assert not channel.press("bo").opened


def test_backlog_of_turns_without_choices() -> None:
    """A host that closes turns by a timer can't pile them up either."""
    channel = World(closed_turns_max=2)["c"]
    channel.boot()
    for _ in range(2):
        channel.ask(m.CloseWindow(empty=True))
    with pytest.raises(TurnBacklogError, match="2 closed turns of channel 'c'"):
        channel.ask(m.CloseWindow(empty=True))
    channel.record(1)
    assert channel.ask(m.CloseWindow(empty=True)).turn == 3


def test_backlog_leaves_repeats_alone() -> None:
    """A repeated press is answered also when no window may open."""
    channel = World(closed_turns_max=1)["c"]
    channel.boot()
    first = channel.press("ana", press_id="x")
    channel.close()
    assert channel.press("ana", press_id="x") == first


def test_roster_is_bounded() -> None:
    """A full roster refuses new players, not those on it."""
    channel = World(players_max=1)["c"]
    channel.boot()
    channel.join("ana")
    with pytest.raises(LimitError, match="roster of channel 'c' is full"):
        channel.join("bo")
    with pytest.raises(LimitError, match="roster"):
        channel.press("bo")
    channel.press("ana")
    channel.join("ana")
    assert list(channel.state.players) == ["ana"]


def test_choices_must_fit_a_record() -> None:
    """No press makes a turn that no record can hold."""
    channel = World(record_bytes_max=4_000, summary_max=100)["c"]
    channel.boot()
    channel.press("ana", "x" * 1_500)
    with pytest.raises(LimitError, match="record of 4000 bytes"):
        channel.press("bo", "ä" * 1_000)
    channel.press("ana", "y" * 2_000)
    turn = channel.close()
    assert dict(channel.record(turn.turn, "ä" * 500).choices) == {"ana": "y" * 2_000}


@pytest.mark.skipif(is_compiled(), reason="compiled modules can't have their functions replaced")
def test_a_refused_choice_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many choices there are, and however often somebody tries."""
    channel = World(record_bytes_max=4_000, summary_max=100)["c"]
    channel.boot()
    for player in range(30):
        channel.press(f"p{player}", "x" * 50, 100.0)
    measured = 0

    def counted(user_id: str, text: str) -> int:
        nonlocal measured
        measured += 1
        return choice_bytes(user_id, text)

    monkeypatch.setattr(_turns, "choice_bytes", counted)
    for _ in range(10):
        with pytest.raises(LimitError):
            channel.press("p0", "y" * 2_000, 100.0)
    assert measured <= 30 + 10 * 2
    channel.press("p0", "z" * 500, 100.0)
    assert channel.state.choices["p0"].text == "z" * 500


@pytest.mark.parametrize("now", [math.nan, math.inf])
@pytest.mark.parametrize("message", [m.Join("bo", "Bo"), m.Press("bo", "Bo", "run")])
def test_what_is_no_moment_is_no_stamp(channel: Channel, message: object, now: float) -> None:
    """A clock that is broken makes a message crash; nothing of it is written."""
    channel.press("ana", "run", 100.0)
    with pytest.raises(RuntimeError):
        channel.world.behaviour.handle(channel.state, message, now)


def test_next_turn_waits_for_a_close(channel: Channel) -> None:
    """Waiting goes on until a turn closes; all waiters get the oldest unrecorded one."""
    waiting = channel.ask(m.NextTurn())
    assert isinstance(waiting, Later)
    channel.press("ana")
    assert isinstance(channel.ask(waiting.message), Later)
    channel.close()
    channel.press("ana")
    channel.close()
    for message in (waiting.message, m.NextTurn()):
        assert channel.ask(message).turn == 1
    assert channel.ask(m.NextTurn(after=1)).turn == 2
    assert isinstance(channel.ask(m.NextTurn(after=2)), Later)
    channel.record(1)
    assert channel.ask(waiting.message).turn == 2


@pytest.mark.parametrize("leave", ["exit", "swap"])
def test_waiters_end_with_their_game(channel: Channel, leave: str) -> None:
    """A waiter of a game that has left gets `NoActiveGameError`, whatever runs now."""
    waiting = channel.ask(m.NextTurn()).message
    getattr(channel, leave)()
    assert WakeWaiters() in channel.decision.effects
    with pytest.raises(NoActiveGameError):
        channel.ask(waiting)


def test_record_goes_into_history(channel: Channel) -> None:
    """A record has the turn's choices and the narrative's beginning, and is kept."""
    channel.press("ana", "run")
    channel.close()
    record = channel.record(1, "x" * 600)
    assert (record.turn, dict(record.choices)) == (1, {"ana": "run"})
    assert record.narrative_summary == "x" * 500
    assert record.timestamp == channel.world.now
    assert channel.history() == (record,)
    assert channel.snapshot().closed_turns == ()
    assert channel.events[-1] == TurnRecorded("c", GAME, 1, narration=False)


def test_record_is_done_once(channel: Channel) -> None:
    """The second record of a turn gives the first one and changes nothing."""
    channel.press("ana")
    channel.close()
    first = channel.record(1, "first")
    decision = channel.send(m.Record(1, GAME, "second"))
    assert decision.reply == first
    assert not decision.writes


def test_record_is_not_taken_for_another(channel: Channel) -> None:
    """An interlude with the same number is no record of the turn."""
    channel.press("ana")
    channel.close()
    channel.ask(m.Narrate("meanwhile"))
    assert channel.record(1, "then").narrative_summary == "then"
    assert channel.record(1, "again").narrative_summary == "then"
    assert [entry.narrative_summary for entry in channel.history()] == ["meanwhile", "then"]


def test_record_refusals(channel: Channel) -> None:
    """Of another game: stale. Never closed: unknown. Long over: stale."""
    channel.press("ana")
    with pytest.raises(StaleTurnError, match=OTHER):
        channel.record(1, game_id=OTHER)
    for turn in (0, 1, 2):
        with pytest.raises(UnknownTurnError, match="never closed"):
            channel.record(turn)


def test_record_that_has_left_the_history() -> None:
    """A turn whose record was dropped from the history can't be recorded again."""
    channel = World(history_max=2)["c"]
    channel.boot()
    for turn in range(1, 5):
        channel.ask(m.CloseWindow(empty=True))
        channel.record(turn)
    assert [entry.turn for entry in channel.history()] == [3, 4]
    with pytest.raises(StaleTurnError, match="no longer in the history"):
        channel.record(1)


def test_records_in_any_order(channel: Channel) -> None:
    """Turns may be recorded out of order; the oldest unrecorded one stays next."""
    for _ in range(3):
        channel.ask(m.CloseWindow(empty=True))
    channel.record(2)
    assert channel.ask(m.NextTurn()).turn == 1
    channel.record(1)
    assert channel.ask(m.NextTurn()).turn == 3
    assert [entry.turn for entry in channel.history()] == [2, 1]


def test_record_too_large() -> None:
    """A record over the limit is refused and changes nothing."""
    channel = World(record_bytes_max=300, summary_max=10_000)["c"]
    channel.boot()
    with pytest.raises(LimitError, match="300 are the limit"):
        channel.ask(m.Narrate("x" * 400))
    assert channel.history() == ()


def test_narrate(channel: Channel) -> None:
    """An interlude has no choices, the current turn's number, and raises no skips."""
    channel.join("ana")
    record = channel.ask(m.Narrate("Once upon a time"))
    assert (record.turn, dict(record.choices)) == (0, {})
    assert channel.state.players["ana"].consecutive_skips == 0
    assert channel.state.turn_number == 0


def test_narrate_in_an_open_window(channel: Channel) -> None:
    """An interlude and a save leave an open window as it is."""
    channel.press("ana", "run", 100.0, press_id="x")
    channel.ask(m.Narrate("meanwhile"), 101.0)
    channel.ask(m.Save(), 102.0)
    assert channel.snapshot().window == Window(100.0, 110.0)
    assert channel.press("bo", "hide", 103.0).opened is False
    assert list(channel.close().choices.items()) == [("ana", "run"), ("bo", "hide")]


@pytest.mark.parametrize("count", [0, 1, 3, 50, 1_000])
def test_history_is_the_latest(channel: Channel, count: int) -> None:
    """The latest records, oldest first; none for 0."""
    for number in range(5):
        channel.ask(m.Narrate(str(number)))
    told = [entry.narrative_summary for entry in channel.history(count)]
    assert told == ["0", "1", "2", "3", "4"][max(0, 5 - count) :]


def test_history_is_trimmed() -> None:
    """So many records are kept, in memory and in the store."""
    channel = World(history_max=3)["c"]
    channel.boot()
    for number in range(5):
        channel.ask(m.Narrate(str(number)))
    assert [entry.narrative_summary for entry in channel.history()] == ["2", "3", "4"]


def test_unreadable_record_is_told_of(channel: Channel) -> None:
    """A record that turns out to be damaged is left out and reported, not passed over."""
    channel.ask(m.Narrate("good"))
    channel.state.records = (b"{", *channel.state.records)
    decision = channel.world.behaviour.handle(channel.state, m.ReadHistory(5), 1.0)
    assert [entry.narrative_summary for entry in decision.reply] == ["good"]
    (effect,) = decision.effects
    assert isinstance(effect.event, RecordUnreadable)  # type: ignore[union-attr]


def test_press_writes_only_itself(world: World) -> None:
    """What a press writes doesn't grow with the roster or the history."""
    sizes: list[int] = []
    for users in (10, 1_000):
        channel = world[f"c{users}"]
        channel.boot(f"game{users}")
        for user in range(users):
            channel.world.behaviour.handle(channel.state, m.Join(f"u{user}", "U"), 1.0)
        channel.state.records = (b"{}",) * (users // 20)
        behaviour = channel.world.behaviour
        decision = behaviour.handle(channel.state, m.Press("u1", "U", "run"), 2.0)
        (write,) = decision.writes
        assert isinstance(write, PatchHash)
        sizes.append(sum(len(name) + len(value) for name, value in write.fields.items()))
    # The entry's number has more digits, and that is all.
    assert sizes[1] - sizes[0] <= 8


def test_shift_moves_an_open_window(channel: Channel) -> None:
    """When the host's clock is set, the deadline moves along, in the store too."""
    behaviour = channel.world.behaviour
    assert behaviour.shifted(channel.state, 5.0) == ()
    channel.press("ana", now=100.0)
    for write in behaviour.shifted(channel.state, -50.0):
        channel.world.store.write(write)
    assert channel.state.snapshot().window == Window(50.0, 60.0)
    channel.world.now = 55.0
    channel.compare()


def test_shift_moves_no_window_before_the_epoch(channel: Channel) -> None:
    """A clock may be set to its beginning: what is stored then can be read again."""
    behaviour = channel.world.behaviour
    channel.press("ana", now=100.0)
    for write in behaviour.shifted(channel.state, -103.0):
        channel.world.store.write(write)
    assert channel.state.snapshot().window == Window(0.0, 7.0)
    channel.world.now = 2.0
    channel.compare()


def test_sender_is_the_player(channel: Channel) -> None:
    """Presses and joins take their player's share of the mailbox, all else nobody's."""
    behaviour = channel.world.behaviour
    assert behaviour.sender(m.Press("ana", "Ana", "run")) == "ana"
    assert behaviour.sender(m.Join("bo", "Bo")) == "bo"
    assert behaviour.sender(m.ReadState()) is None


def test_close_passes_capacity(channel: Channel) -> None:
    """Closing relieves a full mailbox, so it may always enter; a press may not."""
    behaviour = channel.world.behaviour
    assert behaviour.passes_capacity(m.CloseWindow())
    assert not behaviour.passes_capacity(m.Press("ana", "Ana", "run"))


def test_release_and_due(channel: Channel) -> None:
    """A window is due at its deadline, a closed turn since its close; either keeps the actor."""
    behaviour = channel.world.behaviour
    assert behaviour.due_at(channel.state) is None
    assert behaviour.may_release(channel.state)
    channel.press("ana", now=100.0)
    assert behaviour.due_at(channel.state) == math.nextafter(110.0, 200.0)
    assert not behaviour.may_release(channel.state)
    channel.close(now=105.0)
    assert behaviour.due_at(channel.state) == 105.0
    assert not behaviour.may_release(channel.state)
    channel.record(1)
    assert behaviour.due_at(channel.state) is None
    assert behaviour.may_release(channel.state)


@pytest.mark.skipif(is_compiled(), reason="compiled modules can't have their functions replaced")
def test_crash_in_a_rule_is_no_refusal(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that refuses after it has changed something is a bug, and crashes the actor."""
    from gamegirl.actors.session import _records

    def refuse(*_: object, **__: object) -> None:
        raise LimitError("too late")

    channel.press("ana")
    channel.close()
    monkeypatch.setattr(_records, "recorded_field", refuse)
    with pytest.raises(RuntimeError, match="after it had changed"):
        channel.record(1)
