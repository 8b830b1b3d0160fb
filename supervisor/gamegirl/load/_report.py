"""What came of a load test, as numbers: for a screen, a program, a page and for assertions."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import attrs
import psutil

from gamegirl.load._figures import Figures, Interval
from gamegirl.load._histogram import Histogram
from gamegirl.load._ledger import Verdict
from gamegirl.load._plan import Plan, Step
from gamegirl.supervisor._build import release

KEEPING_UP = 0.95
"""A step keeps up if so much of what it offers is answered while it lasts."""

_PACKAGES = ("anyio", "redis", "hiredis", "trio", "uvloop")
_MIB = 1 << 20


@attrs.frozen
class StepResult:
    """What came of a step.

    Attributes:
        step: What was offered.
        offered_per_s: What the schedule had.
        achieved_per_s: What was answered while it lasted.
        dropped: Presses that were not begun.
        failed: Presses that got an error.
        latency_ms: Of its presses, whenever they were answered.
    """

    step: Step
    offered_per_s: float
    achieved_per_s: float
    dropped: int
    failed: int
    latency_ms: dict[str, float]

    @property
    def keeps_up(self) -> bool:
        """Whether everything was begun, nothing failed and the answers kept pace."""
        kept = self.achieved_per_s >= KEEPING_UP * self.offered_per_s
        return kept and not self.dropped and not self.failed


@attrs.frozen
class Knee:
    """Where the runtime stops keeping up with what is offered.

    Attributes:
        rate_per_s: The highest rate up to which every step kept up; 0: not even the lowest did.
        reached: Whether a step did not keep up; else the knee lies above.
    """

    rate_per_s: float
    reached: bool

    @classmethod
    def of(cls, steps: Sequence[StepResult]) -> Knee:
        """The knee of a ramp."""
        rate = 0.0
        for one in steps:
            if not one.keeps_up:
                return cls(rate, reached=True)
            rate = one.step.rate
        return cls(rate, reached=False)


@attrs.frozen(kw_only=True)
class Report:
    """What came of a load test.

    Attributes:
        plan: What was ordered.
        figures: What was measured.
        verdict: What the store said afterwards.
        seconds: How long presses were offered; less than planned if it was stopped.
        store: Where it was played, for people.
        server: The store's server, with its version.
        began: When.
    """

    plan: Plan
    figures: Figures
    verdict: Verdict
    seconds: float
    store: str
    server: str
    began: datetime

    @property
    def offered(self) -> int:
        """Presses that the schedule had."""
        return self._sum("offered")

    @property
    def dropped(self) -> int:
        """Presses that were not begun."""
        return self._sum("dropped")

    @property
    def acknowledged(self) -> int:
        """Presses that were answered, whenever."""
        return self._sum("acknowledged")

    @property
    def failed(self) -> int:
        """Presses that got an error, or no answer."""
        return self._sum("failed")

    @property
    def offered_per_s(self) -> float:
        """Presses of the schedule a second."""
        return self.offered / self.seconds

    @property
    def achieved_per_s(self) -> float:
        """Answers a second, while presses were offered."""
        return self._sum("answered") / self.seconds

    @property
    def commits_per_s(self) -> float:
        """Commits of channels a second, while presses were offered."""
        counts = self.figures.counts
        return counts["commits"] / max(counts["counted_after"] / self.plan.processes, 0.001)

    @property
    def presses_per_commit(self) -> float:
        """Answers for each commit, closes and records among them, while presses were offered."""
        counts = self.figures.counts
        return counts["answers"] / counts["commits"] if counts["commits"] else 0.0

    @property
    def restarts(self) -> int:
        """Crashes of channels, each followed by a restart or by failure."""
        return int(self.figures.counts["restarts"])

    @property
    def events_lost(self) -> int:
        """Events that came too fast to be seen: lateness is without the windows they are of."""
        return int(self.figures.counts.get("events_lost", 0))

    @property
    def rss_mib(self) -> float:
        """The most that was resident in memory, over all processes."""
        return self.figures.counts.get("rss_peak_mib", 0.0)

    @property
    def steps(self) -> list[StepResult]:
        """What came of each step."""
        found: list[StepResult] = []
        left = self.seconds
        for step, sums in zip(self.plan.steps, self.figures.of_steps(self.plan.steps), strict=True):
            seconds = min(step.seconds, left)
            if seconds <= 0:
                break
            left -= seconds
            found.append(
                StepResult(
                    step,
                    round(sums.offered / seconds, 1),
                    round(sums.answered / seconds, 1),
                    sums.dropped,
                    sums.failed,
                    (sums.latency or Histogram()).figures(),
                )
            )
        return found

    @property
    def knee(self) -> Knee | None:
        """Of a ramp: where it stopped keeping up."""
        return Knee.of(self.steps) if self.plan.is_ramp else None

    def _sum(self, name: str) -> int:
        return sum(getattr(interval, name) for interval in self.figures.intervals)

    def plain(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        counts, knee = self.figures.counts, self.knee
        verdict = attrs.asdict(self.verdict)
        return {
            "offered_per_s": round(self.offered_per_s, 1),
            "achieved_per_s": round(self.achieved_per_s, 1),
            "offered": self.offered,
            "acknowledged": self.acknowledged,
            "dropped": self.dropped,
            "failed": self.failed,
            "errors": dict(sorted(self.figures.errors.items())),
            "latency_ms": self.figures.latency.figures(),
            "lateness_ms": {
                **self.figures.lateness.figures(),
                "windows": self.figures.lateness.count,
            },
            "commits_per_s": round(self.commits_per_s, 1),
            "presses_per_commit": round(self.presses_per_commit, 2),
            "commits_per_batch": round(counts["commits"] / max(1, counts["batches"]), 1),
            "rss_mib": round(self.rss_mib, 1),
            "rss_before_mib": round(counts["rss_before_mib"], 1),
            "rss_booted_mib": round(counts["rss_booted_mib"], 1),
            "sessions": int(counts["sessions"]),
            "restarts": self.restarts,
            "events_lost": self.events_lost,
            "verified": verdict,
            "steps": [attrs.asdict(one) for one in self.steps],
            "knee": None if knee is None else attrs.asdict(knee),
            "intervals": [
                _interval(begin, one)
                for begin, one in zip(self.figures.bounds, self.figures.intervals, strict=False)
            ],
            "seed": self.plan.seed,
            "seconds": round(self.seconds, 3),
            "began": self.began.isoformat(timespec="seconds"),
            "settings": {**self.plan.plain(), "store": self.store},
            "versions": self.versions(),
            "machine": machine(),
        }

    def versions(self) -> dict[str, str]:
        """Of Python, the packages that took part, and the store's server."""
        loop = {"asyncio": ("trio", "uvloop"), "uvloop": ("trio",), "trio": ("uvloop",)}
        absent = loop[self.plan.backend]
        return {
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "gamegirl": release(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES if name not in absent},
            "store": self.server or self.store.partition(":")[0],
        }


def _interval(begin: float, one: Interval) -> dict[str, Any]:
    latency = (one.latency or Histogram()).figures()
    lateness = (one.lateness or Histogram()).figures()
    return {
        "at": round(begin, 3),
        **{
            name: getattr(one, name)
            for name in ("offered", "acknowledged", "answered", "dropped", "failed")
        },
        "latency_ms": latency,
        "lateness_ms": lateness,
        "rss_mib": round(one.rss_mib, 1),
    }


def machine() -> dict[str, Any]:
    """What it ran on."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": psutil.cpu_count() or 1,
        "memory_mib": round(psutil.virtual_memory().total / _MIB),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:  # noqa: PTH123
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() == "model name":
                    return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
