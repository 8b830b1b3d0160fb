"""What the tests of the runtime share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gamegirl.actors import Write
from gamegirl.supervisor.stores import ActorKey, Claim, Claimed, Commit


@pytest.fixture
def alter() -> Callable[..., Awaitable[None]]:
    """Changes keys of a store behind everybody's back."""

    async def change(store: Any, *writes: Write) -> None:
        actor = ActorKey("vandal", "v")
        (claimed,) = await store.claim([Claim(actor, (), "n")])
        assert isinstance(claimed, Claimed)
        revision = claimed.revision + 1
        await store.commit(
            [Commit(actor, claimed.owner, revision, f"c{revision}", writes=writes, release=True)]
        )

    return change
