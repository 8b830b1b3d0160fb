"""What the reading commands show: games, a channel, its history."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gamegirl.actors.session import ActivityTier, Session, TurnRecord
from gamegirl.cli._console import clean, shown
from gamegirl.cli._peek import Look
from gamegirl.supervisor import SavedGame

CROWN = "👑"

TIER_STYLES = {
    ActivityTier.ACTIVE: "green",
    ActivityTier.IDLE: "yellow",
    ActivityTier.DORMANT: "dim",
}


def games_plain(games: Sequence[SavedGame]) -> list[dict[str, Any]]:
    """The games, for a program."""
    return [
        {
            "game_id": game.game_id,
            "game_name": game.game_name,
            "channel_id": game.channel_id,
            "turn_number": game.turn_number,
            "active": game.active,
            "title_screen_url": game.title_screen_url,
        }
        for game in games
    ]


def show_games(console: Console, games: Sequence[SavedGame]) -> None:
    """The games, for a person."""
    if not games:
        console.print("There are no games yet: `gamegirl play CHANNEL` starts one.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("game id", "game", "turn", "channel", ""):
        table.add_column(name, justify="right" if name == "turn" else "left", overflow="fold")
    for game in games:
        table.add_row(
            shown(game.game_id, "cyan"),
            shown(game.game_name),
            str(game.turn_number),
            shown(game.channel_id),
            Text("playing", "green") if game.active else Text("saved", "dim"),
        )
    console.print(table)


def look_plain(look: Look) -> dict[str, Any]:
    """A channel, for a program."""
    session, owner = look.session, look.owner
    window = None if look.reopens else session.window
    return {
        "channel_id": session.channel_id,
        "game_id": session.game_id,
        "game_name": session.game_name,
        "active": session.active,
        "turn_number": session.turn_number,
        "title_screen_url": session.title_screen_url,
        "crown_holder": session.crown_holder,
        "players": [
            {
                "user_id": player.user_id,
                "user_name": player.user_name,
                "joined_turn": player.joined_turn,
                "last_active": player.last_active,
                "last_active_turn": player.last_active_turn,
                "consecutive_skips": player.consecutive_skips,
                "tier": player.tier(session.turn_number, look.now).value,
            }
            for player in session.players.values()
        ],
        "pending_choices": dict(session.pending_choices),
        "window": None
        if window is None
        else {
            "opened_at": window.opened_at,
            "deadline": window.deadline,
            "remaining": max(0.0, window.deadline - look.now),
        },
        "closed_turns": [
            {"turn": turn.turn, "choices": dict(turn.choices), "closed_at": turn.closed_at}
            for turn in session.closed_turns
        ],
        "restored_from": look.source,
        "damaged": list(look.damaged),
        "owner": None
        if owner is None
        else {"token": owner.token, "process": owner.process, "alive": owner.alive},
    }


def show_look(console: Console, look: Look) -> None:
    """A channel, for a person."""
    session = look.session
    title = Text.assemble((clean(session.game_name), "bold"), f"  game {clean(session.game_id)}")
    console.print(title, soft_wrap=True)
    state = "It is being played" if session.active else "Not active: it was played last"
    console.print(
        shown(f"{state} in channel {session.channel_id}, turn {session.turn_number}."),
        soft_wrap=True,
    )
    console.print(shown(_window_line(look)), soft_wrap=True)
    for turn in session.closed_turns:
        console.print(f"Turn {turn.turn} is closed and waits for its narrative.")
    owner = "Nobody owns it." if look.owner is None else f"Owned by {look.owner}."
    console.print(shown(owner), soft_wrap=True)
    for damage in look.damaged:
        console.print(shown(f"Could not be read: {damage}", "yellow"), soft_wrap=True)
    if session.players:
        console.print(roster(session, look.now))


def _window_line(look: Look) -> str:
    session, window = look.session, look.session.window
    if window is None:
        return "No window is open."
    left = window.deadline - look.now
    count = f"{len(session.pending_choices)} of {len(session.players)} have chosen"
    if look.reopens:
        return f"The next owner opens a whole window again; {count}."
    if left <= 0:
        return f"A window is open whose time is up; {count}."
    return f"A window is open for another {left:.1f} s; {count}."


def roster(session: Session, now: float, most: int | None = None) -> Table:
    """The players with crown, tier and choice; those who were active last, if `most` cuts it."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(width=2)
    table.add_column(max_width=30, no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="ellipsis", no_wrap=True)
    players = list(session.players.values())
    if most is not None and len(players) > most:
        # A stable sort, turned round twice: joining order among those who are alike.
        kept = sorted(players, key=lambda player: player.last_active, reverse=True)[:most]
        players = [player for player in players if player in kept]
    for player in players:
        tier = player.tier(session.turn_number, now)
        style = TIER_STYLES[tier]
        choice = session.pending_choices.get(player.user_id)
        skips = f"skipped {player.consecutive_skips}" if player.consecutive_skips else ""
        table.add_row(
            CROWN if player.user_id == session.crown_holder else "",
            shown(player.user_name, style),
            Text(tier.value, style),
            Text(skips, "dim") if choice is None else shown(choice),
        )
    if more := len(session.players) - len(players):
        table.add_row("", f"… and {more} more", "", "")
    return table


def history_plain(records: Sequence[TurnRecord]) -> list[dict[str, Any]]:
    """Records, for a program."""
    return [
        {
            "turn": record.turn,
            "choices": dict(record.choices),
            "narrative_summary": record.narrative_summary,
            "timestamp": record.timestamp,
        }
        for record in records
    ]


def show_history(console: Console, records: Sequence[TurnRecord], names: dict[str, str]) -> None:
    """Records, for a person; `names` are the players' by user id."""
    if not records:
        console.print("Nothing has been recorded yet.")
    for record in records:
        head = Text.assemble(
            (f"Turn {record.turn}", "bold"), (f"  {moment(record.timestamp)}", "dim")
        )
        console.print(head, soft_wrap=True)
        for user_id, choice in record.choices.items():
            console.print(shown(f"  {names.get(user_id, user_id)}: {choice}"), soft_wrap=True)
        if record.narrative_summary:
            console.print(shown(f"  {record.narrative_summary}", "italic"), soft_wrap=True)


def moment(timestamp: float) -> str:
    """The time, or the first or last one that a calendar can show."""
    printable = min(max(timestamp, 0.0), 253_402_300_799.0)
    return f"{datetime.datetime.fromtimestamp(printable, datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
