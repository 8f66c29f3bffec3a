"""What the examples compute: the linear network against closed forms, and when a measured difference is told."""

# D inputs, K features, N training points or pictures, S seeds.

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import subspace_angles

from scripts import ROOT, script


@pytest.fixture(scope="module")
def linear() -> Any:
    return script("examples/linear_network.py")


@pytest.fixture(scope="module")
def distortion() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "examples")  # it imports the other by its name
        return script("examples/feature_distortion.py")


@pytest.mark.parametrize(("head", "a"), [(0.3, 1.0), (2.0, 0.5), (0.0, 0.7)])
def test_one_feature_and_one_point_end_where_the_closed_form_says(linear: Any, head: float, a: float) -> None:
    """v^2 - a^2 keeps its value and v a becomes w_1, so v^2 = (c + sqrt(c^2 + 4 w_1^2)) / 2; b is never touched."""
    w_D, b = np.array([0.8, 0.4]), 0.6
    net = linear.Network(np.array([[1.0, 0.0]]), w_D, np.array([[a, b]]), np.ones(1), 0.0)
    _, v_K, B_KD = linear.flow(net, np.array([head]), 1.0, end=30.0)[-1]
    c = head**2 - a**2
    v = np.sqrt((c + np.sqrt(c**2 + 4 * w_D[0] ** 2)) / 2)
    np.testing.assert_allclose([v_K[0], B_KD[0, 0]], [v, w_D[0] / v], rtol=1e-6)
    assert B_KD[0, 1] == b
    _, v_K, B_KD = linear.flow(net, np.array([head]), 0.0, end=30.0)[-1]
    np.testing.assert_allclose(v_K[0], w_D[0] / a, rtol=1e-6)
    np.testing.assert_array_equal(B_KD, net.start_KD)


def test_features_outside_the_span_stay_and_what_couples_head_and_features_too(linear: Any) -> None:
    net = linear.network(0, 0.1)
    head_K = linear.random_heads()[0]
    moments = linear.flow(net, head_K, 1.0, end=20.0)
    found = linear.measured(net, moments)
    _, v_K, B_KD = moments[-1]
    others_DM = np.linalg.svd(net.X_ND)[2][linear.N :].T
    np.testing.assert_allclose(B_KD @ others_DM, net.start_KD @ others_DM, atol=1e-12)
    assert found["outside"].max() < 1e-12
    assert found["inside"][-1] == pytest.approx(np.linalg.norm(B_KD - net.start_KD))
    assert found["inside"][-1] > 0.1
    was_KK = np.outer(head_K, head_K) - net.start_KD @ net.start_KD.T
    np.testing.assert_allclose(np.outer(v_K, v_K) - B_KD @ B_KD.T, was_KK, atol=1e-6)
    x_D = B_KD.T @ v_K - net.w_D  # the worst input is the error itself, at length 1
    assert found["ood"][-1] == pytest.approx(abs((B_KD @ x_D @ v_K - net.w_D @ x_D) / np.linalg.norm(x_D)))


def test_perfect_features_are_kept_from_the_probed_head_and_lost_from_a_random_one(linear: Any) -> None:
    net = linear.network(1, 0.0)
    np.testing.assert_allclose(linear.probed(net), net.head_K, atol=1e-12)
    random_K = linear.random_heads()[1]
    kept = linear.measured(net, linear.flow(net, linear.probed(net), 1.0, end=12.0))
    lost = linear.measured(net, linear.flow(net, random_K, 1.0, end=12.0))
    assert kept["ood"].max() < 1e-12
    assert lost["id"][-1] < 0.05
    cosine = np.cos(subspace_angles(net.start_KD.T, np.linalg.svd(net.X_ND)[2][linear.N :].T).max())
    squared = abs((random_K @ net.head_K) ** 2 - 1)  # phi squared; the true head and answer have length 1
    bound = cosine / np.sqrt(linear.K) * min(squared, np.sqrt(squared)) / 4
    assert linear.bound(net, random_K) == pytest.approx(bound)
    assert lost["ood"].min() > bound > 0.01


def test_the_probe_is_where_the_flow_of_the_head_alone_ends(linear: Any) -> None:
    net = linear.network(2, 0.3)
    (_, v_K, _) = linear.flow(net, linear.random_heads()[2], 0.0)[-1]
    seen_NK = net.X_ND @ net.start_KD.T
    np.testing.assert_allclose(v_K, np.linalg.lstsq(seen_NK, net.X_ND @ net.w_D)[0], atol=1e-5)
    np.testing.assert_allclose(v_K, linear.probed(net), atol=1e-5)
    assert 0.2 < net.gap < 0.35


# -- feature_distortion -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [200, 600])
def test_few_pictures_that_differ_one_way_are_told_as_by_the_exact_sign_test(distortion: Any, n: int) -> None:
    for differ in range(1, 13):
        x_N = np.zeros(n)
        x_N[:differ] = 100 / 3  # with one seed of three
        told = distortion.half_over_pictures(x_N) < x_N.mean()
        assert told == (stats.binomtest(differ, differ).pvalue < 0.05), differ
    x_N = np.random.default_rng(0).integers(-1, 2, n) * 100.0
    low, high = stats.ttest_1samp(x_N, 0).confidence_interval()
    assert distortion.half_over_pictures(x_N) == pytest.approx((high - low) / 2, rel=0.02)


def test_a_verdict_needs_both_intervals(distortion: Any) -> None:
    near, far = np.array([1.0, 1.1, 0.9]), np.array([1.0, 2.5, -0.5])
    assert distortion.verdict(near, 0.9) == "holds"
    assert distortion.verdict(-near, 0.9) == "reversed"
    assert distortion.verdict(near, 1.1) == distortion.verdict(-near, 1.1) == "cannot be told"  # of two pictures, e.g.
    assert distortion.verdict(far, 0.1) == distortion.verdict(0 * near, 0.0) == "cannot be told"


def test_differences_are_paired_by_picture_where_the_pictures_are_the_same(distortion: Any) -> None:
    rng = np.random.default_rng(1)
    hard = {name: rng.random(100) for name in ("id", *distortion.OOD)}
    seeds = [{"methods": {
        "a": {"drift": {k: v + 0.05 * s + 0.01 for k, v in hard.items()}},
        "b": {"drift": {k: v + 0.05 * s + 0.001 * rng.standard_normal(100) for k, v in hard.items()}},
    }} for s in range(3)]  # fmt: skip
    x_S, half = distortion.difference(seeds, ("a", "drift", "ood"), ("b", "drift", "ood"))
    np.testing.assert_allclose(x_S, 1.0, atol=0.02)
    assert half < 0.02
    x_S, half = distortion.difference(seeds, ("a", "drift", "id"), ("a", "drift", "ood"))
    ood_N = np.concatenate([hard[name] for name in distortion.OOD])
    np.testing.assert_allclose(x_S, 100 * (hard["id"].mean() - np.mean([hard[k].mean() for k in distortion.OOD])))
    low, high = stats.ttest_ind(hard["id"], ood_N, equal_var=False).confidence_interval()
    assert half == pytest.approx(50 * (high - low), rel=0.05)


def test_the_pages_verdicts_are_those_of_its_numbers(distortion: Any) -> None:
    page = (ROOT / "docs" / "feature-distortion.md").read_text()
    rows = re.findall(r"\| (-?[\d.]+) ± ([\d.]+) \| ± ([\d.]+) \| (holds|reversed|cannot be told) \|", page)
    assert len(rows) == page.partition("expect | difference")[2].partition("\n\n")[0].count("\n") - 1 == 22
    for mean, seeds, pictures, told in rows:
        x_S = float(mean) + float(seeds) * np.sqrt(3) / stats.t.ppf(0.975, 2) * np.array([-1.0, 0.0, 1.0])
        assert distortion.verdict(x_S, float(pictures)) == told


# -- weak_language ----------------------------------------------------------------------------------------------


def test_of_alphas_that_get_as_many_select_pictures_right_the_smaller_is_taken() -> None:
    weak = script("examples/weak_language.py")
    right = {0.25: (260, 260, 260), 0.5: (268, 275, 265), 0.75: (268, 274, 266), 1.0: (250, 250, 250)}  # of 327
    found = {("full", a, "select", "knn@20"): 100 * (np.array(hits) / 327) for a, hits in right.items()}
    assert found["full", 0.5, "select", "knn@20"].mean() < found["full", 0.75, "select", "knn@20"].mean()  # a last bit
    found |= {("full", a, "id", "knn@20"): np.array([a, a, a]) for a in right}
    found["pretrained", None, "id", "knn@20"] = np.zeros(3)
    assert "| whole tower | kNN, k = 20 | id | 1.0 | 0.5 | 0.5 | -0.5 |" in weak.claims(found)
