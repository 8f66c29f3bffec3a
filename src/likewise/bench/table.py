"""What came of a suite: means over seeds with their intervals, beside the numbers that are published."""

# S seeds.

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from likewise import files
from likewise.bench.cells import state
from likewise.bench.episodic import EPISODES
from likewise.errors import some
from likewise.metrics import FEWEST, half_width
from likewise.run.results import find
from likewise.suites import Block, Cell, Expect, Suite

PLAIN = "accuracy"


class Line(NamedTuple):
    """One number of the table, over the seeds that are done. `half` is half of the 95 % t-interval over seeds; of one
    seed it is NaN, or that over episodes.
    """

    encoder: str
    dataset: str
    shots: int
    method: str
    domain: str
    metric: str
    mean: float
    half: float
    seeds: int
    n: int
    alpha: float | None = None
    """The point of the method's path; None: the one chosen on the select split."""


class Number(NamedTuple):
    """One number of one cell. `half`, of episodes alone, is half of the 95 % interval over these."""

    domain: str
    metric: str
    value: float
    n: int
    half: float


class Check(NamedTuple):
    """A published number beside ours, in percent; `line` None where the cells are not done, or where what was `ran`
    has no such domain or metric.
    """

    expected: Expect
    line: Line | None
    ran: bool

    @property
    def difference(self) -> float:
        return float("nan") if self.line is None else 100 * self.line.mean - self.expected.value

    @property
    def within(self) -> bool:
        return abs(self.difference) <= self.expected.tolerance  # of NaN, no

    @property
    def verdict(self) -> str:
        if self.line is None:
            return "no such number" if self.ran else "not run"
        said = "within" if self.within else "outside"
        return said if self.expected.verified else f"{said} (unverified)"


class Key(NamedTuple):
    """Which number it is, whatever the seed."""

    encoder: str
    dataset: str
    shots: int
    method: str
    domain: str
    metric: str
    alpha: float | None


Values = dict[Key, dict[int, Number]]
"""Numbers by seed."""


def lines(cells: Iterable[Cell], out: Path) -> list[Line]:
    """Every number of the cells that are done, in their order, failed ones left out; at each method's own points."""
    return [_line(key, by_seed) for key, by_seed in _values(cells, out, None).items()]


def _values(cells: Iterable[Cell], out: Path, alpha: float | None) -> Values:
    """The same, by seed; at `alpha` where one is given, in the place of each method's own points."""
    values: Values = {}
    for cell in cells:
        if state(cell, out).kind == "done":
            folder, name = out / cell.folder, cell.method.called
            for at in cell.method.points if alpha is None else (alpha,):
                for number in _numbers(folder, _changed(folder), name, at, cell.episodes is not None):
                    key = Key(cell.encoder, cell.dataset, cell.shots, name, number.domain, number.metric, at)
                    values.setdefault(key, {})[cell.seed] = number
    return values


def _line(key: Key, by_seed: Mapping[int, Number]) -> Line:
    first, *_ = by_seed.values()
    shares_S = [number.value for number in by_seed.values()]
    half = first.half if len(shares_S) == 1 else half_width(shares_S)
    return Line(*key[:-1], sum(shares_S) / len(shares_S), half, len(shares_S), first.n, key.alpha)


def _changed(folder: Path) -> tuple[int, ...]:
    """When the files with a cell's numbers were written."""
    paths = (folder / "results.json", folder / EPISODES)
    return tuple(path.stat().st_mtime_ns for path in paths if path.exists())


@functools.cache
def _numbers(folder: Path, changed: tuple[int, ...], called: str, alpha: float | None, episodes: bool) -> list[Number]:
    """Each domain's own metric, at `alpha` or the one chosen; where that is another, accuracy too; then `episodes`.

    A table is written after every cell, and a cell's results are read again only where they `changed`.
    """
    results = files.read_json(folder / "results.json")
    if alpha is None:
        alpha = results["methods"][called]["alpha"]
    ways: dict[str, Any] = files.read_json(folder / "data/ways.json") if (folder / "data/ways.json").exists() else {}
    rows = [r for r in results["rows"] if r["split"] == "report" and r["method"] == called and r["alpha"] == alpha]
    found = []
    for domain in dict.fromkeys(r["domain"] for r in rows):
        own = ways.get(domain, {"metric": PLAIN})["metric"]
        for metric in dict.fromkeys((own, PLAIN)):
            if r := find(rows, domain=domain, metric=metric):
                found.append(Number(domain, metric, r["value"], r["n"], float("nan")))
    if episodes:
        rows = [r for r in files.read_json(folder / EPISODES)["rows"] if r["alpha"] == alpha]
        found += [Number(r["domain"], r["metric"], r["value"], r["n"], (r["high"] - r["low"]) / 2) for r in rows]
    return found


def checks(suite: Suite, cells: Sequence[Cell], out: Path) -> list[Check]:
    """Every published number that these cells of the suite can answer, beside the line, or the mean of lines, that it
    is about.
    """
    found = {}
    for alpha in {expected.alpha for expected in suite.expect}:
        values = _values(cells, out, alpha)
        # of a method's several points the first is the one that is meant
        found[alpha] = {key[:-1]: (key, by_seed) for key, by_seed in reversed(values.items())}
    about = [(expected, _places(expected, suite.cells, cells)) for expected in suite.expect]
    return [Check(e, *_about(e, places, found[e.alpha])) for e, places in about if places]


Places = dict[str, list[tuple[str, int]]]
"""Of each encoder, data sets with shot counts."""


def _places(expected: Expect, every: Iterable[Cell], cells: Iterable[Cell]) -> Places:
    """What a published number is of, for each encoder of which `cells` has all that `every` has; seeds do not count."""

    def of(some: Iterable[Cell]) -> Places:
        found: dict[str, dict[tuple[str, int], None]] = {}
        for cell in expected.among(some):
            found.setdefault(cell.encoder, {})[cell.dataset, cell.shots] = None
        return {encoder: list(places) for encoder, places in found.items()}

    here = of(cells)
    return {encoder: places for encoder, places in of(every).items() if {*here.get(encoder, [])} == {*places}}


Part = tuple[Key, Mapping[int, Number]]


def _about(expected: Expect, about: Places, found: Mapping[tuple[Any, ...], Part]) -> tuple[Line | None, bool]:
    """The line of a published number, of the first encoder that has all of its parts (None where one is missing), and
    whether an encoder has at least other numbers of each.
    """
    there_are, ran = {key[:4] for key in found}, False
    for encoder, places in about.items():
        ran |= {(encoder, *place, expected.method) for place in places} <= there_are
        parts = [
            found.get((encoder, *place, expected.method, domain, expected.metric))
            for place in places for domain in expected.domains
        ]  # fmt: skip
        there = [part for part in parts if part is not None]
        if len(there) == len(parts):
            return _mean(there), True
    return None, ran


def _mean(parts: Sequence[Part]) -> Line:
    """The unweighted mean of lines; its interval is that of the means which seeds have that all parts share."""
    found = [_line(*part) for part in parts]
    if len(found) == 1:
        return found[0]
    shared = sorted(set.intersection(*({*by_seed} for _, by_seed in parts)))
    means_S = [sum(by_seed[seed].value for _, by_seed in parts) / len(parts) for seed in shared]
    first = found[0]
    return first._replace(
        dataset="", domain="", shots=0, mean=sum(line.mean for line in found) / len(found), half=half_width(means_S),
        seeds=len(shared), n=sum(line.n for line in found),
    )  # fmt: skip


def markdown(suite: Suite, cells: Sequence[Cell], out: Path) -> str:
    """The tables as Markdown: one for each encoder and shot count, the published numbers, and what is missing."""
    found = lines(cells, out)
    parts = [f"# {suite.title}", "", *filter(None, [suite.paper, suite.about]), ""]
    if suite.departs:
        parts += [f"Departs: {suite.departs}", ""]
    said = f"Percent, mean over seeds, with half of the 95 % t-interval over seeds from {FEWEST} seeds on"
    parts += [f"{said}; of episodes from one seed, over these." if suite.episodes else f"{said}.", ""]
    parts += [line for said in dict.fromkeys(map(_capped, suite.blocks)) if said for line in (said, "")]
    for encoder, shots in dict.fromkeys((line.encoder, line.shots) for line in found):
        own = [line for line in found if (line.encoder, line.shots) == (encoder, shots)]
        parts += [f"## {encoder}, {f'{shots} shots' if shots else 'all pictures'}", "", _grid(own), ""]
    if found_checks := checks(suite, cells, out):
        parts += ["## Beside what is published", "", _published(found_checks), ""]
    lost = [(cell, state(cell, out)) for cell in cells]
    if gone := [(cell, s) for cell, s in lost if s.kind != "done"]:
        parts += [
            "## Not in the tables",
            "",
            *(f"- {cell}: {s.kind}{f' - {s.why}' if s.why else ''}" for cell, s in gone),
        ]
    return "\n".join(parts).rstrip() + "\n"


def _capped(block: Block) -> str:
    """How many pictures a block's data are cut to; "" where they are not."""
    most = ", ".join(f"{name} {n:,}" for name, n in block.most.items())
    return f"Pictures of {some(block.datasets, 3)}, at most: {most}." if most else ""


def _grid(found: Sequence[Line]) -> str:
    """A row for each number of each data set, a column for each method, or for each point of its path."""
    by_key = {(line.dataset, line.domain, line.metric, line.method, line.alpha): line for line in found}
    points = list(dict.fromkeys((line.method, line.alpha) for line in found))
    several = {method for method, count in Counter(method for method, _ in points).items() if count > 1}
    heads = [f"{m} at {alpha:g}" if m in several and alpha is not None else m for m, alpha in points]
    rows = ["| data | | n | " + " | ".join(heads) + " |", "|---|---|---:|" + "---:|" * len(points)]
    for key, n in {(line.dataset, line.domain, line.metric): line.n for line in found}.items():
        dataset, domain, metric = key
        cells = [_said(by_key.get((*key, *point))) for point in points]
        measure = domain if metric == PLAIN else f"{domain} {metric}"
        rows.append(f"| {dataset} | {measure} | {n:,} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _said(line: Line | None) -> str:
    if line is None:
        return "–"
    known = line.seeds >= FEWEST or (line.seeds == 1 and not math.isnan(line.half))
    return f"{100 * line.mean:.1f}" + (f" ± {100 * line.half:.1f}" if known else "")


def _published(found: Sequence[Check]) -> str:
    rows = [
        "| method | on | published | here | difference | tolerance | | source |",
        "|---|---|---:|---:|---:|---:|---|---|",
    ]
    for check in found:
        e, on = check.expected, _on(check.expected)
        gap = "–" if check.line is None else f"{check.difference:+.1f}"
        rows.append(f"| {e.method} | {on} | {e.value:.1f} | {_said(check.line)} | {gap} | {e.tolerance:g} | "
                    f"{check.verdict} | {e.source} |")  # fmt: skip
    return "\n".join(rows)


def _on(e: Expect) -> str:
    """What a published number is of, but for the method."""
    many = "mean of" if len(e.datasets) * len(e.domains) * len(e.shots) > 1 else ""
    shots = f"{', '.join(map(str, e.shots))} shots" if any(e.shots) else ""
    rest = ("" if e.metric == PLAIN else e.metric, shots, "" if e.alpha is None else f"at alpha {e.alpha:g}")
    return " ".join(filter(None, (e.encoder, many, some(e.datasets, 3), ", ".join(e.domains), *rest)))
