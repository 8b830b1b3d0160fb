"""The production code in simulated time, from a seed: hours of play in moments, twice alike."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from gamegirl.actors import ClosedTurn, Session
from gamegirl.supervisor import Clock, MemoryStore, Settings, Supervisor

EPOCH = 1_800_000_000.0


def play(seed: int) -> list[tuple[str, int, float, str]]:
    """An evening in three channels: what each record says, and when, in simulated seconds."""
    told: list[tuple[str, int, float, str]] = []

    async def evening() -> None:
        chance = random.Random(seed)

        async def narrate(turn: ClosedTurn, session: Session) -> str:
            await trio.sleep(chance.uniform(5, 120))  # a language model takes its time
            told.append((turn.channel_id, turn.turn, trio.current_time(), turn.format_choices()))
            return "told"

        async with Supervisor(
            MemoryStore(clock=trio.current_time),
            settings=Settings(idle_seconds=600),
            on_turn=narrate,
            clock=Clock(trio.current_time, lambda: EPOCH + trio.current_time()),
            randomness=random.Random(seed),
        ) as supervisor:
            for number in range(200):
                session = supervisor.session(f"c{chance.randrange(3)}")
                if not (await session.state()).active:
                    await session.boot("G")
                user = str(chance.randrange(5))
                await session.press(user, f"Player {user}", f"choice {number}")
                await trio.sleep(chance.expovariate(1 / 30))
            await trio.sleep(1000)
            assert supervisor.statistics().live["session"] == 0

    trio.run(evening, clock=trio.testing.MockClock(autojump_threshold=0))
    return told


@pytest.mark.parametrize("seed", range(3))
def test_an_evening_is_simulated_in_moments_and_repeats_from_its_seed(seed: int) -> None:
    """Windows, narrators, idle release: every record has the same time and text in both runs."""
    first, second = play(seed), play(seed)
    assert first == second, f"seed {seed}"
    assert len(first) > 50, f"seed {seed}"
    assert first[-1][2] > 3600, f"seed {seed}"
