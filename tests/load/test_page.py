"""The page: one file that asks nobody for anything, with all plots that the run has."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser

import attrs
import pytest
from tests.load.test_figures import RAMP, measured

from gamegirl.load import Held, Plan, Step, page
from gamegirl.load._figures import Figures
from gamegirl.load._ledger import Verdict

_VOID = frozenset(("meta", "link", "br", "img", "input", "hr"))


class Reader(HTMLParser):
    """Reads a page strictly: whatever is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in _VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action", "data"):
                self.addresses.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


@pytest.mark.parametrize("ramp", [False, True])
def test_a_page_needs_nothing_from_anywhere(ramp: bool) -> None:
    """It shows the same offline: no script, and no address but the empty icon."""
    html = page(measured(RAMP, answered=0.5) if ramp else measured())
    reader = read(html)
    assert "script" not in reader.tags
    assert set(reader.addresses) == {"data:,"}
    assert re.findall(r"@import|url\(", html) == []
    assert len(html) < 1_000_000


def test_a_ramp_has_its_saturation_curve_with_the_knee() -> None:
    """Beside what every page has: rates, latency, percentiles, lateness and memory."""
    ordinary, ramped = read(page(measured())), read(page(measured(RAMP, answered=0.5)))
    assert ordinary.tags.count("figure") == ordinary.tags.count("svg") == 5
    assert ramped.tags.count("svg") == 7
    assert "Saturation" in ramped.text
    assert "knee" in ramped.text
    assert "falls behind" in ramped.text
    assert "Saturation" not in ordinary.text


def test_a_page_says_what_was_lost_and_what_does_not_hold() -> None:
    """Nobody has to compare numbers to see it; texts are escaped."""
    report = measured()
    report.verdict.add(Verdict(acknowledged=1, lost=1, examples=["<b>press 7</b> is gone"]))
    html = page(report, [Held("p99<3ms", "4 ms", holds=False)])
    assert "does not hold" in html
    assert "1 lost" in read(html).text
    assert "&lt;b&gt;press 7&lt;/b&gt; is gone" in html


def test_a_page_says_that_it_was_not_verified() -> None:
    """And why."""
    report = measured()
    assert "not verified" not in read(page(report)).text
    report.verdict.add(Verdict(unverified="the store is <away>"))
    assert "not verified: the store is <away>" in read(page(report)).text


def test_a_run_without_any_answer_has_a_page_too() -> None:
    """Who measured nothing is told so, and not an error."""
    figures = Figures((Step(1.0, 1.0),))
    figures.counts.update(commits=0.0, counted_after=1.0)
    report = attrs.evolve(measured(), plan=Plan(steps=(Step(1.0, 1.0),)), figures=figures)
    assert "nothing was measured" in read(page(report)).text


def test_a_point_says_its_value() -> None:
    """Where the mouse rests, without any script."""
    assert re.search(r"<title>[\d.]+: 100</title>", page(measured()))


def test_drawing_leaves_no_old_finder_behind() -> None:
    """A library for plots has no business with how others import: Python would warn of it."""
    code = (
        "import sys, gamegirl.load._plots; "
        "raise SystemExit(not all(hasattr(one, 'find_spec') for one in sys.meta_path))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
