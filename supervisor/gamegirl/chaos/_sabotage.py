"""What the controls take away: one safeguard each, so that a scenario shows that it can fail.

Each is called in a worker with its store, before the supervisor is made, and gives the store that
it uses instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from msgspec.structs import replace

from gamegirl.supervisor import Store
from gamegirl.supervisor.stores import Commit, Conflict, Done, Fenced, Outcome


class _Wrapped:
    """A store that passes everything on."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __repr__(self) -> str:
        return repr(self._store)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class _Unfenced(_Wrapped):
    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        outcomes = list(await self._store.commit(commits))
        for position, (commit, outcome) in enumerate(zip(commits, outcomes, strict=True)):
            while isinstance(outcome, (Fenced, Conflict)):
                (fence,) = await self._store.read([commit.actor.fence])
                held = cast("dict[bytes, bytes]", fence or {})
                forced = replace(
                    commit,
                    owner=held[b"owner"].decode(),
                    revision=int(held[b"rev"]) + 1,
                )
                (outcome,) = await self._store.commit([forced])
            outcomes[position] = Done() if isinstance(outcome, Done) else outcome
        return outcomes


def unfenced(store: Store) -> Store:
    """Commits are made whoever owns the channel by now."""
    return cast(Store, _Unfenced(store))


class _Unconditional(_Wrapped):
    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        return await self._store.commit([replace(commit, requires=()) for commit in commits])


def unconditional(store: Store) -> Store:
    """Commits are made whoever holds the games they are about by now."""
    return cast(Store, _Unconditional(store))


class _Forgetful(_Unfenced):
    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._sent: dict[str, int] = {}

    async def commit(self, commits: Sequence[Commit]) -> Sequence[Outcome]:
        fresh: list[Commit] = []
        for commit in commits:
            times = self._sent[commit.commit_id] = self._sent.get(commit.commit_id, 0) + 1
            name = commit.commit_id if times == 1 else f"{commit.commit_id}.{times}"
            fresh.append(replace(commit, commit_id=name))
        return await super().commit(fresh)


def forgetful(store: Store) -> Store:
    """A commit that is sent again has another name each time, and nobody sees that it was done."""
    return cast(Store, _Forgetful(store))
