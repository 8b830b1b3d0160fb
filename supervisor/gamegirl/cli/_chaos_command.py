"""What the command `chaos` takes; what it does is imported when it is called."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gamegirl.cli._console import reported, say, write_json
from gamegirl.cli._extras import needs_extra
from gamegirl.cli._files import makeable, writable, written
from gamegirl.cli._options import Json


class Backends(StrEnum):
    """What workers run on."""

    ASYNCIO = "asyncio"
    TRIO = "trio"
    BOTH = "both"

    @property
    def names(self) -> tuple[str, ...]:
        """Each of them."""
        return ("asyncio", "trio") if self is Backends.BOTH else (self.value,)


def chaos(
    scenarios: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SCENARIO]...", help="Or `all`; without any they are listed."),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            "--rounds",
            "-n",
            min=1,
            metavar="N",
            help="So many kills, games, … in all, as the list has it; else a full run.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of everything random.")] = 1,
    backend: Annotated[
        Backends, typer.Option("--backend", help="What workers run on; both: half the rounds each.")
    ] = Backends.BOTH,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="STORE",
            help="redis (the default) or sqlite, thrown away afterwards; or the URL of an empty "
            "store on this machine.",
            show_default=False,
        ),
    ] = None,
    control: Annotated[
        bool, typer.Option("--control", help="Without the safeguard: this must find violations.")
    ] = False,
    slack: Annotated[
        float,
        typer.Option(
            "--slack",
            min=1.0,
            metavar="FACTOR",
            help="On a machine that has other work: times may be so many times as long.",
        ),
    ] = 1.0,
    progress: Annotated[
        Path | None,
        typer.Option(
            "--progress",
            metavar="FILE",
            help="Keep what is done in this file, and go on from it.",
            callback=makeable,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE",
            help="Write the figures as Markdown; into a file that has the marks for it, between "
            "them.",
            callback=writable,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Kill, pause and cut off real processes and a real store, and see whether anything is lost.

    Workers run the runtime in processes of their own and are played with; what was acknowledged
    is kept outside of them and compared with the store afterwards. A server is started for it
    (redis-server must be on PATH) unless --store names one. `all` plays every scenario, then each
    without the safeguard it is about, which must fail. The exit status is 1 if anything was
    violated, or if a control of `all` was not.

    **Examples**

    - `gamegirl chaos`
    - `gamegirl chaos kill9 --rounds 50`
    - `gamegirl chaos splitbrain --control --backend trio --seed 7`
    - `gamegirl chaos kill9 drain --store redis://127.0.0.1:6379/9`
    - `gamegirl chaos all --progress chaos.jsonl --report chaos.md`
    """
    with needs_extra("load"):
        from gamegirl.cli import _chaos
    if not scenarios:
        _chaos.list_scenarios(as_json=as_json)
        return
    target = store if store is not None else "redis"
    everything = "all" in scenarios
    with reported(), _chaos.unharmed():
        order = _chaos.Order(
            scenarios=_chaos.chosen(scenarios, _chaos.checked_target(target)),
            rounds=rounds,
            seed=seed,
            backends=backend.names,
            target=target,
            plain=not control,
            control=control or everything,
            slack=slack,
            progress=progress,
        )
        try:
            with _chaos.interruptible():
                results = _chaos.play(order)
        except KeyboardInterrupt:
            if progress is not None:
                say(f"Stopped; the same command goes on from {progress}.")
            raise
    if as_json:
        write_json(_chaos.plain(order, results))
    else:
        _chaos.show(results)
    if report is not None:
        from gamegirl.cli._chaos_report import write_report

        if not written(repr(str(report)), lambda: write_report(report, order, results)):
            raise typer.Exit(1)
    if not all(result.holds for result in results):
        raise typer.Exit(1)
