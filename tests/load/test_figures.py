"""Histograms, intervals and what they add up to: steps, the knee, assertions."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import attrs
import pytest

from gamegirl.actors import InvalidInputError
from gamegirl.load import NAMES, Assertion, Histogram, Knee, Plan, Report, Step, ramp
from gamegirl.load._figures import INTERVALS_MAX, Figures, interval_bounds
from gamegirl.load._ledger import Verdict

RAMP = ramp("100..400", 4, 8.0)


def measured(
    steps: tuple[Step, ...] = (Step(100.0, 4.0),), answered: float = 1.0, late: float = 0.004
) -> Report:
    """A report of a made-up run, in which from the third step on only a part was answered."""
    figures = Figures(steps)
    begin = 0.0
    for number, step in enumerate(steps):
        count = int(step.rate * step.seconds)
        for press in range(count):
            due = begin + press / step.rate
            figures.at(due).offered += 1
            if number < 2 or press < count * answered:
                figures.acknowledged(due, due + late)
            else:
                figures.at(due).dropped += 1
        begin += step.seconds
    figures.closed(1.0, 0.0021)
    figures.counts = {
        "seconds": begin,
        "counted_after": begin,
        "answers": sum(interval.acknowledged for interval in figures.intervals),
        "restarts": 0.0,
        "commits": 100.0,
        "batches": 10.0,
        "sessions": 5.0,
        "rss_before_mib": 40.0,
        "rss_booted_mib": 45.0,
        "rss_peak_mib": 50.0,
    }
    return Report(
        plan=Plan(steps=steps),
        figures=figures,
        verdict=Verdict(acknowledged=9, records=9),
        seconds=begin,
        store="memory://",
        server="",
        began=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_percentiles_are_exact_to_a_thousandth() -> None:
    """Whatever the size of the value, from a microsecond to minutes."""
    histogram = Histogram(exact=True)
    for number in range(1, 10_001):
        histogram.record(number / 1000)
    figures = histogram.figures()
    assert figures["p50"] == pytest.approx(5000, rel=0.001)
    assert figures["p99"] == pytest.approx(9900, rel=0.001)
    assert figures["max"] == pytest.approx(10_000, rel=0.001)
    assert list(figures) == ["p50", "p90", "p99", "p999", "max"]


def test_a_histogram_takes_any_time() -> None:
    """What is below nothing is nothing, what is above the longest is the longest: none is lost."""
    histogram = Histogram()
    for seconds in (-1.0, 0.0, 1e9):
        histogram.record(seconds)
    assert histogram.count == 3
    assert histogram.longest == pytest.approx(3_600_000, rel=0.01)


def test_an_empty_histogram_has_zeros() -> None:
    """A run without windows has no lateness, and says 0 of 0."""
    assert set(Histogram().figures().values()) == {0.0}
    assert Histogram().rows() == []
    assert list(Histogram().curve()) == []


def test_histograms_of_processes_are_merged_not_averaged() -> None:
    """The p99 of all is of all, also after a trip through JSON."""
    slow, fast = Histogram(exact=True), Histogram(exact=True)
    for _ in range(990):
        fast.record(0.001)
    for _ in range(20):
        slow.record(1.0)
    fast.add(Histogram.decoded(json.loads(json.dumps(slow.encoded()))))
    assert fast.count == 1010
    assert fast.quantile(50) == pytest.approx(1.0, rel=0.001)
    assert fast.quantile(99) == pytest.approx(1000, rel=0.001)


def test_the_rows_of_a_histogram_hold_everything_once() -> None:
    """Between bounds of 1, 2, 5, 10; empty ones in between are there."""
    histogram = Histogram()
    for milliseconds in (0.3, 1.5, 1.6, 40.0):
        histogram.record(milliseconds / 1000)
    rows = histogram.rows()
    assert [(high, count) for _, high, count in rows] == [
        (0.5, 1), (1.0, 0), (2.0, 2), (5.0, 0), (10.0, 0), (20.0, 0), (50.0, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("seconds", [0.1, 1.0, 7.3, 30.0, 86_400.0])
def test_intervals_cover_the_run_and_cross_no_step(seconds: float) -> None:
    """However long it is, in a bounded number."""
    steps = [Step(10.0, seconds), Step(20.0, seconds)]
    bounds = interval_bounds(steps)
    assert bounds == sorted(set(bounds))
    assert bounds[0] == 0
    assert bounds[-1] == pytest.approx(2 * seconds)
    assert any(bound == pytest.approx(seconds) for bound in bounds)
    assert len(bounds) <= INTERVALS_MAX + 2


def test_figures_of_processes_add_up() -> None:
    """Interval by interval, also after a trip through JSON."""
    one, other = measured().figures, measured(late=0.5).figures
    one.failed(1.0, 1.0, "MailboxFullError")
    one.add(Figures.of_plain((Step(100.0, 4.0),), json.loads(json.dumps(other.plain()))))
    assert sum(interval.offered for interval in one.intervals) == 800
    assert one.latency.count == 801
    assert one.errors == {"MailboxFullError": 1}
    assert one.counts["commits"] == 200
    assert one.latency.quantile(90) == pytest.approx(500, rel=0.01)


def test_a_press_that_fails_has_waited_for_its_error() -> None:
    """Or an outage, in which nobody is answered, would leave the latency as it is."""
    figures = measured().figures
    for _ in range(20):
        figures.failed(2.0, 4.0, "StoreUnavailableError")
    assert figures.latency.quantile(99) == pytest.approx(2000, rel=0.01)
    latency = figures.at(2.0).latency
    assert latency is not None
    assert latency.longest == pytest.approx(2000, rel=0.01)


def test_answers_that_come_after_the_end_are_acknowledged_but_not_achieved() -> None:
    """Else a run whose answers come a minute late would have kept pace."""
    report = measured(late=3.0)
    assert report.acknowledged == 400
    assert report.achieved_per_s == pytest.approx(25, rel=0.1)


def test_answers_that_come_after_a_stop_are_acknowledged_but_not_achieved() -> None:
    """The end of offers counts, not the one that was planned."""
    figures = measured().figures
    before = sum(interval.answered for interval in figures.intervals)
    figures.until = 2.0
    figures.acknowledged(1.5, 1.9)
    figures.acknowledged(1.5, 2.1)
    assert sum(interval.acknowledged for interval in figures.intervals) == 402
    assert sum(interval.answered for interval in figures.intervals) == before + 1


def test_commits_are_counted_for_the_time_in_which_they_were_made() -> None:
    """Whenever the loop came to count them; over the processes that time is one, and no sum."""
    report = measured()
    report.figures.counts["counted_after"] = 16.0
    report.figures.counts["answers"] = 300
    assert report.commits_per_s == 6.25
    assert report.presses_per_commit == 3
    assert (
        attrs.evolve(report, plan=Plan(steps=report.plan.steps, processes=2)).commits_per_s == 12.5
    )


def test_what_went_wrong_meanwhile_is_told_to_programs() -> None:
    """Crashes, and events that were lost to who measures: none, unless there were some."""
    report = measured()
    plain = report.plain()
    assert (plain["restarts"], plain["events_lost"]) == (0, 0)
    report.figures.counts.update(restarts=2.0, events_lost=3.0)
    plain = report.plain()
    assert (plain["restarts"], plain["events_lost"]) == (2, 3)


def test_the_knee_is_the_last_rate_that_was_kept_up_with() -> None:
    """A step that drops, fails or answers less than 95 % in its time has not kept up."""
    report = measured(RAMP, answered=0.5)
    assert [one.keeps_up for one in report.steps] == [True, True, False, False]
    assert report.knee == Knee(200.0, reached=True)
    assert measured(RAMP).knee == Knee(400.0, reached=False)
    assert measured(RAMP, late=1.9).knee == Knee(0.0, reached=True)
    assert measured().knee is None


def test_steps_are_measured_apart() -> None:
    """Each has the presses that were due in it."""
    assert [round(one.offered_per_s) for one in measured(RAMP).steps] == [100, 200, 300, 400]


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("p99<50ms", True),
        ("p99 < 0.05 s", True),
        ("p99<50", True),
        ("p99<3ms", False),
        ("max>=3999us", True),
        ("lateness_p99<=3ms", True),
        ("dropped==0", True),
        ("dropped!=0", False),
        ("errors<1", True),
        ("lost==0", True),
        ("windows==1", True),
        ("achieved>99/s", True),
        ("offered>=100/s", True),
        ("acknowledged==400", True),
        ("commits>24", True),
        ("presses_per_commit>3.5", True),
        ("rss<1GiB", True),
        ("rss<49MiB", False),
    ],
)
def test_an_assertion_compares_a_figure_in_its_unit(text: str, holds: bool) -> None:
    """What it says is what is checked."""
    assert Assertion.parse(text).check(measured()).holds is holds


def test_an_assertion_says_what_was_measured() -> None:
    """With its unit, so that nobody has to look it up."""
    held = Assertion.parse("p50<1us").check(measured())
    assert held.text == "p50<1us"
    assert held.value.endswith(" ms")
    assert Assertion.parse("knee>100/s", ramp=True).check(measured(RAMP)).value == "400/s"


@pytest.mark.parametrize("text", ["p99<50ms", "max>=0", "lateness_p50<1s", "lateness_max!=1"])
def test_an_assertion_about_times_does_not_hold_if_none_was_measured(text: str) -> None:
    """Nothing is not fast: who asserts a time wants it to have been measured."""
    report = attrs.evolve(measured(), figures=Figures((Step(100.0, 4.0),)))
    held = Assertion.parse(text).check(report)
    assert not held.holds
    assert "nothing was measured" in held.value


def test_nobody_knows_that_nothing_is_lost_if_it_was_not_verified() -> None:
    """What was seen to be lost is told, but nothing can be asserted about all."""
    report = measured()
    report.verdict.add(Verdict(unverified="the store is away"))
    held = Assertion.parse("lost==0").check(report)
    assert not held.holds
    assert "not verified" in held.value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no assertion"),
        ("p99", "no assertion"),
        ("p99<", "no assertion"),
        ("p99<fast", "no assertion"),
        ("p99=50ms", "no assertion"),
        ("p99<-1", "no assertion"),
        ("p98<50ms", "there is no figure 'p98'; there are p50"),
        ("p99<50/s", "no unit of p99: us"),
        ("dropped<1ms", "no unit of dropped: none"),
        ("rss<1kB", "no unit of rss: MiB, GiB"),
        ("knee>100", "only a --ramp has a knee"),
    ],
)
def test_what_is_no_assertion_is_refused(text: str, reason: str) -> None:
    """Before anything is played, with a sentence that helps."""
    with pytest.raises(InvalidInputError, match=reason):
        Assertion.parse(text)


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_can_be_asserted(name: str) -> None:
    """What the help lists is there."""
    assert Assertion.parse(f"{name}>=0", ramp=True).check(measured(RAMP)).holds
