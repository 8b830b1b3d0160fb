"""Errors say what happened, where, and whether the call can be repeated."""

from __future__ import annotations

import pytest

from gamegirl.codec import CodecError, Fate, Fault, GameGirlError, InvalidIdError


def test_every_error_has_a_fate() -> None:
    """Its class says it, unless whoever raises it knows better."""
    assert GameGirlError("x").fate is Fate.NOT_EXECUTED
    assert InvalidIdError("x").fate is Fate.NOT_DELIVERED
    assert InvalidIdError("x", fate=Fate.IN_DOUBT).fate is Fate.IN_DOUBT
    assert InvalidIdError.fate is Fate.NOT_DELIVERED


def test_a_codec_error_shows_all_its_faults() -> None:
    """In its message, and as data."""
    faults = (Fault("", "is empty"), Fault("players.42", "is missing"))
    error = CodecError("Game", faults)
    assert str(error) == "Game: is empty; players.42: is missing"
    assert error.faults == faults
    with pytest.raises(ValueError, match="is empty"):
        raise error
