"""How numbers are written on the page: one decimal of a percent, a real minus sign, spans with an en dash."""

from __future__ import annotations

import math

from likewise.metrics import Estimate

DASH = "–"
MINUS = "−"
NONE = "·"
"""What a cell holds when there is no number; screen readers skip it."""
NARROW = "\u202f"
"""No-break space before a unit."""


def signed(text: str) -> str:
    """A number with its sign, minus sign included."""
    return text.replace("-", MINUS)


def pct(value: float) -> str:
    """A fraction as a percentage with one decimal, without the sign: 0.8123 is `81.2`."""
    return NONE if math.isnan(value) else signed(f"{100 * value:.1f}")


def points(value: float) -> str:
    """A difference of fractions in percentage points, always signed: -0.021 is `−2.1`."""
    if math.isnan(value):
        return NONE
    text = f"{100 * value:+.1f}"
    return "0.0" if float(text) == 0 else signed(text)


def span(estimate: Estimate) -> str:
    """The 95 % interval of a fraction in percent: `78.9–83.4`; empty when it is not known."""
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return ""
    return f"{pct(estimate.low)}{DASH}{pct(estimate.high)}"


def alpha(value: float | None) -> str:
    """Alpha as a person writes it."""
    return "" if value is None else f"α{NARROW}={NARROW}{value:g}"


def seconds(value: float) -> str:
    """A duration a person reads: `0.4 s`, `48 s`, `3.3 min`, `2.1 h`."""
    if math.isnan(value):
        return NONE
    if value < 9.95:
        return f"{value:.1f}{NARROW}s"
    for size, unit, most in ((1, "s", 99.5), (60, "min", 99.5)):
        if value / size < most:
            return f"{value / size:.{0 if size == 1 else 1}f}{NARROW}{unit}"
    return f"{value / 3600:.1f}{NARROW}h"


def count(value: int) -> str:
    """A count short enough for a table: `812`, `65.5 k`, `4.21 M`."""
    if value < 10_000:
        return f"{value:,}"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{NARROW}{unit}"
    raise AssertionError(value)


def listed(items: list[str], n: int = 6) -> str:
    """`a`, `a and b`, `a, b and c`, `a, b and 7 more`."""
    if len(items) > n:
        return f"{', '.join(items[:n])} and {len(items) - n} more"
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""


def plural(n: int, one: str, many: str = "") -> str:
    """A count with its noun."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
