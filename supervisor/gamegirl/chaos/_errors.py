"""What goes wrong with the bench itself, which is no verdict on the runtime."""

from __future__ import annotations


class BenchError(Exception):
    """The scenario can't be run here: what is missing, and what to do."""
