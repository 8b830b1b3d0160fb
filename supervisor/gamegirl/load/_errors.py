"""What keeps a load test from being run, which is no verdict on the runtime."""

from __future__ import annotations

from gamegirl.codec import GameGirlError


class LoadError(GameGirlError):
    """The load can't be played as it was ordered: what is missing, and what to do."""


class TargetError(LoadError):
    """There is no store that the load may be played on."""
