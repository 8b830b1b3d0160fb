"""Runs the benchmarks, shows their results and keeps them in RESULTS.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import monotonic

from rich.console import Console

from benchmarks import _report
from benchmarks._arena import hold
from benchmarks._workloads import WORKLOADS

_RESULTS = Path(__file__).with_name("RESULTS.md")
_ROUNDS = 5
_WIDTH = 160
"""The columns of a table that no terminal bounds."""


def main() -> int:
    """The exit status says whether the benchmarks ran, not whether their goals were met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="W1", help="only these; RESULTS.md stays")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the results of these alone, and say what is missing",
    )
    parser.add_argument(
        "--rounds", type=int, default=_ROUNDS, help="at least 5 for results that count"
    )
    arguments = parser.parse_args()
    names: list[str] = arguments.workloads
    unknown = set(names) - {workload.name for workload in WORKLOADS}
    if unknown:
        parser.error(f"no such workload: {', '.join(sorted(unknown))}")
    started = monotonic()
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    progress = Console(file=sys.stderr)
    with progress.status("starting") as status:
        contests = [
            hold(workload, variant, arguments.rounds, status.update)
            for workload in WORKLOADS
            if not names or workload.name in names
            for variant in workload.variants
        ]
    _report.show(contests, console)
    if (arguments.keep or not names) and arguments.rounds >= _ROUNDS:
        left_out = [one.name for one in WORKLOADS if names and one.name not in names]
        _report.write(contests, left_out, monotonic() - started, _RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
