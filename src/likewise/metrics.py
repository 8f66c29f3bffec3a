"""Numbers read off logits and labels, each with n and a 95 % interval. Pure functions of arrays."""

# N pictures, C classes, K numbers that a mean is of.

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax, stdtrit

Z = 1.959963984540054
"""Normal quantile of a two-sided 95 % interval."""


FEWEST = 3
"""Repetitions below which no interval is shown: of two, Student's is 12.7 standard errors to each side."""


class Estimate(NamedTuple):
    """A value with its 95 % interval and the number of pictures behind it."""

    value: float
    low: float
    high: float
    n: int


def correct(logits_NC: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """Whether the class of the largest logit is the label, as bool_N; of equal logits the first counts."""
    return np.asarray(logits_NC.argmax(1) == labels_N)


def proportion(hits: int, n: int) -> Estimate:
    """A share of successes with Wilson's interval (Wilson 1927), which is honest near 0 and 1 and for small n."""
    if n == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    p = hits / n
    middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * np.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return Estimate(p, max(0.0, float(middle - half)), min(1.0, float(middle + half)), n)


def accuracy(logits_NC: np.ndarray, labels_N: np.ndarray) -> Estimate:
    """Top-1 accuracy, a fraction."""
    return proportion(int(correct(logits_NC, labels_N).sum()), len(labels_N))


def probabilities(logits_NC: np.ndarray) -> np.ndarray:
    """Softmax rows, in float64."""
    return np.asarray(np.exp(log_softmax(logits_NC.astype(np.float64), axis=1)))


def calibration_bins(logits_NC: np.ndarray, labels_N: np.ndarray, bins: int = 15) -> np.ndarray:
    """Per equal-width bin of confidence: count, mean confidence, accuracy; as bins x 3 (empty bins hold zeros)."""
    p_NC = probabilities(logits_NC)
    confidence_N = p_NC.max(1)
    hit_N = correct(logits_NC, labels_N)
    which_N = np.minimum((confidence_N * bins).astype(int), bins - 1)
    out = np.zeros((bins, 3))
    for b in range(bins):
        inside = which_N == b
        if inside.any():
            out[b] = inside.sum(), confidence_N[inside].mean(), hit_N[inside].mean()
    return out


def _ece(logits_NC: np.ndarray, labels_N: np.ndarray, bins: int) -> float:
    count, confidence, hit = calibration_bins(logits_NC, labels_N, bins).T
    return float((count / max(1, count.sum()) * np.abs(confidence - hit)).sum())


def ece(logits_NC: np.ndarray, labels_N: np.ndarray, bins: int = 15, draws: int = 100) -> Estimate:
    """Expected calibration error (Guo et al. 2017, arXiv:1706.04599, equation 3), a fraction.

    The interval is the basic bootstrap's over pictures with a fixed key: the plain percentiles lie high, because
    resampling inflates a sum of absolute differences.
    """
    return bootstrap(lambda index_N: _ece(logits_NC[index_N], labels_N[index_N], bins), len(labels_N), draws)


def macro_recall(logits_NC: np.ndarray, labels_N: np.ndarray) -> Estimate:
    """Mean over the classes present of the share found; interval from the classes' binomial variances."""
    hit_N = correct(logits_NC, labels_N)
    classes, inverse_N = np.unique(labels_N, return_inverse=True)
    if not len(classes):
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    count = np.bincount(inverse_N)
    recall = np.bincount(inverse_N, weights=hit_N) / count
    # Agresti and Coull's plus-four rule keeps the variance of a class with 0 or all hits above zero.
    soft = (recall * count + 2) / (count + 4)
    half = Z * np.sqrt((soft * (1 - soft) / (count + 4)).sum()) / len(classes)
    value = float(recall.mean())
    return Estimate(value, max(0.0, value - float(half)), min(1.0, value + float(half)), len(labels_N))


def macro_f1(logits_NC: np.ndarray, labels_N: np.ndarray) -> Estimate:
    """Mean F1 over the classes present, as WILDS measures iWildCam (Koh et al. 2021, arXiv:2012.07421, section 4.1.1).

    What is answered wrongly counts against the class answered only where that class is present. Interval: `bootstrap`.
    """

    def value(index_N: np.ndarray) -> float:
        said, true = said_N[index_N], labels_N[index_N]
        width = int(max(said.max(), true.max())) + 1
        right, there, named = (np.bincount(x, minlength=width) for x in (true[said == true], true, said))
        present = there > 0
        return float((2 * right[present] / (there[present] + named[present])).mean())

    said_N = logits_NC.argmax(1)
    return bootstrap(value, len(labels_N))


def worst_group(logits_NC: np.ndarray, labels_N: np.ndarray, groups: Sequence[str]) -> Estimate:
    """The lowest accuracy of a group of pictures, with that group's interval; pictures of group "" are in none."""
    hit_N = correct(logits_NC, labels_N)
    groups_N = np.asarray(groups)
    parts = [proportion(int(hit_N[own].sum()), int(own.sum())) for g in sorted(set(groups)) if g
             for own in [groups_N == g]]  # fmt: skip
    return min(parts, key=lambda e: e.value, default=proportion(0, 0))


def bootstrap(value: Callable[[np.ndarray], float], n: int, draws: int = 100) -> Estimate:
    """A number of n pictures, given their indices, with the basic bootstrap's interval under a fixed key: the plain
    percentiles lie to one side where resampling does.
    """
    if n == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    found = value(np.arange(n))
    rng = np.random.default_rng(0)
    low, high = np.quantile([value(rng.integers(0, n, n)) for _ in range(draws)], [0.025, 0.975])
    upper, lower = min(1.0, max(found, 2 * found - float(low))), max(0.0, min(found, 2 * found - float(high)))
    return Estimate(found, lower, upper, n)


Measure = Callable[[np.ndarray, np.ndarray, Sequence[str]], Estimate]
NAMED: dict[str, Measure] = {
    "accuracy": lambda logits_NC, labels_N, _: accuracy(logits_NC, labels_N),
    "macro_recall": lambda logits_NC, labels_N, _: macro_recall(logits_NC, labels_N),
    "macro_f1": lambda logits_NC, labels_N, _: macro_f1(logits_NC, labels_N),
    "worst_group": worst_group,
}
"""What a split may be measured by, of logits_NC, labels_N and the pictures' groups."""


def mean_of(parts: Sequence[Estimate], same: Sequence[bool] | None = None) -> Estimate:
    """The unweighted mean of estimates with the interval of `half_of_mean`; pictures that are the `same` count once."""
    same = same or [False] * len(parts)
    value = float(np.mean([p.value for p in parts]))
    low = value - half_of_mean([p.value - p.low for p in parts], same)
    high = value + half_of_mean([p.high - p.value for p in parts], same)
    n_K, same_K = np.asarray([p.n for p in parts]), np.asarray(same, dtype=bool)
    return Estimate(value, max(0.0, low), min(1.0, high), int(n_K[~same_K].sum() + n_K[same_K].max(initial=0)))


def half_of_mean(halves: Sequence[float], same: Sequence[bool]) -> float:
    """Half of the interval of an unweighted mean, from the halves of its K parts', read as normal.

    Parts of pictures of their own are independent, and squares add up. Those of the `same` pictures (an `id` split and
    its corruptions) may err together, so that halves add up: never too narrow, at most a root of K too wide.
    """
    half_K, same_K = np.asarray(halves, dtype=np.float64), np.asarray(same, dtype=bool)
    return float(np.hypot(np.sqrt((half_K[~same_K] ** 2).sum()), half_K[same_K].sum()) / len(half_K))


def half_width(values: Sequence[float]) -> float:
    """Half of the 95 % t-interval (Student 1908) of the mean of repetitions; NaN for fewer than two."""
    x_N = np.asarray(values, dtype=np.float64)
    n = len(x_N)
    return float(stdtrit(n - 1, 0.975) * x_N.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")


def over_seeds(values: Sequence[float]) -> Estimate:
    """The mean of repetitions of a fraction with its t-interval; n counts the repetitions, the bounds of one are NaN.

    It says how far another draw and training would move the mean, not how far other test pictures would.
    """
    value, half = float(np.mean(values)), half_width(values)
    if np.isnan(half):
        return Estimate(value, float("nan"), float("nan"), len(values))
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), len(values))


def standard_error(p: float, n: int) -> float:
    """Of a share p of n, by Agresti and Coull's plus-four rule (1998): above zero also where all or none succeeded."""
    soft = (p * n + 2) / (n + 4)
    return float(np.sqrt(soft * (1 - soft) / (n + 4))) if n else float("nan")


def error_of(found: Estimate, metric: str) -> float:
    """The standard error of an estimate by one of `NAMED`, kept above zero: that of a share; for what is a mean over
    classes that of its interval, which rare classes widen, and no less than a share's.
    """
    share = standard_error(found.value, found.n)
    return share if metric in ("accuracy", "worst_group") else max(share, (found.high - found.low) / (2 * Z))
