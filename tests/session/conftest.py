"""What the tests of the session share: a store in a dict, and channels that play on it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The helpers beside this file are imported as `tests.session.…`, whatever pytest was started from.
if (root := str(Path(__file__).parents[2])) not in sys.path:
    sys.path.insert(0, root)

from tests.session.world import World


@pytest.fixture
def world() -> World:
    """An empty store."""
    return World()
