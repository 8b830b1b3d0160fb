"""What the documentation says is so: its code is the examples, they run, its names exist."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

from gamegirl import actors
from gamegirl.supervisor import MemoryStore, Settings, Supervisor

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text()
DESIGN = (ROOT / "docs" / "design.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()

Example = Callable[[str], ModuleType]


def blocks(page: Path) -> list[str]:
    found: list[str] = re.findall(r"```python\n(.*?)\n```", page.read_text(), re.DOTALL)
    return found


def test_all_python_in_the_documentation_is_in_an_example() -> None:
    sources = [path.read_text() for path in EXAMPLES]
    shown = [block for page in PAGES for block in blocks(page)]
    assert len(shown) >= len(EXAMPLES)
    for block in shown:
        assert any(block in source for source in sources), block


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_runs_as_it_is(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize("name", ["asyncio_bot", "trio_bot"])
def test_a_bot_plays_on_in_redis_when_it_is_started_again(
    name: str, example: Example, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main: Any = example(name).main
    for turn in (1, 2):
        anyio.run(main, redis_url, backend=name.removesuffix("_bot"))
        printed = capsys.readouterr().out
        assert ("Loading cartridge: Neon Catacombs" in printed) == (turn == 1)
        assert printed.endswith(f"Neon Catacombs, turn {turn}.\nAna: Open the door\nBen: Run\n")


@pytest.mark.anyio
async def test_turns_are_waited_for(example: Example, capsys: pytest.CaptureFixture[str]) -> None:
    await example("waiting").main()
    assert "The lights go out." in capsys.readouterr().out


def test_a_hosted_bot_is_closed_by_another_task_than_started_it(
    example: Example, tmp_path: Path
) -> None:
    async def host() -> None:
        bot: Any = example("hosted_bot").Bot(f"sqlite:///{tmp_path}/games.db")
        await asyncio.create_task(bot.setup_hook())
        await bot.supervisor.session("c").boot("G")
        assert await bot.on_button("c", "42", "Ana", "Run") == pytest.approx(10, abs=1)
        await asyncio.create_task(bot.close())

    asyncio.run(host())


def test_every_test_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", README))
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert named
    assert {name for name in named if f"def {name}(" not in tests} == set()


def test_the_table_of_errors_is_whole() -> None:
    rows = re.findall(r"^\| (`\w+Error`.*?) \|", README, re.MULTILINE)
    named = set(re.findall(r"`(\w+Error)`", "".join(rows)))
    known = {
        name
        for name in actors.__all__
        if isinstance(getattr(actors, name), type)
        and issubclass(getattr(actors, name), actors.GameGirlError)
    }
    assert named == known - {"GameGirlError"}


def test_every_event_that_is_logged_is_in_the_table_of_levels() -> None:
    from gamegirl.supervisor._log import _LEVELS  # pyright: ignore[reportPrivateUsage]

    rows = re.findall(r"^\| (INFO|WARNING|ERROR) \| (.*) \|$", OPERATIONS, re.MULTILINE)
    table = {name: level for level, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert table == {kind.__name__: logging.getLevelName(n) for kind, n in _LEVELS.items()}


def test_settings_that_are_named_exist() -> None:
    fields = set(dir(Settings()))
    named = set(
        re.findall(r"`([a-z]+(?:_[a-z]+)*_(?:seconds|max|share))`", README + DESIGN + OPERATIONS)
    )
    assert named
    assert named <= fields


def test_methods_that_are_named_exist() -> None:
    for owner, name in re.findall(r"(session|supervisor)\.([a-z_]+)\(", README + OPERATIONS):
        cls = actors.SessionRef if owner == "session" else Supervisor
        assert hasattr(cls, name), f"{owner}.{name}"


@pytest.mark.anyio
async def test_all_keys_are_in_the_table_of_keys(example: Example) -> None:
    store = MemoryStore()
    behaviours = [example("poll").Poll()]
    async with Supervisor(store, behaviours=behaviours) as host:
        session = host.session("c")
        booted = await session.boot("G")
        await session.join("1", "Ana")
        await session.press("1", "Ana", "x", press_id="i")
        await session.close_window()
        await session.record(1, "n")
        await session.swap("H")
        await session.press("1", "Ana", "x", press_id="i")
        await host.actor("poll", "p").ask(("open", ["a"], 60.0))
        await host.session("d").load(booted.game_id)
        keys = [key async for batch in store.scan("") for key in batch]
    rows = re.findall(r"^\| `((?:gg|game|sg):[^`]*)` \|", DESIGN, re.MULTILINE)
    patterns = [re.sub(r"\\\{\w+\\\}", "[^:]+", re.escape(row)) for row in rows]
    unknown = [key for key in keys if not any(re.fullmatch(one, key) for one in patterns)]
    assert unknown == []
    # A lease is a key in Redis only, and nothing here was damaged.
    unseen = {row for row, one in zip(rows, patterns, strict=True)
              if not any(re.fullmatch(one, key) for key in keys)}  # fmt: skip
    assert unseen == {"gg:lease:{process}", "gg:quarantine"}
