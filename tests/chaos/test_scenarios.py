"""Each scenario of `gamegirl chaos` in its small form: it holds, and without its safeguard not."""

from __future__ import annotations

from pathlib import Path

import pytest

from gamegirl.chaos import SCENARIOS, Figures, Part, run_part

SEED = 20260101
CONTROL_TRIES = 3
SLACK = 20.0
"""Other tests share the machine: here it is about what happens; `make chaos` is about how soon."""

BACKENDS = ("asyncio", "trio")
ON_SQLITE = [name for name, scenario in SCENARIOS.items() if "sqlite" in scenario.stores]


def played(
    name: str, backend: str, folder: Path, *, store: str = "redis", **changes: int
) -> Figures:
    scenario = SCENARIOS[name]
    part = Part(
        scenario=name,
        backend=backend,
        target=store,
        rounds=changes.get("rounds", scenario.small),
        seed=changes.get("seed", SEED),
        control=bool(changes.get("control", 0)),
        slack=1.0 if changes.get("control", 0) else SLACK,
    )
    print(part)  # noqa: T201 - a fault test says its seed
    folder.mkdir()
    return run_part(scenario, part, folder)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_what_a_scenario_promises_holds(name: str, backend: str, tmp_path: Path) -> None:
    """On a real Redis, with real processes; every round is played."""
    figures = played(name, backend, tmp_path / "world")
    assert figures.violations == []
    assert figures.rounds == SCENARIOS[name].small
    assert sum(figures.counts.values()) > 0


@pytest.mark.parametrize("name", ON_SQLITE)
def test_it_holds_on_sqlite_too(name: str, tmp_path: Path) -> None:
    """Several processes share one database."""
    assert played(name, "asyncio", tmp_path / "world", store="sqlite").violations == []


@pytest.mark.parametrize("name", SCENARIOS)
def test_without_its_safeguard_a_scenario_finds_violations(name: str, tmp_path: Path) -> None:
    """A scenario that can't fail would prove nothing."""
    for attempt in range(CONTROL_TRIES):
        figures = played(name, "asyncio", tmp_path / f"{attempt}", control=1, seed=SEED + attempt)
        if figures.violated:
            return
    pytest.fail(f"{name} found nothing wrong without: {SCENARIOS[name].control}")
