"""What a scenario is: what happens in it, what must hold, and how much of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs

from gamegirl.chaos._bench import Bench

REDIS, SQLITE = "redis", "sqlite"


@attrs.frozen(kw_only=True)
class Scenario:
    """One way in which the world goes wrong, and what must hold nevertheless.

    Attributes:
        name: As on the command line.
        happens: What is done, in a sentence.
        promise: What must hold.
        control: Which safeguard `--control` takes away, so that the promise breaks.
        unit: What a round is, in the plural.
        rounds: Of a full run, over both hosts.
        batch: So many rounds at most are played in one world before its books are judged.
        small: Rounds of the form for the test suite, on each host.
        control_rounds: Rounds of the control, on each host.
        run: Plays so many rounds and reports to the bench.
        stores: Where it can be played.
        own_server: It kills, stops or fills the server, and so needs one of the bench's own.
    """

    name: str
    happens: str
    promise: str
    control: str
    unit: str
    rounds: int
    batch: int
    small: int
    run: Callable[[Bench, int], Awaitable[None]]
    control_rounds: int = 20
    stores: frozenset[str] = frozenset((REDIS,))
    own_server: bool = False
