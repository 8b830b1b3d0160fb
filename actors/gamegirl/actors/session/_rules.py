"""The numbers and texts that a session goes by."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs

from gamegirl.actors._errors import InvalidInputError

_BOOT_BANNER = """\
{title_screen_url}
**{engine_name}**
Loading cartridge: {game_name}
Game id: `{game_id}`
Awaiting input…"""

_EXIT_BANNER = """\
**{game_name}** was saved and ejected.
Turn {turn_number}, {players} players.
Game id: `{game_id}`"""

_BOOT_NAMES = ("title_screen_url", "engine_name", "game_name", "game_id", "channel_id")
_EXIT_NAMES = ("game_name", "game_id", "turn_number", "players", "channel_id")
_NUMBERS = ("turn_number", "players")


def check_seconds(_: object, field: attrs.Attribute[float], value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidInputError(f"{field.name} is a number of seconds, not {value!r}")
    if not math.isfinite(value) or value <= 0:
        raise InvalidInputError(f"{field.name} is a finite number above 0, not {value!r}")


def check_count(least: int) -> Callable[[object, attrs.Attribute[int], Any], None]:
    def check(_: object, field: attrs.Attribute[int], value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InvalidInputError(f"{field.name} is a whole number from {least}, not {value!r}")

    return check


def _text(_: object, field: attrs.Attribute[str], value: Any) -> None:
    if not isinstance(value, str):
        raise InvalidInputError(f"{field.name} is a text, not {value!r}")


def _template(*names: str) -> Callable[[object, attrs.Attribute[str], Any], None]:
    def check(_: object, field: attrs.Attribute[str], value: Any) -> None:
        if not isinstance(value, str):
            raise InvalidInputError(f"{field.name} is a text, not {value!r}")
        try:
            value.format(**{name: 0 if name in _NUMBERS else "" for name in names})
        except (LookupError, ValueError, AttributeError) as error:
            raise InvalidInputError(
                f"{field.name} is no template: {error!r}; it may name "
                + ", ".join(f"{{{name}}}" for name in names)
            ) from error

    return check


@attrs.frozen(kw_only=True)
class SessionRules:
    """The settings that the rules of a session need. Times are seconds.

    Attributes:
        window_seconds: From the first press of a turn to its close.
        history_max: So many records are kept.
        summary_max: A record's narrative is cut to so many characters.
        closed_turns_max: So many turns may wait for their narrative.
        hash_ttl_seconds: The hash form of a session goes after so long without a full write.
        default_title_screen_url: Shown for a game that has none of its own.
        engine_name: Shown when a game boots.
        boot_banner: A template that may name `{title_screen_url}`, `{engine_name}`, `{game_name}`,
            `{game_id}` and `{channel_id}`.
        exit_banner: A template that may name `{game_name}`, `{game_id}`, `{turn_number}`,
            `{players}` and `{channel_id}`.
        players_max: Players on one roster.
        turn_retries_max: So often `on_turn` is tried again before the turn gets an empty record.
        choice_max: Characters of a choice.
        name_max: Characters of a player's or a game's name.
        url_max: Characters of a title screen's address.
        record_bytes_max: Bytes of a stored record.
        press_ids_max: So many press ids are remembered a user and window.
    """

    window_seconds: float = attrs.field(default=10.0, validator=check_seconds)
    history_max: int = attrs.field(default=50, validator=check_count(1))
    summary_max: int = attrs.field(default=500, validator=check_count(0))
    closed_turns_max: int = attrs.field(default=16, validator=check_count(1))
    hash_ttl_seconds: float = attrs.field(default=14_400.0, validator=check_seconds)
    default_title_screen_url: str = attrs.field(
        default=(
            "https://media.discordapp.net/attachments/1471559090768576665/1480497795747156080/"
            "stargazer_title_screen.webp"
        ),
        validator=_text,
    )
    engine_name: str = attrs.field(
        default="Stargazer Narrative Engine System (S.N.E.S.)", validator=_text
    )
    boot_banner: str = attrs.field(default=_BOOT_BANNER, validator=_template(*_BOOT_NAMES))
    exit_banner: str = attrs.field(default=_EXIT_BANNER, validator=_template(*_EXIT_NAMES))
    players_max: int = attrs.field(default=10_000, validator=check_count(1))
    turn_retries_max: int = attrs.field(default=5, validator=check_count(0))
    choice_max: int = attrs.field(default=2_000, validator=check_count(1))
    name_max: int = attrs.field(default=200, validator=check_count(1))
    url_max: int = attrs.field(default=2_000, validator=check_count(1))
    record_bytes_max: int = attrs.field(default=1_048_576, validator=check_count(1))
    press_ids_max: int = attrs.field(default=64, validator=check_count(1))
