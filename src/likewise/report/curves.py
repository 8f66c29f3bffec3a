"""The report of a sweep: accuracy against shots in every domain, the numbers, and the way to each run's own report."""

from __future__ import annotations

import itertools
import math
import os
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from likewise import files
from likewise.errors import DataError
from likewise.metrics import FEWEST, Estimate
from likewise.report import page, words
from likewise.report.charts import percent_ticks
from likewise.report.read import ID, MEAN
from likewise.report.svg import Canvas, Point, padded, slots, spread, width_of

QUESTION, CURVES = "sweep.yaml", "curves.json"
"""What tells a sweep from a run, and what the page is made from."""
FEW = "‡"
"""Marks a mean over too few seeds for an interval."""
TEXT = 11
"""Size of the words beside the curves."""


@dataclass(frozen=True)
class Number:
    """A place on a curve. `seeds`: the interval is over seeds, not over the pictures of one run; `alphas`: theirs.

    `few`: there are too few seeds for an interval; `each` has their numbers, which are shown instead.
    """

    estimate: Estimate
    seeds: bool
    pictures: int
    alphas: tuple[float, ...]
    each: tuple[float, ...] = ()

    @property
    def few(self) -> bool:
        return bool(self.each)

    @property
    def spread(self) -> str:
        """The interval, or the numbers of too few seeds for one; with its mark."""
        if self.few:
            return ", ".join(words.pct(value) for value in self.each) + f" {FEW}"
        return words.span(self.estimate)

    @property
    def chosen(self) -> str:
        """The alphas at which the method stands, from smallest to largest."""
        low, high = (min(self.alphas), max(self.alphas)) if self.alphas else (None, None)
        return words.alpha(low) + (f"{words.DASH}{high:g}" if high != low else "")


@dataclass(frozen=True)
class Curves:
    """Everything the page says, from curves.json. `numbers` are by method, shots (0: all) and domain."""

    folder: Path
    tree: Mapping[str, Any]
    numbers: Mapping[tuple[str, int, str], Number]

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def methods(self) -> Mapping[str, Mapping[str, str]]:
        methods: Mapping[str, Mapping[str, str]] = self.tree["methods"]
        return methods

    @property
    def shots(self) -> list[int]:
        return list(self.tree["shots"])

    @property
    def domains(self) -> list[str]:
        """In distribution and the mean first; no mean of a single domain."""
        found = [d for d in self.tree["domains"] if d not in (ID, MEAN)]
        return [*([ID] if ID in self.tree["domains"] else []), *([MEAN] if len(found) > 1 else []), *found]

    def curve(self, method: str, domain: str) -> list[tuple[int, Number]]:
        """(shots, number) along a method's curve, known numbers only."""
        steps = [(k, self.numbers.get((method, k, domain))) for k in self.shots]
        return [(k, number) for k, number in steps if number and not math.isnan(number.estimate.value)]


def is_sweep(folder: Path) -> bool:
    """Whether a sweep was begun here."""
    return (folder / QUESTION).exists()


def read_curves(folder: Path) -> Curves:
    """The curves in a sweep's folder. Raises `DataError` for a sweep that has not finished, or one that is garbled."""
    if not (folder / CURVES).exists():
        message = f"{folder} holds no {CURVES}, so there is nothing to report; the sweep has not finished"
        raise DataError("R03", f"{message}: run its command again with --resume.")
    tree = files.read_json(folder / CURVES)
    numbers = {}
    try:
        for row in tree["rows"]:
            over = row["interval"] in ("seeds", "few")
            each = tuple(map(float, row["values"])) if over and int(row["n"]) < FEWEST else ()
            bounds = (None if each else row[k] for k in ("low", "high"))
            value, low, high = (math.nan if x is None else float(x) for x in (row["mean"], *bounds))
            alphas = tuple(float(a) for a in row["alphas"] if a is not None)
            number = Number(Estimate(value, low, high, int(row["n"])), over, int(row["pictures"]), alphas, each)
            numbers[str(row["method"]), int(row["shots"]), str(row["domain"])] = number
        curves = Curves(folder, tree, numbers)
        _ = [tree[key] for key in ("baseline", "seeds", "sizes", "cells", "encoder", "data")], curves.domains
        _ = curves.methods, curves.shots
    except (KeyError, TypeError, ValueError) as error:
        message = f"{folder}/{CURVES} lacks or garbles {error}: it was written by another version of likewise,"
        raise DataError("R04", f"{message} or edited. Run the sweep's command again with --resume.") from None
    return curves


def places(shots: Sequence[int]) -> dict[int, float]:
    """Where each count stands: the base-2 logarithm, and all pictures (0) one doubling beyond the largest."""
    known = [k for k in shots if k]
    return {k: math.log2(k) if k else math.log2(2 * max(known)) if known else 0.0 for k in shots}


def windows(curves: Curves) -> dict[str, Point]:
    """The range of accuracy of each domain's panel: all of one height in points, so that slopes can be compared.

    They hold all means, the numbers of few seeds, and of the bands what does not crush the curves.
    """
    out = {}
    for domain in curves.domains:
        mine = [n for (_, _, d), n in curves.numbers.items() if d == domain]
        found = [n.estimate for n in mine]
        low, high = padded([value for n in mine for value in (n.estimate.value, *n.each)], 0.1)
        reach = max(0.03, 0.5 * (high - low))
        low = min([low, *(max(e.low, low - reach) for e in found if not math.isnan(e.low))])
        high = max([high, *(min(e.high, high + reach) for e in found if not math.isnan(e.high))])
        out[domain] = low, high
    tall = min(1.0, max(high - low for low, high in out.values()))
    for domain, (low, high) in out.items():
        start = min(max(0.0, (low + high - tall) / 2), 1.0 - tall)
        out[domain] = start, start + tall
    return out


def panel(curves: Curves, domain: str, colours: Mapping[str, int], limits: Point, size: Point) -> str:
    """One domain's curves with their bands; words at the right edge name the methods."""
    at = places(curves.shots)
    right = 12 + max(width_of(name, TEXT) for name in curves.methods)
    pad = 0.12 if len(at) > 1 else 0.5
    canvas = Canvas(*size, (10, right, 36, 34), (min(at.values()) - pad, max(at.values()) + pad), limits)
    canvas.axes(_apart(canvas, at), percent_ticks(*limits, 5))
    middle = (canvas.margin[3] + canvas.width - right) / 2
    canvas.text(middle, canvas.height - 5, "training pictures a class", "axis middle")
    known = {name: curves.curve(name, domain) for name in curves.methods}
    known = {name: steps for name, steps in known.items() if steps}
    baseline = curves.tree["baseline"]
    walkers = [name for name in known if name != baseline]
    wide = 0.8 if len(at) == 1 else 0.0  # points above one another are set side by side
    aside = {name: wide * ((i + 1) / (len(walkers) + 1) - 0.5) for i, name in enumerate(walkers)}
    for name, steps in known.items():
        if name in aside:
            steps_at = [(at[k] + aside[name], n) for k, n in steps]
            _band(canvas, steps_at, len(curves.tree["seeds"]) > 1, colours[name])
    for name, steps in known.items():
        points = [(at[k] + aside.get(name, 0.0), n.estimate.value) for k, n in steps]
        if name == baseline:  # nothing is trained: one level, whatever the shots
            canvas.line([(x, points[-1][1]) for x in canvas.x_range], "level", colours[name])
            continue
        whole = len(points) - (steps[-1][0] == 0)
        canvas.line(points[:whole], "path", colours[name])
        if 0 < whole < len(points):
            canvas.line(points[whole - 1 :], "path broken", colours[name])
        for point, (_, number) in zip(points, steps, strict=True):
            canvas.dot(point, 2.6, "step", colours[name])
            for value in number.each:
                canvas.dot((point[0], value), 1.8, "seed", colours[name])
    ends = [(steps[-1][1].estimate.value, name) for name, steps in known.items()]
    bottom = canvas.height - canvas.margin[2]
    heights = spread([canvas.y(value) + 3.5 for value, _ in ends], 12, canvas.margin[0] + 4, bottom + 2)
    for (_, name), y in zip(ends, heights, strict=True):
        canvas.text(canvas.width - right + 8, y, name, "small label", colours[name])
    last = "all pictures" if curves.shots[-1] == 0 else words.plural(curves.shots[-1], "shot")
    told = ", ".join(f"{name} {words.pct(value)} %" for value, name in ends)
    return canvas.svg(f"Accuracy on {place(domain)} against shots. At {last}: {told}.")


def _apart(canvas: Canvas, at: Mapping[int, float]) -> list[tuple[float, str]]:
    """The ticks of the shots; a label that would touch the one before is left out."""
    out: list[tuple[float, str]] = []
    edge = -math.inf
    for shots, x in sorted(at.items(), key=lambda pair: pair[1]):
        text = str(shots) if shots else "all"
        half = width_of(text, TEXT) / 2 + 2
        free = canvas.x(x) - half > edge
        edge = canvas.x(x) + half if free else edge
        out.append((x, text if free else ""))
    return out


def _band(canvas: Canvas, steps: Sequence[tuple[float, Number]], several: bool, slot: int) -> None:
    """Intervals of one kind as a band; among several seeds, one over pictures is another thing and stands upright."""
    low, high = canvas.y_range
    known = [(x, n) for x, n in steps if not math.isnan(n.estimate.low + n.estimate.high)]
    fit = [(x, max(low, n.estimate.low), min(high, n.estimate.high), n.seeds == several) for x, n in known]
    for banded, group in itertools.groupby(fit, key=lambda step: step[3]):
        part = [(x, a, b) for x, a, b, _ in group]
        if banded and len(part) > 1:
            canvas.area([(x, b) for x, _, b in part] + [(x, a) for x, a, _ in reversed(part)], "band", slot)
        for x, a, b in part if not banded or len(part) == 1 else ():
            canvas.line([(x, a), (x, b)], "interval" + (" strong" if banded else ""), slot)


def place(domain: str) -> str:
    """A domain's name in a sentence."""
    return {ID: "in distribution", MEAN: "OOD mean"}.get(domain, domain)


def cut(curves: Curves, limits: Mapping[str, Point]) -> bool:
    """Whether some band reaches beyond its drawing."""
    shown = [(n.estimate, *limits[d]) for (m, _, d), n in curves.numbers.items()
             if d in limits and m != curves.tree["baseline"]]  # fmt: skip
    return any(e.low < low - 1e-9 or e.high > high + 1e-9 for e, low, high in shown)


def render(curves: Curves, target: Path) -> str:
    """The page as HTML; links to the runs' reports are relative to where the page will lie."""
    colours, limits = slots(curves.methods), windows(curves)
    drawn = {d: Markup(panel(curves, d, colours, limits[d], (300, 230))) for d in curves.domains}
    large = curves.domains[:2]  # in distribution, and the mean or the only domain out of it
    for domain in large:
        drawn[domain] = Markup(panel(curves, domain, colours, limits[domain], (520, 330)))
    runs: dict[int, list[dict[str, Any]]] = {}
    for cell in curves.tree["cells"]:
        there = curves.folder.resolve() / cell["folder"] / "report.html"
        way = Path(os.path.relpath(there, target.resolve().parent)).as_posix()
        link = urllib.parse.quote(way) if there.exists() else ""
        runs.setdefault(cell["shots"], []).append({**cell, "link": link})
    first = next(iter(curves.tree["cells"]), None)
    command = curves.folder / first["folder"] / "command.txt" if first else None
    return page.filled(
        "curves.html.j2",
        curves=curves,
        place=place,
        large=[(d, drawn.pop(d)) for d in large],
        panels=list(drawn.items()),
        colours=colours,
        pictures={domain: number.pictures for (_, _, domain), number in curves.numbers.items()},
        cut=cut(curves, limits),
        agreed=any(not n.seeds for (m, _, _), n in curves.numbers.items() if m != curves.tree["baseline"]),
        daggers=any(not n.seeds for n in curves.numbers.values()),
        few=sorted({n.estimate.n for n in curves.numbers.values() if n.few}),
        mark=FEW,
        runs=runs,
        seconds=sum(cell["seconds"] for cell in curves.tree["cells"]),
        command=command.read_text().strip() if command and command.exists() else "",
    )


def summary(curves: Curves) -> str:
    """`report.md`: a table of every domain; mean, interval, and a dagger where it is over pictures."""
    seeds = len(curves.tree["seeds"])
    out = [f"# {curves.name}: accuracy against shots, {words.plural(seeds, 'seed')}", ""]
    for domain in curves.domains:
        out += [f"## {place(domain)}", "", "| method | " + " | ".join(str(k or "all") for k in curves.shots) + " |"]
        out += ["|---|" + "---:|" * len(curves.shots)]
        for name, about in curves.methods.items():
            cells = [text(curves.numbers.get((name, k, domain))) for k in curves.shots]
            out.append(f"| {about['title']} (`{name}`) | " + " | ".join(cells) + " |")
        out.append("")
    out.append("Percent; in brackets the 95 % interval over seeds (Student's t), or † of one run over its pictures.")
    if any(number.few for number in curves.numbers.values()):
        out[-1] = out[-1][:-1] + f"; {FEW} too few seeds for an interval, so the number of each."
    return "\n".join(out) + "\n"


def text(number: Number | None) -> str:
    """A cell of a Markdown table."""
    if number is None or math.isnan(number.estimate.value):
        return words.NONE
    return f"{words.pct(number.estimate.value)} ({number.spread}{'' if number.seeds else ' †'})"
