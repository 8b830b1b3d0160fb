"""The report as a page: one file, which shows the same wherever it is opened, also offline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files

from gamegirl.load._assertions import Held
from gamegirl.load._report import Report, machine

_TEMPLATE = "page.html"


def page(report: Report, held: Sequence[Held] = ()) -> str:
    """The report with its plots, and what the assertions came to, as HTML."""
    # Only who wants a page loads what draws it: processes whose memory is measured don't.
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        files("gamegirl.load").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    )
    return template.render(
        report=report,
        held=held,
        latency=report.figures.latency.figures(),
        lateness=report.figures.lateness.figures(),
        windows=report.figures.lateness.count,
        errors=sorted(report.figures.errors.items()),
        versions=report.versions(),
        machine=machine(),
        settings=_settings(report),
        # What pygal draws is escaped by it.
        plots=[(title, text, Markup(plot)) for title, text, plot in _plots(report)],
    )


def _plots(report: Report) -> Iterator[tuple[str, str, str]]:
    """Each plot's title, what it shows, and itself as SVG."""
    from gamegirl.load import _plots as plots

    if report.plan.is_ramp:
        yield (
            "Saturation",
            "What was answered while each step lasted, for what it offered.",
            plots.saturation_plot(report),
        )
        yield (
            "Latency by rate",
            "Of each step's presses, from when they were due to their answers.",
            plots.ramp_latency_plot(report),
        )
    yield (
        "Rate over time",
        "Offered is the schedule, which waits for nobody.",
        plots.rate_plot(report),
    )
    yield (
        "Latency over time",
        "By when presses were due: a stall shows as the slope down to its end.",
        plots.latency_plot(report),
    )
    yield (
        "Percentiles",
        "Of all presses, failed ones too, and of all windows; each nine is as wide as the last.",
        plots.percentile_plot(report),
    )
    if report.figures.lateness.count:
        yield (
            "Lateness of windows",
            "From the deadline to the event of the committed close, or to the end of the run.",
            plots.lateness_plot(report),
        )
    yield ("Memory", "Resident, over all processes.", plots.memory_plot(report))


def _settings(report: Report) -> dict[str, str]:
    plan = report.plan
    rates = " → ".join(f"{step.rate:,.6g}" for step in plan.steps)
    return {
        "store": report.store,
        "channels": f"{plan.channels:,}, {plan.players:,} players each, skew {plan.skew:g}",
        "rate": f"{rates} presses a second, {plan.arrivals.value}, {plan.seconds:g} s",
        "window": f"{plan.window:g} s",
        "durability": plan.durability.value,
        "host": f"{plan.backend}, {plan.processes} process{'es' * (plan.processes > 1)}",
        "in flight at most": f"{plan.in_flight_max:,}",
        "stall": f"{plan.stall.seconds:g} s after {plan.stall.at:g} s" if plan.stall else "none",
        "seed": str(plan.seed),
    }
