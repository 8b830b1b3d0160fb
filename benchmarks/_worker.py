"""A process in which one contestant competes: it is set up once and runs a round when told to."""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any, TextIO

import anyio

from benchmarks._contest import ASYNCIO, OWN, TRIO, UVLOOP, Contestant, Site
from benchmarks._workloads import workload


def main() -> None:
    """Answer each line of input with the sample of a round, as a line of JSON."""
    # What libraries print goes elsewhere: the pipe is for samples.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request: dict[str, Any] = json.loads(sys.argv[1])
    contestant = workload(request["workload"]).contestant(request["contestant"])
    site = Site(**request["site"])
    backend = TRIO if site.host == TRIO else ASYNCIO
    options = {"use_uvloop": True} if site.host == UVLOOP else {}
    assert site.host in (ASYNCIO, UVLOOP, TRIO, OWN)
    anyio.run(_compete, contestant, site, answers, backend=backend, backend_options=options)


async def _compete(contestant: Contestant, site: Site, answers: TextIO) -> None:
    async with contestant.enter(site) as measure:
        # Nobody's collector goes through what was set up.
        gc.collect()
        gc.freeze()
        await measure()  # Warms caches up, and finds its pace.
        print("ready", file=answers, flush=True)
        while await anyio.to_thread.run_sync(sys.stdin.readline):
            print(json.dumps(dict(await measure())), file=answers, flush=True)


if __name__ == "__main__":
    main()
