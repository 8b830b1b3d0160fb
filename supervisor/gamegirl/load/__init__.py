"""A load test of many channels at once, which measures what a player would wait.

It is open-loop: presses come from a schedule, whether or not earlier ones were answered, and what
is measured is the time from when a press was due. So a store that stalls for two seconds shows as
the two seconds that everybody waited, and not as one slow press. `gamegirl load` runs it.
"""

from gamegirl.load._assertions import NAMES, Assertion, Held
from gamegirl.load._errors import LoadError, TargetError
from gamegirl.load._histogram import Histogram
from gamegirl.load._page import page
from gamegirl.load._plan import BACKENDS, Arrivals, Plan, Stall, Step, ramp
from gamegirl.load._report import Knee, Report, StepResult
from gamegirl.load._run import Live, LoadRun, Watch, run_name
from gamegirl.load._target import MEMORY, Target, given, throw_away

__all__ = [
    "BACKENDS",
    "MEMORY",
    "NAMES",
    "Arrivals",
    "Assertion",
    "Held",
    "Histogram",
    "Knee",
    "Live",
    "LoadError",
    "LoadRun",
    "Plan",
    "Report",
    "Stall",
    "Step",
    "StepResult",
    "Target",
    "TargetError",
    "Watch",
    "given",
    "page",
    "ramp",
    "run_name",
    "throw_away",
]
