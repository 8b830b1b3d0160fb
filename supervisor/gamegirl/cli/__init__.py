"""The command `gamegirl`: play in a terminal, look at games, move them between stores."""

from __future__ import annotations

import sys

__all__ = ["main"]

_EXTRA = frozenset(("click", "rich", "typer"))


def main() -> None:
    """Run the command with the process's arguments; ends the process.

    Nothing is imported before, so that a missing extra is one sentence and not a traceback.
    """
    try:
        from gamegirl.cli._app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write(
            f"The command gamegirl needs {error.name}, which comes with the extra `cli`: "
            "pip install 'gamegirl[cli]'\n"
        )
        raise SystemExit(2) from None
    run()
