"""What the tests of the examples share: the examples as modules."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example() -> Iterator[Callable[[str], ModuleType]]:
    """Imports an example by its name."""
    imported: list[str] = []

    def load(name: str) -> ModuleType:
        alias = f"example_{name}"
        spec = importlib.util.spec_from_file_location(alias, EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[alias] = module  # attrs looks its classes up there
        imported.append(alias)
        spec.loader.exec_module(module)
        return module

    yield load
    for alias in imported:
        del sys.modules[alias]
