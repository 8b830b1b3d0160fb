"""Plots as SVG that needs nothing from anywhere: no script, no font, no style of others."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import pygal  # type: ignore[import-untyped]  # it has no types
from pygal.style import Style  # type: ignore[import-untyped]

from gamegirl.load._report import Report

# For plugins with maps, pygal leaves a finder behind that Python from 3.12 on ignores, and before
# warns about at every import that fails. Nobody here draws maps.
sys.meta_path[:] = [one for one in sys.meta_path if type(one).__module__ != pygal.__name__]

_COLOURS = ("#1f77b4", "#2ca02c", "#d62728", "#9467bd", "#8c564b")
_FONT = "system-ui, sans-serif"
_WIDTH, _HEIGHT = 960, 340
_SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL)
_VALUE = re.compile(r'<desc class="value">(.*?)</desc>', re.DOTALL)
_OTHER = re.compile(r"<desc\b.*?</desc>", re.DOTALL)
_SMALLEST_MS = 0.01
_PERCENTS = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999)


def _plain(value: float) -> str:
    return f"{value:,.6g}"


def _power(value: float) -> str:
    return _plain(10**value)


def rate_plot(report: Report) -> str:
    """Presses a second over time: offered, answered, dropped, failed."""
    chart = _chart("seconds", "presses a second")
    lengths = _lengths(report)
    for title, name in (
        ("offered", "offered"),
        ("answered", "answered"),
        ("dropped", "dropped"),
        ("failed", "failed"),
    ):
        counts = [getattr(one, name) for one in report.figures.intervals]
        if name in ("offered", "answered") or any(counts):
            rates = [count / length for count, length in zip(counts, lengths, strict=True)]
            chart.add(title, _over_time(report, rates))
    return _svg(chart)


def latency_plot(report: Report) -> str:
    """Percentiles of latency over time, by when presses were due."""
    figures = [one.latency.figures() if one.latency else None for one in report.figures.intervals]
    return _times(
        _chart("seconds", "ms"),
        {
            title: _over_time(report, [one[name] if one else None for one in figures])
            for title, name in (("p50", "p50"), ("p99", "p99"), ("longest", "max"))
        },
    )


def percentile_plot(report: Report) -> str:
    """Latency of presses and lateness of windows by percentile, the last ones drawn apart."""
    chart = _chart("percentile", "ms", formatter=lambda x: f"{100 - 10 ** (2 - x):.6g} %")
    if report.acknowledged:
        chart.x_labels = [_nines(percent) for percent in _PERCENTS]
    return _times(
        chart,
        {
            title: [
                (_nines(percent), value)
                for percent, value in histogram.curve()
                if percent <= _PERCENTS[-1]
            ]
            for title, histogram in (
                ("latency", report.figures.latency),
                ("lateness of windows", report.figures.lateness),
            )
        },
    )


def lateness_plot(report: Report) -> str:
    """How late windows closed, over time."""
    figures = [one.lateness.figures() if one.lateness else None for one in report.figures.intervals]
    return _times(
        _chart("seconds", "ms"),
        {
            title: _over_time(report, [one[name] if one else None for one in figures])
            for title, name in (("p50", "p50"), ("p99", "p99"), ("latest", "max"))
        },
    )


def memory_plot(report: Report) -> str:
    """What was resident in memory, over all processes."""
    chart = _chart("seconds", "MiB")
    chart.add(
        "resident", _over_time(report, [one.rss_mib or None for one in report.figures.intervals])
    )
    return _svg(chart)


def saturation_plot(report: Report) -> str:
    """What was answered for what was offered, with the knee."""
    chart = _chart("offered, presses a second", "answered, presses a second")
    steps, knee = report.steps, report.knee
    chart.add("offered = answered", [(one.offered_per_s, one.offered_per_s) for one in steps])
    chart.add("answered", [(one.offered_per_s, one.achieved_per_s) for one in steps])
    at_knee = [one for one in steps if knee and one.step.rate == knee.rate_per_s]
    if at_knee:
        title = "knee" if knee and knee.reached else "the highest, without a knee"
        points = [(one.offered_per_s, one.achieved_per_s) for one in at_knee]
        chart.add(title, points, stroke=False, dots_size=8)
    return _svg(chart)


def ramp_latency_plot(report: Report) -> str:
    """Latency by what was offered."""
    return _times(
        _chart("offered, presses a second", "ms"),
        {
            name: [(one.offered_per_s, one.latency_ms[name]) for one in report.steps]
            for name in ("p50", "p99", "max")
        },
    )


def _chart(
    x_title: str,
    y_title: str,
    formatter: Callable[[float], str] = _plain,
) -> Any:
    style = Style(
        background="transparent",
        plot_background="transparent",
        foreground="#444",
        foreground_strong="#111",
        foreground_subtle="#aaa",
        colors=_COLOURS,
        font_family=_FONT,
        label_font_size=12,
        major_label_font_size=12,
        legend_font_size=13,
        title_font_size=13,
        guide_stroke_color="#ddd",
        major_guide_stroke_color="#ccc",
        guide_stroke_dasharray="none",
        major_guide_stroke_dasharray="none",
    )
    return cast(Any, pygal).XY(
        style=style,
        js=[],
        width=_WIDTH,
        height=_HEIGHT,
        x_title=x_title,
        y_title=y_title,
        x_value_formatter=formatter,
        value_formatter=_plain,
        dots_size=1.5,
        legend_at_bottom=True,
        legend_box_size=12,
        truncate_legend=-1,
        allow_interruptions=True,
        include_x_axis=True,
        show_x_guides=True,
        disable_xml_declaration=True,
        explicit_size=False,
        no_data_text="nothing was measured",
    )


def _times(chart: Any, lines: Mapping[str, Sequence[tuple[float, float | None]]]) -> str:
    """Lines of times in ms on a logarithmic scale; pygal's own would be one of x as well."""
    shown = {
        title: [(x, None if y is None else math.log10(max(y, _SMALLEST_MS))) for x, y in line]
        for title, line in lines.items()
    }
    values = [y for line in shown.values() for _, y in line if y is not None]
    if values:
        decades = range(math.floor(min(values)), max(math.ceil(max(values)), 1) + 1)
        chart.y_labels = list(decades)
        chart.range = (decades[0], decades[-1])
    chart.include_x_axis = False
    chart.value_formatter = _power
    for title, line in shown.items():
        if any(y is not None for _, y in line):
            chart.add(title, line)
    return _svg(chart)


def _svg(chart: Any) -> str:
    svg: str = chart.render(is_unicode=True)
    # What pygal's own script would show at a point, browsers show by themselves as a title.
    svg = _SCRIPT.sub("", svg).replace("<title>Pygal</title>", "")
    return _OTHER.sub("", _VALUE.sub(r"<title>\1</title>", svg))


def _lengths(report: Report) -> list[float]:
    bounds = report.figures.bounds
    return [end - begin for begin, end in pairwise(bounds)]


def _over_time(report: Report, values: Sequence[float | None]) -> list[tuple[float, float | None]]:
    """Each interval's value at its middle, as far as the run came."""
    bounds = report.figures.bounds
    return [
        (round((begin + end) / 2, 3), value)
        for begin, end, value in zip(bounds, bounds[1:], values, strict=False)
        if begin < report.seconds
    ]


def _nines(percent: float) -> float:
    """A percentile's place, each further nine as far away as the one before."""
    return 2 - math.log10(100 - percent)
