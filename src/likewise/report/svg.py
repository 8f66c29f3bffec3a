"""A small canvas for inline SVG: data coordinates, round ticks, labels that do not collide.

Colours are CSS classes and variables of the page, so that one drawing serves light, dark and paper. Lengths are in
drawing units, which are CSS pixels where the drawing is shown at its natural width.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

SLOTS = 8
"""Colours beside the baseline's grey; `report.css` defines `--m0` ... `--m8` for light and dark."""

KNOWN = {
    "zero-shot": 0,
    "linear": 1,
    "compacter": 2,
    "prompt": 2,
    "ln": 3,
    "flyp": 4,
    "lp-ft": 5,
    "adapter": 6,
    "bottleneck": 6,
    "film": 6,
    "knn": 7,
    "full": 8,
    "lora": 8,
}
"""A method has the same colour in every report. Others take a free slot from a hash of their name."""

Point = tuple[float, float]


def slots(names: Iterable[str]) -> dict[str, int]:
    """The colour slot of each method of one page; shared only when there are more methods than slots."""
    plain = {name: name.lower().replace("_", "-") for name in names}
    out = {name: KNOWN[key] for name, key in plain.items() if key in KNOWN}
    for name, key in plain.items():
        if name not in out:
            start = zlib.crc32(key.encode()) % SLOTS
            order = [1 + (start + step) % SLOTS for step in range(SLOTS)]
            out[name] = next((slot for slot in order if slot not in out.values()), order[0])
    return out


def ticks(low: float, high: float, n: int = 5) -> list[float]:
    """About `n` round numbers inside [low, high]."""
    if not high > low:
        return [low]
    rough = (high - low) / n
    size = 10.0 ** math.floor(math.log10(rough))
    step = next((size * m for m in (1, 2, 2.5, 5) if size * m >= rough), size * 10)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def padded(values: Iterable[float], share: float = 0.06, least: float = 0.02) -> Point:
    """The range of the finite values, widened by a share on both sides; (0, 1) when there are none."""
    known = [v for v in values if math.isfinite(v)]
    if not known:
        return 0.0, 1.0
    pad = max((max(known) - min(known)) * share, least)
    return min(known) - pad, max(known) + pad


def width_of(text: str, size: float = 12) -> float:
    """About how wide a text is set in a sans serif."""
    return 0.56 * size * len(text)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions near the wanted ones, at least `gap` apart and inside [low, high] if there is room."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    at = [0.0] * len(wanted)
    last = low - gap
    for i in order:
        last = at[i] = max(wanted[i], last + gap)
    last = high + gap
    for i in reversed(order):
        last = at[i] = min(at[i], last - gap)
    return at


@dataclass
class Canvas:
    """A drawing of `width` x `height` whose data window lies inside `margin` (top, right, bottom, left)."""

    width: float
    height: float
    margin: tuple[float, float, float, float] = (10, 10, 24, 34)
    x_range: Point = (0, 1)
    y_range: Point = (0, 1)
    parts: list[str] = field(default_factory=list)

    def x(self, value: float) -> float:
        left, right = self.margin[3], self.width - self.margin[1]
        low, high = self.x_range
        return left + (value - low) / (high - low) * (right - left)

    def y(self, value: float) -> float:
        top, bottom = self.margin[0], self.height - self.margin[2]
        low, high = self.y_range
        return bottom - (value - low) / (high - low) * (bottom - top)

    def line(self, points: Sequence[Point], kind: str, slot: int | None = None) -> None:
        """A polyline through data points."""
        text = " ".join(f"{self.x(a):.1f},{self.y(b):.1f}" for a, b in points)
        self.parts.append(f'<polyline class="{kind}"{_tint(slot)} points="{text}"/>')

    def area(self, points: Sequence[Point], kind: str, slot: int | None = None) -> None:
        text = " ".join(f"{self.x(a):.1f},{self.y(b):.1f}" for a, b in points)
        self.parts.append(f'<polygon class="{kind}"{_tint(slot)} points="{text}"/>')

    def dot(self, at: Point, radius: float, kind: str, slot: int | None = None) -> None:
        x, y = self.x(at[0]), self.y(at[1])
        self.parts.append(f'<circle class="{kind}"{_tint(slot)} cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/>')

    def star(self, at: Point, radius: float, slot: int | None = None) -> None:
        """The mark of the chosen model."""
        x, y = self.x(at[0]), self.y(at[1])
        corners = []
        for k in range(10):
            r, turn = radius * (1 if k % 2 == 0 else 0.46), math.pi * (k / 5 - 0.5)
            corners.append(f"{x + r * math.cos(turn):.1f},{y + r * math.sin(turn):.1f}")
        self.parts.append(f'<polygon class="star"{_tint(slot)} points="{" ".join(corners)}"/>')

    def text(self, x: float, y: float, words: str, kind: str = "", slot: int | None = None) -> None:
        """Words at drawing coordinates; `kind` may hold `end` or `middle` for the anchor."""
        self.parts.append(f'<text class="{kind}"{_tint(slot)} x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>')

    def axes(self, x_ticks: Sequence[tuple[float, str]], y_ticks: Sequence[tuple[float, str]]) -> None:
        """Faint rules at the ticks with their labels, and no box."""
        left, right, bottom = self.margin[3], self.width - self.margin[1], self.height - self.margin[2]
        for value, words in y_ticks:
            y = self.y(value)
            self.parts.append(f'<line class="grid" x1="{left:g}" x2="{right:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
            self.text(left - 6, y + 3.6, words, "tick end")
        for value, words in x_ticks:
            x = self.x(value)
            self.parts.append(
                f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{self.margin[0]:g}" y2="{bottom:.1f}"/>'
            )
            self.text(x, bottom + 15, words, "tick middle")

    def svg(self, alt: str, kind: str = "") -> str:
        """The drawing; `alt` says in words what it shows."""
        size = f'viewBox="0 0 {self.width:g} {self.height:g}"'
        words = f'role="img" aria-label="{escape(alt)}"'
        start = f'<svg class="chart {kind}" {words} {size} style="max-width:{self.width:g}px">'
        return f"{start}{''.join(self.parts)}</svg>"


def _tint(slot: int | None) -> str:
    return "" if slot is None else f' style="--c:var(--m{slot})"'


@dataclass
class Labels:
    """Places words near points so that they cover neither each other nor a taken spot."""

    canvas: Canvas
    size: float = 12
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    def avoid(self, at: Point, radius: float = 5) -> None:
        """A data point that words must not cover."""
        x, y = self.canvas.x(at[0]), self.canvas.y(at[1])
        if math.isnan(x + y):
            return
        self.taken.append((x - radius, y - radius, x + radius, y + radius))

    def place(self, at: Point, words: str, kind: str, slot: int | None) -> None:
        x, y, wide = self.canvas.x(at[0]), self.canvas.y(at[1]), width_of(words, self.size)
        best: tuple[float, float, float] | None = None
        for far in (9, 16, 26, 38):
            for dx, dy in ((1, 0), (-1, 0), (0, -1), (0, 1), (0.7, -0.7), (0.7, 0.7), (-0.7, -0.7), (-0.7, 0.7)):
                left = x + far * dx - (wide if dx < 0 else wide / 2 if dx == 0 else 0)
                base = y + far * dy + self.size * (0.35 + 0.25 * dy)
                cost = self._cost(left, base, wide) + far / 40
                if best is None or cost < best[0]:
                    best = (cost, left, base)
        assert best is not None
        _, left, base = best
        self.taken.append((left, base - self.size * 0.8, left + wide, base + 2))
        self.canvas.text(left, base, words, kind, slot)

    def _cost(self, left: float, base: float, wide: float) -> float:
        box = (left, base - self.size * 0.8, left + wide, base + 2)
        out = max(0.0, 4 - box[0]) + max(0.0, box[2] - self.canvas.width + 4) + max(0.0, 4 - box[1])
        out += max(0.0, box[3] - self.canvas.height + self.canvas.margin[2])
        hits = 0.0
        for a, b, c, d in self.taken:
            shared = max(0.0, min(box[2], c) - max(box[0], a)) * max(0.0, min(box[3], d) - max(box[1], b))
            hits += shared / 20
        return out + hits
