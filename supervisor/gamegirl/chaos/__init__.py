"""Faults in earnest: real processes and a real store, killed, paused and cut off, and judged.

Workers run the runtime in processes of their own; players in this process speak to them and keep
the ledger of what was acknowledged; the judge compares ledger and store. `gamegirl chaos` runs it.
"""

from gamegirl.chaos._bench import Bench, BenchError
from gamegirl.chaos._figures import Figures
from gamegirl.chaos._redis_server import RedisServer, find_redis_server
from gamegirl.chaos._run import Part, Run, parts_of, run_part
from gamegirl.chaos._scenario import Scenario
from gamegirl.chaos.scenarios import SCENARIOS

__all__ = [
    "SCENARIOS",
    "Bench",
    "BenchError",
    "Figures",
    "Part",
    "RedisServer",
    "Run",
    "Scenario",
    "find_redis_server",
    "parts_of",
    "run_part",
]
