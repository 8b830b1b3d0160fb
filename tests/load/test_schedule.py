"""The schedule and the crowd: decided before anything is answered, and the same for one seed."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from statistics import pstdev

import pytest

from gamegirl.actors import InvalidInputError
from gamegirl.load import Arrivals, Plan, Stall, Step, ramp
from gamegirl.load._crowd import Crowd, home, weights
from gamegirl.load._schedule import arrivals

STEPS = (Step(50.0, 10.0), Step(200.0, 10.0))


def crowd(process: int = 0, processes: int = 1, skew: float = 1.0, channels: int = 200) -> Crowd:
    return Crowd.of(channels=channels, skew=skew, players=3, process=process, processes=processes)


@pytest.mark.parametrize("kind", Arrivals)
def test_the_rate_of_each_step_is_kept(kind: Arrivals) -> None:
    """In the long run so many presses come as were asked for, and none goes back in time."""
    times = list(arrivals(STEPS, kind, 1.0, random.Random(7)))
    assert times == sorted(times)
    assert sum(time < 10 for time in times) == pytest.approx(500, rel=0.15)
    assert sum(time >= 10 for time in times) == pytest.approx(2000, rel=0.1)
    assert max(times) < 20


def test_constant_arrivals_are_evenly_apart_and_poisson_ones_are_not() -> None:
    """A metronome has no spread; arrivals by chance have one as wide as their mean."""
    gaps = {
        kind: [
            later - earlier
            for earlier, later in pairwise(arrivals(STEPS[:1], kind, 1.0, random.Random(7)))
        ]
        for kind in Arrivals
    }
    assert pstdev(gaps[Arrivals.CONSTANT]) < 1e-9
    assert pstdev(gaps[Arrivals.POISSON]) == pytest.approx(1 / 50, rel=0.2)


def test_one_seed_is_one_schedule() -> None:
    """A run repeats from its seed; another seed is another run."""
    first, again, other = (
        list(arrivals(STEPS, Arrivals.POISSON, 0.5, random.Random(seed))) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_channels_are_split_between_processes_without_rest() -> None:
    """Each channel is played by exactly one process, and the shares of all presses add up to 1."""
    parts = [crowd(process, 3) for process in range(3)]
    assert sorted(number for part in parts for number in part.numbers) == list(range(200))
    assert sum(part.share for part in parts) == pytest.approx(1.0)
    for process, part in enumerate(parts):
        assert all(home(number, 3) == process for number in part.numbers)
        assert part.numbers


def test_business_follows_zipf() -> None:
    """With the exponent 1 the first channel gets twice what the second gets; with 0 the same."""
    assert weights(100, 1.0)[0] == pytest.approx(2 * weights(100, 1.0)[1])
    assert len(set(weights(100, 0.0))) == 1
    chosen, randomness = Counter[int](), random.Random(3)
    players = Counter[int]()
    busy = crowd()
    for _ in range(20_000):
        position, player = busy.choose(randomness)
        chosen[busy.numbers[position]] += 1
        players[player] += 1
    assert chosen[0] == pytest.approx(2 * chosen[1], rel=0.15)
    assert chosen[0] / 20_000 == pytest.approx(weights(200, 1.0)[0], rel=0.1)
    assert set(players) == {0, 1, 2}


def test_a_process_without_channels_offers_nothing() -> None:
    """With fewer channels than processes, some have nothing to do."""
    idle = next(part for part in (crowd(n, 8, channels=1) for n in range(8)) if not part.numbers)
    assert idle.share == 0
    assert list(arrivals(STEPS, Arrivals.POISSON, idle.share, random.Random(1))) == []


def test_a_ramp_rises_evenly() -> None:
    """Its steps are equally long, its first and last rate are the given ones."""
    steps = ramp("100..500", 5, 10.0)
    assert [step.rate for step in steps] == [100, 200, 300, 400, 500]
    assert {step.seconds for step in steps} == {2.0}


@pytest.mark.parametrize("text", ["100", "100..", "..5", "500..100", "a..b", "0..10", "1..nan"])
def test_what_is_no_ramp_is_refused(text: str) -> None:
    """With a sentence that says how one is written, or what is wrong with it."""
    with pytest.raises(InvalidInputError, match="ramp"):
        ramp(text, 4, 10.0)


@pytest.mark.parametrize("text", ["2", "@3", "2@", "0@1", "-1@2", "x@y", "2@-1", "nan@1"])
def test_what_is_no_stall_is_refused(text: str) -> None:
    """So that nobody takes a run without a stall for one with it."""
    with pytest.raises(InvalidInputError, match="stall"):
        Stall.parse(text)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"steps": (Step(0.0, 1.0),)}, "rate"),
        ({"steps": (Step(float("nan"), 1.0),)}, "rate"),
        ({"steps": (Step(1.0, 0.0),)}, "seconds"),
        ({"channels": 0}, "channels"),
        ({"players": 0}, "players"),
        ({"window": 0.0}, "window"),
        ({"skew": -1.0}, "skew"),
        ({"processes": 0}, "processes"),
        ({"processes": 4, "in_flight_max": 3}, "in flight"),
        ({"backend": "curio"}, "backend"),
        ({"stall": Stall(1.0, 10.0)}, "stall"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(changes: dict[str, object], reason: str) -> None:
    """Before anything is started; the message says which number is wrong."""
    given: dict[str, object] = {"steps": (Step(10.0, 5.0),), **changes}
    with pytest.raises(InvalidInputError, match=reason):
        Plan(**given)  # type: ignore[arg-type]


def test_a_plan_travels_as_json() -> None:
    """What a process is told is what was ordered."""
    plan = Plan(steps=STEPS, stall=Stall(1.0, 2.0), arrivals=Arrivals.CONSTANT, backend="trio")
    assert Plan.of_plain(plan.plain()) == plan
