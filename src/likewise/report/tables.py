"""The comparison of methods as rows and cells, for the page and for Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from likewise.metrics import Estimate
from likewise.report import words
from likewise.report.read import ID, MEAN, Method, Run

ECE_ID, ECE_OOD = "ECE id", "ECE OOD"


@dataclass(frozen=True)
class Cell:
    """A number as text, its interval, and whether it is the best of its column."""

    text: str
    interval: str = ""
    best: bool = False


@dataclass(frozen=True)
class Line:
    """A method at one alpha. `second` marks a line that shows the same method without interpolation."""

    method: Method
    alpha: float | None
    chosen: bool
    second: bool
    cells: Sequence[Cell]

    @property
    def label(self) -> str:
        return words.alpha(self.alpha)


@dataclass(frozen=True)
class Table:
    """The comparison: column heads and lines."""

    columns: Sequence[str]
    lines: Sequence[Line]

    @property
    def refusals(self) -> list[tuple[str, str]]:
        """(title, why it has no path) of the methods that cannot be interpolated."""
        return [
            (line.method.title, line.method.refused) for line in self.lines if line.method.refused and not line.second
        ]


def comparison(run: Run) -> Table:
    """Every method at its chosen alpha, and at alpha = 1 where that differs."""
    places: list[tuple[Method, float | None, bool]] = []
    for method in run.methods.values():
        places.append((method, method.alpha, False))
        end = run.score(method.name, 1.0, ID if ID in run.domains else MEAN)
        if 1.0 in method.alphas and method.alpha != 1.0 and not math.isnan(end.value):
            places.append((method, 1.0, True))
    columns: list[tuple[str, str, str]] = [(domain, domain, "accuracy") for domain in run.domains]
    if len(run.ood) > 1:
        columns.append(("OOD mean", MEAN, "accuracy"))
    columns += [(ECE_ID, ID, "ece"), (ECE_OOD, MEAN if len(run.ood) > 1 else "".join(run.ood), "ece")]
    numbers = {title: [run.score(m.name, a, d, metric) for m, a, _ in places] for title, d, metric in columns}
    numbers = {title: values for title, values in numbers.items() if any(not math.isnan(e.value) for e in values)}
    cells = {title: _cells(values, title in (ECE_ID, ECE_OOD)) for title, values in numbers.items()}
    cells["trained"] = [Cell("" if second else words.count(m.trained)) for m, _, second in places]
    cells["time"] = [Cell("" if second else words.seconds(m.seconds)) for m, _, second in places]
    lines = []
    for i, (method, alpha, second) in enumerate(places):
        chosen = method.name == run.chosen and not second
        lines.append(Line(method, alpha, chosen, second, [column[i] for column in cells.values()]))
    return Table(list(cells), lines)


def _cells(values: Sequence[Estimate], low_is_best: bool) -> list[Cell]:
    """Numbers of one column; equal texts share the mark, so that a tie after rounding is no ranking."""
    known = [e.value for e in values if not math.isnan(e.value)]
    best = words.pct(min(known) if low_is_best else max(known))
    return [Cell(words.pct(e.value), words.span(e), words.pct(e.value) == best) for e in values]


def markdown(run: Run) -> str:
    """The same as a Markdown table: percent with 95 % intervals, best in bold, the chosen method marked."""
    table = comparison(run)
    out = ["| method | " + " | ".join(table.columns) + " |", "|---|" + "---:|" * len(table.columns)]
    for line in table.lines:
        name = f"{line.method.title} {line.label}".strip().replace("|", "\\|")
        name = f"**{name}** (chosen)" if line.chosen else name
        texts = []
        for cell in line.cells:
            number = f"**{cell.text}**" if cell.best else cell.text
            texts.append(f"{number} ({cell.interval})" if cell.interval else number)
        out.append(f"| {name} | " + " | ".join(texts) + " |")
    return "\n".join(out) + "\n"
