"""The drawings about accuracy: change by domain, in against out of distribution, and along alpha."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from likewise.metrics import Estimate
from likewise.report import words
from likewise.report.read import ID, MEAN, SELECT, Run
from likewise.report.svg import Canvas, Labels, Point, padded, spread, ticks, width_of

DUMBBELL = 420
"""Natural width of the verdict's drawings."""


def percent_ticks(low: float, high: float, n: int = 5) -> list[tuple[float, str]]:
    """About n round fractions between two, each with its text in percent."""
    return [(t, f"{100 * t:g}") for t in ticks(low, high, n)]


def dumbbell_range(run: Run) -> Point:
    """The shared axis of the verdict's drawings."""
    shown = [run.final(m, d) for m in (run.chosen, run.baseline) for d in (*run.domains, MEAN)]
    low, high = padded([v for e in shown for v in (e.value, e.low, e.high)], 0.04)
    return max(0.0, low), min(1.0, high)


def dumbbell(run: Run, domain: str, limits: Point) -> str:
    """Baseline (hollow) to chosen (filled, with its interval) in one domain."""
    new, old = run.final(run.chosen, domain), run.final(run.baseline, domain)
    canvas = Canvas(DUMBBELL, 46, (0, 10, 0, 10), limits, (-1, 1))
    for tick, _ in percent_ticks(*limits):
        canvas.line([(tick, -1), (tick, 1)], "grid")
    alt = f"{domain}: zero-shot {words.pct(old.value)} %, chosen {words.pct(new.value)} %"
    if math.isnan(new.value):
        return canvas.svg(alt)
    if not math.isnan(new.low):
        canvas.line([(new.low, 0), (new.high, 0)], "interval accent")
    if not math.isnan(old.value):
        canvas.line([(old.value, 0), (new.value, 0)], "shift")
        canvas.dot((old.value, 0), 4, "hollow", 0)
    canvas.dot((new.value, 0), 5, "chosen")
    return canvas.svg(alt, "row")


def dumbbell_axis(limits: Point) -> str:
    """The scale above the verdict's drawings."""
    canvas = Canvas(DUMBBELL, 14, (0, 10, 0, 10), limits)
    for tick, text in percent_ticks(*limits):
        canvas.text(canvas.x(tick), 11, text, "tick middle")
    return canvas.svg("scale in percent", "row")


def path(run: Run, method: str, domain: str) -> list[tuple[float, Estimate]]:
    """(alpha, accuracy) along a method's path, from the baseline at 0; empty for a method without one."""
    alphas = run.methods[method].alphas
    if not alphas:
        return []
    steps = [(a, run.score(method, a, domain)) for a in sorted({0.0, *alphas})]
    return [(a, estimate) for a, estimate in steps if not math.isnan(estimate.value)]


def scatter(run: Run, colours: Mapping[str, int], size: Point = (700, 500)) -> str:
    """In-distribution against mean OOD accuracy, with every method's alpha path. Empty without both."""
    paths: dict[str, list[tuple[float, Point]]] = {}
    for name in run.methods:
        there = dict(path(run, name, MEAN))
        paths[name] = [(a, (e.value, there[a].value)) for a, e in path(run, name, ID) if a in there]
    finals = {name: (run.final(name, ID), run.final(name, MEAN)) for name in run.methods}
    finals = {n: pair for n, pair in finals.items() if not any(math.isnan(e.value) for e in pair)}
    if not finals:
        return ""
    ends = [p for steps in paths.values() for _, p in steps] + [(a.value, b.value) for a, b in finals.values()]
    bars = [*finals.values()]
    canvas = Canvas(*size, (20, 70 if size[0] > 500 else 44, 46, 34))
    canvas.x_range = padded([p[0] for p in ends] + [v for a, _ in bars for v in (a.low, a.high)], 0.03, 0.01)
    canvas.y_range = padded([p[1] for p in ends] + [v for _, b in bars for v in (b.low, b.high)], 0.05, 0.01)
    canvas.axes(percent_ticks(*canvas.x_range, 6), percent_ticks(*canvas.y_range, 6))
    low, high = max(canvas.x_range[0], canvas.y_range[0]), min(canvas.x_range[1], canvas.y_range[1])
    if high - low > 0.1 * (canvas.x_range[1] - canvas.x_range[0]):
        canvas.line([(low, low), (high, high)], "guide")
        canvas.text(canvas.x(high) - 16, canvas.y(high) + 10, "no loss", "axis end")
    canvas.text(
        (canvas.margin[3] + canvas.width - canvas.margin[1]) / 2, size[1] - 6, "in distribution, %", "axis middle"
    )
    canvas.text(6, 10, "out of distribution, mean, %", "axis")
    labels = Labels(canvas)
    for name, steps in paths.items():
        canvas.line([p for _, p in steps], "path" + (" strong" if name == run.chosen else ""), colours[name])
        for _, p in steps:
            canvas.dot(p, 2.6, "step", colours[name])
            labels.avoid(p, 4)
        for (_, p), (_, q) in itertools.pairwise(steps):
            for share in (0.25, 0.5, 0.75):
                labels.avoid((p[0] + (q[0] - p[0]) * share, p[1] + (q[1] - p[1]) * share), 3)
    for name, (a, b) in finals.items():
        kind = "interval" + (" strong" if name == run.chosen else "")
        if not math.isnan(a.low):
            canvas.line([(a.low, b.value), (a.high, b.value)], kind, colours[name])
        if not math.isnan(b.low):
            canvas.line([(a.value, b.low), (a.value, b.high)], kind, colours[name])
        labels.avoid((a.value, b.value), 9)
        for share in range(1, 10):  # words keep off the interval's arms
            labels.avoid((a.low + (a.high - a.low) * share / 10, b.value), 3)
            labels.avoid((a.value, b.low + (b.high - b.low) * share / 10), 3)
    for name, (a, b) in finals.items():
        if name == run.chosen:
            canvas.star((a.value, b.value), 11)
        else:
            canvas.dot((a.value, b.value), 5, "hollow" if name == run.baseline else "final", colours[name])
    for name in sorted(finals, key=lambda name: name != run.chosen):
        at = paths[name][-1][1] if paths[name] else (finals[name][0].value, finals[name][1].value)
        labels.place(at, run.methods[name].title, "label" + (" strong" if name == run.chosen else ""), colours[name])
    if paths[run.chosen]:
        at = (finals[run.chosen][0].value, finals[run.chosen][1].value)
        labels.place(at, words.alpha(run.alpha), "label strong", colours[run.chosen])
    told = "; ".join(
        f"{run.methods[n].title} {words.pct(a.value)} % in, {words.pct(b.value)} % out" for n, (a, b) in finals.items()
    )
    return canvas.svg(f"Accuracy in distribution against the mean out of distribution: {told}.")


def alpha_panels(run: Run, colours: Mapping[str, int]) -> list[tuple[str, int, str]]:
    """(domain, pictures, drawing) for select, each reported domain and the OOD mean, on one scale."""
    walkers = [name for name in run.methods if run.methods[name].alphas]
    domains = [d for d in (SELECT, *run.domains, MEAN) if any(path(run, name, d) for name in walkers)]
    if len(run.ood) < 2:
        domains = [d for d in domains if d != MEAN]
    values = [e.value for d in domains for name in walkers for _, e in path(run, name, d)]
    values += [run.final(name, d).value for d in domains for name in run.methods]
    limits = padded(values, 0.05)
    right = 10 + max((width_of(run.methods[name].title, 11) for name in run.methods), default=0)
    out = []
    for domain in domains:
        canvas = Canvas(300, 200, (8, right, 24, 30), (0, 1), limits)
        canvas.axes([(0, "0"), (0.5, "½"), (1, "1")], percent_ticks(*limits, 5))
        _band(canvas, path(run, run.chosen, domain), colours[run.chosen])
        told = _lines(canvas, run, domain, walkers, colours)
        best = run.final(run.chosen, domain)
        if run.alpha is not None and not math.isnan(best.value):
            canvas.star((run.alpha, best.value), 8)
        n = best.n or next((e.n for name in walkers for _, e in path(run, name, domain) if e.n), 0)
        out.append((domain, n, canvas.svg(f"Accuracy on {domain} along alpha. {told}")))
    return out


def _band(canvas: Canvas, steps: Sequence[tuple[float, Estimate]], slot: int) -> None:
    known = [(a, e) for a, e in steps if not math.isnan(e.low)]
    low, high = canvas.y_range
    if len(known) > 1:
        upper = [(a, min(high, e.high)) for a, e in known]
        canvas.area(upper + [(a, max(low, e.low)) for a, e in reversed(known)], "band", slot)


def _lines(canvas: Canvas, run: Run, domain: str, walkers: Sequence[str], colours: Mapping[str, int]) -> str:
    """Draws every path and every pathless method in one panel; returns what is drawn in words."""
    ends: list[tuple[float, str]] = []
    for name in walkers:
        steps = [(a, e.value) for a, e in path(run, name, domain)]
        if steps:
            canvas.line(steps, "path" + (" strong" if name == run.chosen else ""), colours[name])
            ends.append((steps[-1][1], name))
    for name in run.methods:
        value = run.final(name, domain).value
        if name not in walkers and not math.isnan(value):
            canvas.line([(0, value), (1, value)], "level", colours[name])
            ends.append((value, name))
    bottom = canvas.height - canvas.margin[2]
    heights = spread([canvas.y(value) + 3.5 for value, _ in ends], 12, canvas.margin[0] + 4, bottom + 2)
    for (_, name), y in zip(ends, heights, strict=True):
        kind = "small label" + (" strong" if name == run.chosen else "")
        canvas.text(canvas.width - canvas.margin[1] + 6, y, run.methods[name].title, kind, colours[name])
    return "At the right edge: " + ", ".join(f"{run.methods[n].title} {words.pct(v)} %" for v, n in ends) + "."
