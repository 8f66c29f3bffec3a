"""What a person sees: bars on a terminal and plain lines elsewhere, tables, and errors without a traceback."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from likewise.errors import UsageError
from likewise.run.choose import name_of
from likewise.run.results import find
from likewise.run.watch import Watch

out = Console(highlight=False, width=None if sys.stdout.isatty() else 180)
err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 180)


class Bars(Watch):
    """Progress to stderr: a bar on a terminal; elsewhere a line at each tenth, and at least each half minute."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.tasks: dict[str, TaskID] = {}
        self.shown: dict[str, tuple[int, float]] = {}
        columns = (TextColumn("{task.description:>20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                   TimeRemainingColumn(), TextColumn("{task.fields[note]}"))  # fmt: skip
        self.progress = Progress(*columns, console=err) if err.is_terminal and not quiet else None

    def __enter__(self) -> Bars:
        if self.progress:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress:
            self.progress.stop()

    def say(self, text: str) -> None:
        if not self.quiet:
            err.print(text, markup=False, soft_wrap=True)

    def part(self, text: str) -> None:
        if self.progress:  # a screen has room for the bars of one part
            for task in self.tasks.values():
                self.progress.remove_task(task)
        self.tasks, self.shown = {}, {}
        self.say(text)

    def bar(self, name: str, done: int, total: int, note: str = "") -> None:
        if self.progress:
            if name not in self.tasks:
                self.tasks[name] = self.progress.add_task(name, total=total, note=note)
            self.progress.update(self.tasks[name], completed=done, total=total, note=note)
            return
        tenth, when = self.shown.get(name, (-1, 0.0))
        now = time.monotonic()
        if not self.quiet and (10 * done // max(1, total) > tenth or now - when > 30 or done == total):
            self.shown[name] = (10 * done // max(1, total) if done < total else -1, now)
            err.print(f"{name:>20} {done}/{total} {note}", markup=False)


def percent(row: Mapping[str, Any] | None) -> str:
    """`78.3` and, on a line of its own, `73.9-82.2`: percent with its 95 % interval."""
    return "" if row is None else f"{100 * row['value']:.1f}\n{100 * row['low']:.1f}-{100 * row['high']:.1f}"


def comparison(results: Mapping[str, Any], domains: Sequence[str]) -> Table:
    """Methods x (id, each other domain, their mean, ECE, trained numbers, seconds); the chosen row bold, with an arrow."""
    table = Table(box=None, pad_edge=False, header_style="bold", caption_justify="left")
    table.add_column("method", no_wrap=True)
    others = [d for d in domains if d != "id"]
    for name in ("id", *others, *(["OOD mean"] if others else []), "ECE", "trained", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    chosen = results["chosen"]
    for method, about in results["methods"].items():
        own = chosen["alphas"][method]
        lines = [own] + ([1.0] if about["alphas"] and own != 1.0 and 1.0 in about["alphas"] else [])
        for alpha in lines:
            cells = []
            for domain in ("id", *others, *(["ood-mean"] if others else [])):
                cells.append(
                    percent(
                        find(
                            results["rows"],
                            method=method,
                            alpha=alpha,
                            split="report",
                            domain=domain,
                            metric="accuracy",
                        )
                    )
                )
            error = find(results["rows"], method=method, alpha=alpha, split="report", domain="id", metric="ece")
            picked = (method, alpha) == (chosen["method"], chosen["alpha"])
            label = ("▸ " if picked else "  ") + name_of(method, alpha)
            first = alpha == own
            cost = [f"{about['trained']:,}", f"{about['seconds']:.0f}"] if first else ["", ""]
            style = "bold" if picked else None if first else "dim"
            table.add_row(label, *cells, percent(error), *cost, style=style)
    return table


def listing(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A plain table of texts."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(name)
    for row in rows:
        table.add_row(*row)
    return table


def seconds(text: str) -> float:
    """`90`, `90s`, `30m`, `1h30m` to seconds. Raises `UsageError`."""
    found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if not text.strip() or found is None:
        raise UsageError("C01", f"«{text}» is not a time. Write 30m, 1h30m or 90s.")
    hours, minutes, rest = (float(part or 0) for part in found.groups())
    if not (total := 3600 * hours + 60 * minutes + rest):
        raise UsageError("C01", f"«{text}» leaves no time. Leave the limit out where there is none.")
    return total


def alphas(text: str) -> tuple[float, ...]:
    """`0:1:0.1` (ends included) or `0,0.5,1`. Raises `UsageError` outside 0 to 1."""
    try:
        if ":" in text:
            low, high, step = (float(part) for part in text.split(":"))
            count = round((high - low) / step)
            if count < 1 or abs(low + count * step - high) > 1e-9:
                raise ValueError("steps that do not lead from one end to the other")
            values = tuple(round(low + i * (high - low) / count, 10) for i in range(count + 1))
        else:
            values = tuple(float(part) for part in text.split(","))
    except (ValueError, ZeroDivisionError):
        raise UsageError("C01", f"«{text}» is not a list of alphas. Write 0:1:0.1 or 0,0.5,1.") from None
    wrong = [v for v in values if not 0 <= v <= 1]
    if wrong or not values:
        raise UsageError(
            "C01", f"alpha={wrong[0] if wrong else text} is outside 0…1: 0 is the pretrained model, 1 the tuned one."
        )
    return values
