"""The drawings about probabilities and training: reliability and loss."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from likewise.metrics import calibration_bins, proportion
from likewise.report import words
from likewise.report.charts import percent_ticks
from likewise.report.read import Predictions
from likewise.report.svg import Canvas, padded, ticks

BINS = 15
"""As in `likewise.metrics.ece`."""


def calibration_error(predictions: Predictions) -> float:
    """Expected calibration error of what `reliability` draws, a fraction."""
    count, confidence, hit = calibration_bins(predictions.logits, predictions.labels, BINS).T
    return float((count * abs(confidence - hit)).sum() / count.sum())


def reliability(predictions: Predictions, where: str) -> str:
    """Share right against confidence in 15 bins, with Wilson intervals; below, how many pictures each bin holds."""
    table = calibration_bins(predictions.logits, predictions.labels, BINS)
    top = max(table[:, 0].max(), 1)
    canvas = Canvas(340, 346, (24, 12, 84, 36))
    canvas.axes(percent_ticks(0, 1), percent_ticks(0, 1))
    canvas.line([(0, 0), (1, 1)], "guide")
    base = canvas.height - 18
    for b, (n, confidence, hit) in enumerate(table):
        if not n:
            continue
        canvas.line([(confidence, confidence), (confidence, hit)], "gap")
        share = proportion(round(hit * n), int(n))
        canvas.line([(confidence, share.low), (confidence, share.high)], "interval")
        left, right, tall = canvas.x(b / BINS) + 1, canvas.x((b + 1) / BINS) - 1, 40 * n / top
        size = f'x="{left:.1f}" y="{base - tall:.1f}" width="{right - left:.1f}" height="{tall:.1f}"'
        canvas.parts.append(f'<rect class="bar" {size}/>')
    kept = [(c, h) for n, c, h in table if n]
    canvas.line(kept, "path strong accent")
    for at in kept:
        canvas.dot(at, 3.4, "chosen")
    canvas.text(canvas.margin[3], canvas.height - 4, "confidence, %; bars: pictures", "axis")
    canvas.text(4, 8, "right, %", "axis")
    error = words.pct(calibration_error(predictions))
    return canvas.svg(f"Reliability {where}: calibration error {error} % over {len(predictions.labels)} pictures.")


def loss_curve(journal: Sequence[Mapping[str, Any]], title: str, slot: int) -> str:
    """Loss by step, raw (pale) and as a running mean; stages follow one another, divided by a rule."""
    loss = [float(line["loss"]) if math.isfinite(line["loss"]) else math.nan for line in journal]
    known = [v for v in loss if not math.isnan(v)]
    if not known:
        return ""
    canvas = Canvas(300, 160, (10, 44, 24, 38), (0, max(1, len(loss) - 1)), padded(known, 0.05, 1e-3))
    low, high = canvas.y_range
    steps = [(t, words.count(int(t))) for t in ticks(*canvas.x_range, 3)]
    canvas.axes(steps, [(t, f"{t:g}") for t in ticks(low, high, 3)])
    starts = [i for i in range(len(journal)) if i == 0 or journal[i].get("stage") != journal[i - 1].get("stage")]
    last = math.nan
    for start, stop in zip(starts, [*starts[1:], len(loss)], strict=True):
        if start:
            canvas.line([(start, low), (start, high)], "guide")
        part = [(float(i), loss[i]) for i in range(start, stop) if not math.isnan(loss[i])]
        every = max(1, len(part) // 200)
        canvas.line(part[::every], "raw", slot)
        mean = _running_mean([v for _, v in part])
        smooth = [(i, m) for (i, _), m in zip(part, mean, strict=True)]
        canvas.line(smooth[::every] + smooth[-1:], "path strong", slot)
        last = mean[-1] if mean else last
    canvas.text(canvas.width - canvas.margin[1] + 5, canvas.y(last) + 4, f"{last:.2f}", "small label", slot)
    return canvas.svg(f"Training loss of {title}: {known[0]:.3g} at first, {known[-1]:.3g} at last, {len(loss)} steps.")


def _running_mean(values: Sequence[float]) -> list[float]:
    """The mean over a window of about a tenth of the stage around each step, narrower at its ends."""
    half = len(values) // 20
    total = [0.0, *itertools.accumulate(values)]
    out = []
    for i in range(len(values)):
        reach = min(half, i, len(values) - 1 - i)
        out.append((total[i + reach + 1] - total[i - reach]) / (2 * reach + 1))
    return out
