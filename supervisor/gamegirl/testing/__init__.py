"""For tests of programs that embed the runtime: a store that fails on command, and patience."""

from gamegirl.testing._faulty import FaultyStore
from gamegirl.testing._waiting import eventually

__all__ = ["FaultyStore", "eventually"]
