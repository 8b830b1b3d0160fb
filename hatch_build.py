"""Compiles the modules in which decisions are made and spelled, for the wheel of one platform.

They are the same modules: those named in pyproject.toml go through mypyc, and the wheel holds what
comes of it beside the sources, which Python imports where there is nothing compiled for it. It is
done only if a build asks for it, since it takes a C compiler and Python's headers:

    HATCH_BUILD_HOOKS_ENABLE=1 pip wheel --no-deps .
"""

from __future__ import annotations

import os
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_ROOTS = ("codec", "actors", "supervisor")


class CompiledModules(BuildHookInterface[Any]):
    """Puts the compiled modules into a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile them, unless the project is installed in place: then its sources are what runs.

        Raises:
            FileNotFoundError: A module that pyproject.toml names isn't there.
        """
        if version == "editable":
            return
        root = Path(self.root)
        sources = [self._source(root, name) for name in self.config["modules"]]
        made = root / "build" / "compiled"
        shutil.rmtree(made, ignore_errors=True)
        with chdir(root):  # mypy finds its settings there.
            _compile(sources, made)
        build_data["force_include"].update(
            {str(path): str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
        )
        build_data.update(pure_python=False, infer_tag=True)

    def _source(self, root: Path, name: str) -> str:
        for folder in _ROOTS:
            path = Path(folder, *name.split(".")).with_suffix(".py")
            if (root / path).is_file():
                return str(path)
        raise FileNotFoundError(f"pyproject.toml has {name} compiled, but there is no such module")


def _compile(sources: list[str], to: Path) -> None:
    # Here, since only who compiles has them.
    from mypyc.build import mypycify
    from setuptools import Distribution  # type: ignore[import-untyped]

    scratch = to.with_name("scratch")
    shutil.rmtree(scratch, ignore_errors=True)
    extensions = mypycify(
        ["--follow-imports=silent", *sources],  # Of all others only the types count.
        opt_level="3",
        debug_level="0",
        group_name="gamegirl",
        target_dir=str(scratch),
    )
    command: Any = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(to), str(scratch)
    command.parallel = os.cpu_count()
    command.ensure_finalized()
    command.run()
