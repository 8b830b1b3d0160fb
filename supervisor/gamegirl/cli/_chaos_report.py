"""The figures of a chaos run as a page of Markdown, which the run writes itself."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import psutil

from gamegirl.chaos import BenchError, find_redis_server
from gamegirl.cli._chaos import Order, Result
from gamegirl.supervisor._build import release

_PACKAGES = ("anyio", "trio", "redis", "hiredis", "attrs", "cattrs")


_BEGIN, _END = "<!-- figures -->", "<!-- end of figures -->"


def write_report(path: Path, order: Order, results: Sequence[Result]) -> None:
    """Write the figures into a file: between its two marks, if it has them, else as all of it."""
    text = page(order, results)
    if path.is_file():  # Of anything else that is there nothing can be kept.
        before, begin, rest = path.read_text("utf-8", "surrogateescape").partition(_BEGIN)
        _, end, after = rest.partition(_END)
        if begin and end:
            text = f"{before}{begin}\n\n{text}\n{end}{after}"
    path.write_text(text, "utf-8", "surrogateescape")


def page(order: Order, results: Sequence[Result]) -> str:
    """The figures."""
    return "\n".join((*_head(order, results), *_verdicts(results), *_figures(results))) + "\n"


def _head(order: Order, results: Sequence[Result]) -> Iterator[str]:
    seconds = sum(
        figures.seconds
        for result in results
        for figures in (result.figures, result.control)
        if figures is not None
    )
    yield "## The figures of a run"
    yield ""
    yield (
        f"Written by `gamegirl chaos`, seed {order.seed}, on {' and '.join(order.backends)} "
        f"({seconds / 60:.0f} minutes), store: {order.target}"
        + (f", times may be {order.slack:g} times as long." if order.slack != 1 else ".")
    )
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| machine | {platform.machine()}, {os.cpu_count()} cores, {_memory()} GiB |"
    yield f"| system | {platform.system()} |"
    yield f"| Python | {platform.python_version()} |"
    yield f"| redis-server | {_redis_version()} |"
    yield f"| gamegirl | {release()} |"
    for name in _PACKAGES:
        yield f"| {name} | {_version(name)} |"
    yield ""


def _verdicts(results: Sequence[Result]) -> Iterator[str]:
    yield "| scenario | rounds | violations | without its safeguard |"
    yield "|---|---|---|---|"
    for result in results:
        figures, control = result.figures, result.control
        rounds = f"{figures.rounds:,} {result.scenario.unit}" if figures else "-"
        violated = f"{figures.violated:,}" if figures else "-"
        proof = f"{control.violated:,} in {control.rounds:,}" if control else "-"
        link = f"[{result.scenario.name}](#{result.scenario.name})"
        yield f"| {link} | {rounds} | {violated} | {proof} |"
    yield ""


def _figures(results: Sequence[Result]) -> Iterator[str]:
    for result in results:
        scenario = result.scenario
        yield f"### {scenario.name}"
        yield ""
        yield f"{scenario.happens}. {scenario.promise}. Control: {scenario.control}."
        yield ""
        figures = result.figures
        if figures is None:
            continue
        yield "| figure | |"
        yield "|---|---|"
        yield f"| {scenario.unit} | {figures.rounds:,} in {figures.seconds:.0f} s |"
        for name, text in figures.summary().items():
            yield f"| {name} | {text} |"
        yield ""
        for text in figures.violations:
            yield f"- violated: {text}"
        if figures.violations:
            yield ""


def _memory() -> str:
    return f"{psutil.virtual_memory().total / (1 << 30):.0f}"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _redis_version() -> str:
    try:
        binary = find_redis_server()
    except BenchError:
        return "none on PATH"
    shown = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    return next((word[2:] for word in shown.split() if word.startswith("v=")), shown.strip())
