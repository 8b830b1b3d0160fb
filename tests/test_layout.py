"""The project's layout: one namespace, three floors, public names, examples that run."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import pkgutil
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import gamegirl

ROOT = Path(__file__).parent.parent
FLOORS = ("codec", "actors", "supervisor")
PUBLIC = (
    "gamegirl.codec",
    "gamegirl.actors",
    "gamegirl.supervisor",
    "gamegirl.testing",
    "gamegirl.chaos",
    "gamegirl.load",
    "gamegirl.web",
    "gamegirl.cli",
)
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(gamegirl.__path__, "gamegirl.", onerror=lambda _: None)
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("floor", FLOORS)
def test_gamegirl_is_a_namespace_without_a_file_of_its_own(floor: str) -> None:
    """A `gamegirl/__init__.py` in one source root would hide the other two."""
    assert (ROOT / floor / "gamegirl").is_dir()
    assert not (ROOT / floor / "gamegirl" / "__init__.py").exists()


def test_the_whole_package_is_typed() -> None:
    """One marker types all floors of the wheel."""
    markers = [
        str(path.relative_to(ROOT)) for floor in FLOORS for path in (ROOT / floor).rglob("py.typed")
    ]
    assert markers == ["supervisor/gamegirl/py.typed"]


def test_what_is_compiled_for_a_wheel_is_there() -> None:
    """A module that was moved or renamed is noticed before anybody builds a wheel."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    hook = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    assert hook["modules"]
    assert set(hook["modules"]) <= set(MODULES)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_can_be_imported(name: str) -> None:
    """What a package lists is there, and listed once."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"{name} does not exist yet")
    package = importlib.import_module(name)
    assert len(set(package.__all__)) == len(package.__all__)
    for public in package.__all__:
        assert hasattr(package, public), public


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str) -> None:
    """Whoever copies an example from a docstring gets what it shows."""
    module: ModuleType = importlib.import_module(name)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(module, optionflags=options).failed == 0
