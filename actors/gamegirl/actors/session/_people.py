"""The rules of the roster, the crown and the title screen."""

from __future__ import annotations

from gamegirl.actors.session._changes import Changes
from gamegirl.actors.session._data import (
    NOBODY,
    UNKNOWN,
    ActivityTier,
    Crown,
    Player,
)
from gamegirl.actors.session._events import (
    CrownMoved,
    TitleScreenSet,
)
from gamegirl.actors.session._messages import (
    ReadCrown,
    ReadRoster,
    Save,
    SetCrown,
    SetTitleScreen,
)
from gamegirl.actors.session._turns import require_active


def roster(
    changes: Changes, message: ReadRoster
) -> tuple[tuple[Player, ActivityTier], ...] | dict[str, Player]:
    """Everyone with their tier, in joining order; or those who aren't dormant."""
    state, now = changes.state, changes.now
    players = (seat.player() for seat in state.players.values())
    if message.active_only:
        require_active(state)
        return {
            player.user_id: player
            for player in players
            if player.tier(state.turn_number, now) is not ActivityTier.DORMANT
        }
    return tuple((player, player.tier(state.turn_number, now)) for player in players)


def set_crown(changes: Changes, message: SetCrown) -> Crown:
    """Give the crown to a user, or to nobody."""
    state = changes.state
    require_active(state)
    if state.crown_holder != message.user_id:
        state.crown_holder = message.user_id
        changes.full()
        changes.emit(CrownMoved(state.channel_id, state.game_id, message.user_id))
    return crown(changes, ReadCrown())


def crown(changes: Changes, message: ReadCrown) -> Crown:
    """Who holds the crown."""
    user_id = changes.state.crown_holder
    if user_id is None:
        return Crown(None, NOBODY)
    seat = changes.state.players.get(user_id)
    return Crown(user_id, UNKNOWN if seat is None else seat.user_name)


def set_title_screen(changes: Changes, message: SetTitleScreen) -> None:
    """Replace the title screen."""
    state = changes.state
    require_active(state)
    if state.title_screen_url != message.url:
        state.title_screen_url = message.url
        changes.full()
        changes.emit(TitleScreenSet(state.channel_id, state.game_id, message.url))


def save(changes: Changes, message: Save) -> None:
    """Write the full forms now."""
    require_active(changes.state)
    changes.full()
