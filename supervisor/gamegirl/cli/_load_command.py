"""What the command `load` takes; what it does is imported when it is called."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gamegirl.cli._console import reported
from gamegirl.cli._extras import needs_extra
from gamegirl.cli._files import streamable, writable


class Host(StrEnum):
    """What the runtime runs on."""

    ASYNCIO = "asyncio"
    UVLOOP = "uvloop"
    TRIO = "trio"


class Promise(StrEnum):
    """What an answer promises."""

    COMMITTED = "committed"
    TURN = "turn"


class Order(StrEnum):
    """How presses follow each other."""

    POISSON = "poisson"
    CONSTANT = "constant"


def load(
    channels: Annotated[
        int, typer.Option("--channels", min=1, metavar="N", help="Each with a game.")
    ] = 1000,
    players: Annotated[int, typer.Option("--players", min=1, metavar="N", help="In each.")] = 4,
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="R", help="Presses a second, in all. [default: 500]"),
    ] = None,
    ramp: Annotated[
        str | None,
        typer.Option(
            "--ramp", metavar="FROM..TO", help="Rates one after the other, to find the knee."
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option("--steps", min=2, metavar="N", help="Of the ramp, all equally long.")
    ] = 8,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", help="How long presses come, in all.")
    ] = 30.0,
    window: Annotated[float, typer.Option("--window", metavar="S", help="A turn's time.")] = 10.0,
    skew: Annotated[
        float,
        typer.Option(
            "--skew",
            metavar="S",
            help="Zipf's exponent: 0, all channels are alike; above, the first are busier.",
        ),
    ] = 0.8,
    arrivals: Annotated[
        Order, typer.Option("--arrivals", help="By chance, or as a metronome beats.")
    ] = Order.POISSON,
    durability: Annotated[
        Promise, typer.Option("--durability", help="What an answer promises.")
    ] = Promise.COMMITTED,
    backend: Annotated[
        Host, typer.Option("--backend", help="What the runtime runs on.")
    ] = Host.ASYNCIO,
    processes: Annotated[
        int,
        typer.Option(
            "--processes", min=1, metavar="N", help="Channels are split between them by hash."
        ),
    ] = 1,
    in_flight: Annotated[
        int,
        typer.Option(
            "--in-flight",
            min=1,
            metavar="N",
            help="While so many presses are unanswered, further ones are dropped, and counted.",
        ),
    ] = 10_000,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URL",
            help="An empty one. Otherwise a redis-server of its own, thrown away afterwards; "
            "where there is none, $GAMEGIRL_STORE.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="A Redis that has keys will do (see above).")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the games in the store of --store.")
    ] = False,
    stall: Annotated[
        str | None,
        typer.Option(
            "--stall",
            metavar="SECONDS@AT",
            help="Let the store answer nobody for so long, after AT seconds.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of everything random.")] = 1,
    assertions: Annotated[
        list[str] | None,
        typer.Option(
            "--assert", metavar="EXPR", help="Must hold at the end; may be repeated (see above)."
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="Write all figures; - is the standard output.",
            callback=streamable,
        ),
    ] = None,
    html_file: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Write a page with plots: one file, offline.",
            callback=writable,
        ),
    ] = None,
) -> None:
    """Press buttons in many channels at once, and measure how long players would wait.

    The load is open: presses come from a schedule, whether or not earlier ones were answered, and
    latency counts from when a press was due to its answer or its error. So a stall of the store
    shows as what everybody waited. Windows close and turns are recorded meanwhile, by a narrator
    who needs no time. The runtime and those who press share each process. Afterwards every
    acknowledged press is looked for in the store: none may be lost.

    Games and channels get names of their own, which are nobody else's (`load-…`). A store that has
    keys is refused, unless --force is said (Redis only). What was written is deleted at the end,
    unless --keep is said. Ctrl-C ends the presses early, a second one everything.

    **Assertions** compare a figure with a number: p50, p90, p99, p999, max (of latency: us, ms or
    s), lateness_p50 … lateness_max (of windows), offered, achieved, commits, knee (/s),
    acknowledged, dropped, errors, lost, windows, presses_per_commit, rss (MiB or GiB). The exit
    status is 1 if one does not hold, a press was lost, or the store could not be looked into at the
    end; 2 if one can't be read. Of what was not measured none holds.

    **Examples**

    - `gamegirl load`
    - `gamegirl load --rate 2000 --seconds 60 --assert 'p99<50ms' --assert 'dropped==0'`
    - `gamegirl load --ramp 500..6000 --steps 12 --seconds 120 --html ramp.html`
    - `gamegirl load --channels 10000 --processes 2 --backend uvloop --json load.json`
    - `gamegirl load --stall 1.5@10 --store redis://127.0.0.1:6379/9`
    """
    with needs_extra("load"):
        from gamegirl.cli import _load
    with reported(), _load.understood():
        order = _load.Order.of(
            channels=channels,
            players=players,
            rate=rate,
            ramp_text=ramp,
            steps=steps,
            seconds=seconds,
            window=window,
            skew=skew,
            arrivals=arrivals.value,
            durability=durability.value,
            backend=backend.value,
            processes=processes,
            in_flight=in_flight,
            stall=stall,
            seed=seed,
            store=store,
            force=force,
            keep=keep,
            assertions=assertions or [],
        )
        good = _load.play(order, lambda report: _load.tell(order, report, json_file, html_file))
    if not good:
        raise typer.Exit(1)
