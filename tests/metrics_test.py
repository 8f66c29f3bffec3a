"""Numbers and their intervals, each reached by another road."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from sklearn.metrics import accuracy_score, f1_score, recall_score

from likewise.metrics import (
    NAMED,
    Estimate,
    accuracy,
    calibration_bins,
    correct,
    ece,
    error_of,
    macro_recall,
    mean_of,
    probabilities,
    proportion,
    standard_error,
)  # fmt: skip


def made(n: int = 200, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels_N = rng.integers(0, classes, n)
    logits_NC = rng.normal(size=(n, classes)).astype(np.float32)
    logits_NC[np.arange(n), labels_N] += 1.5
    return logits_NC, labels_N


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (0, 20), (1, 1), (7, 10), (81, 263), (500, 500), (9999, 10000)])
def test_wilson_equals_scipy(hits: int, n: int) -> None:
    found = proportion(hits, n)
    ours = binomtest(hits, n).proportion_ci(0.95, "wilson")
    assert (found.value, found.n) == (hits / n, n)
    assert (found.low, found.high) == pytest.approx((ours.low, ours.high), abs=1e-12)


def test_wilson_equals_a_published_value() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263, method 3
    found = proportion(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)


def test_no_pictures_is_no_number() -> None:
    empty = np.zeros((0, 3)), np.zeros(0, dtype=int)
    for f in (accuracy, ece, macro_recall):
        found = f(*empty)
        assert found.n == 0
        assert all(math.isnan(x) for x in found[:3])


def test_accuracy_equals_sklearn() -> None:
    logits_NC, labels_N = made()
    assert accuracy(logits_NC, labels_N).value == accuracy_score(labels_N, logits_NC.argmax(1))
    assert accuracy(logits_NC, labels_N).n == 200
    assert correct(np.array([[1.0, 1.0], [0.0, 2.0]]), np.array([0, 0])).tolist() == [True, False]  # ties: the first


def test_macro_recall_equals_sklearn_where_classes_are_uneven_or_absent() -> None:
    logits_NC, labels_N = made()
    labels_N = np.where(labels_N == 3, 1, labels_N)  # nobody is in class 3
    found = macro_recall(logits_NC, labels_N)
    by = recall_score(labels_N, logits_NC.argmax(1), labels=np.unique(labels_N), average="macro", zero_division=0)
    assert found.value == pytest.approx(by, abs=1e-12)
    assert found.low < found.value < found.high


def test_macro_recalls_interval_covers_as_it_says() -> None:
    # 2000 draws of 60 pictures in 3 classes of known recall: about 95 % of the intervals hold the truth
    rng, truth = np.random.default_rng(1), np.array([0.5, 0.8, 0.95])
    labels_N = np.repeat(np.arange(3), 20)
    inside = 0
    for _ in range(2000):
        hit_N = rng.random(60) < truth[labels_N]
        logits_NC = np.eye(3)[np.where(hit_N, labels_N, (labels_N + 1) % 3)]
        found = macro_recall(logits_NC, labels_N)
        inside += found.low <= truth.mean() <= found.high
    assert 0.93 < inside / 2000 < 0.98


def test_probabilities_are_a_stable_softmax() -> None:
    logits_NC = np.array([[1000.0, 1000.0], [0.0, math.log(3)]])
    assert probabilities(logits_NC) == pytest.approx(np.array([[0.5, 0.5], [0.25, 0.75]]))


def test_ece_equals_a_loop() -> None:
    logits_NC, labels_N = made()
    total, bins = 0.0, [[] for _ in range(15)]
    for row, label in zip(logits_NC.astype(float), labels_N):
        shares = [math.exp(x) for x in row]
        confidence = max(shares) / sum(shares)
        bins[min(14, int(confidence * 15))].append((confidence, int(np.argmax(row)) == label))
    for inside in bins:
        if inside:
            confidence, hit = (sum(x) / len(inside) for x in zip(*inside))
            total += len(inside) / len(labels_N) * abs(confidence - hit)
    found = ece(logits_NC, labels_N)
    assert found.value == pytest.approx(total, abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert ece(logits_NC, labels_N) == found  # a keyed bootstrap
    rows = calibration_bins(logits_NC, labels_N)
    assert rows[:, 0].tolist() == [len(inside) for inside in bins]


def test_a_sure_and_right_model_is_calibrated_and_a_sure_and_wrong_one_is_not() -> None:
    labels_N = np.arange(4) % 2
    assert ece(1000.0 * np.eye(2)[labels_N], labels_N).value == 0
    assert ece(1000.0 * np.eye(2)[1 - labels_N], labels_N).value == 1


def test_mean_of_adds_variances() -> None:
    parts = [Estimate(0.2, 0.1, 0.4, 10), Estimate(0.6, 0.55, 0.65, 30), Estimate(0.4, 0.3, 0.5, 5)]
    found = mean_of(parts)
    assert found.value == pytest.approx(0.4)
    assert found.low == pytest.approx(0.4 - math.sqrt(0.1**2 + 0.05**2 + 0.1**2) / 3)
    assert found.high == pytest.approx(0.4 + math.sqrt(0.2**2 + 0.05**2 + 0.1**2) / 3)
    assert found.n == 45
    assert mean_of([parts[0]]) == pytest.approx(parts[0])


def test_the_mean_over_copies_of_the_same_pictures_is_no_surer_than_one_of_them() -> None:
    """Of corruptions that do nothing, beside a shift of its own: as if the pictures had been asked about once."""
    one, other = proportion(30, 50), proportion(20, 40)
    found = mean_of([one, one, other, one], [True, True, False, True])
    assert found.n == 90
    weighed = 0.75 * (one.high - one.value), 0.25 * (other.high - other.value)
    assert found.high - found.value == pytest.approx(math.hypot(*weighed))
    assert mean_of([one] * 3, [True] * 3) == pytest.approx(one)


def test_the_error_of_a_mean_over_classes_is_that_of_its_rare_ones() -> None:
    """Against many draws: 20 classes, most of them rare, each answered rightly with a chance of its own."""
    rng = np.random.default_rng(0)
    count_C = (200 / np.arange(1, 21) ** 1.5).astype(int) + 2
    chance_C = rng.uniform(0.2, 0.9, 20)
    labels_N = np.repeat(np.arange(20), count_C)

    def draw() -> np.ndarray:
        right_N = rng.uniform(size=len(labels_N)) < chance_C[labels_N]
        return np.asarray(np.eye(20)[np.where(right_N, labels_N, (labels_N + 1) % 20)])

    for metric in ("macro_f1", "macro_recall", "accuracy"):
        found = [NAMED[metric](draw(), labels_N, ()) for _ in range(40)]
        truth = np.std([e.value for e in found], ddof=1)
        assert np.mean([error_of(e, metric) for e in found]) == pytest.approx(truth, rel=0.35), metric
    plain = NAMED["accuracy"](draw(), labels_N, ())
    assert error_of(plain, "accuracy") == standard_error(plain.value, plain.n)
    assert error_of(plain, "macro_f1") >= error_of(plain, "accuracy")
    perfect = NAMED["macro_f1"](np.eye(20)[labels_N], labels_N, ())
    assert error_of(perfect, "macro_f1") > 0


def test_a_standard_error_is_that_of_the_mean_of_coins() -> None:
    hits = np.array([1.0] * 30 + [0.0] * 70)
    soft = np.concatenate([hits, [0, 0, 1, 1]])  # plus four: two of each added
    assert standard_error(0.3, 100) == pytest.approx(soft.std() / np.sqrt(104))
    assert standard_error(1.0, 12) > 0.07  # twelve of twelve is no certainty
    assert math.isnan(standard_error(0.3, 0))
    half = proportion(5000, 10000)  # for large n, Wilson's interval is the normal one
    assert half.high - half.low == pytest.approx(2 * norm.ppf(0.975) * standard_error(0.5, 10000), rel=1e-3)


def test_macro_f1_is_sklearns_over_the_classes_present() -> None:
    """As WILDS: classes that no picture has are left out, and answers for them count against nobody's precision."""
    for seed in range(5):
        logits_NC, labels_N = made(60, 40, seed)
        found = NAMED["macro_f1"](logits_NC, labels_N, ())
        want = f1_score(labels_N, logits_NC.argmax(1), average="macro", labels=np.unique(labels_N))
        assert found.value == pytest.approx(want, abs=1e-12)
        assert found.low <= found.value <= found.high
        assert len(np.unique(labels_N)) < 40


def test_the_worst_group_is_the_lowest_and_pictures_in_none_do_not_count() -> None:
    logits_NC, labels_N = made(200, 5)
    hit_N = logits_NC.argmax(1) == labels_N
    groups = ["" if i < 50 else f"region {i % 4}" for i in range(200)]
    shares = {g: np.mean([h for h, own in zip(hit_N, groups, strict=True) if own == g]) for g in set(groups) if g}
    found = NAMED["worst_group"](logits_NC, labels_N, groups)
    assert found.value == min(shares.values())
    assert found.n == groups.count(min(shares, key=lambda g: shares[g]))
    assert math.isnan(NAMED["worst_group"](logits_NC, labels_N, [""] * 200).value)
