"""Judging features: scikit-learn's neighbours and logistic regression, loops in NumPy, recalls counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from torch import Tensor

from likewise import judge, metrics
from likewise.errors import DataError, UsageError
from likewise.heads import Neighbours, NeighboursHead, unit
from likewise.judge import KS, Labelled, centroid, judged, knn, linear, nearest, retrieval, scored
from likewise.recipe import Lbfgs


def blobs(n: int, classes: int, seed: int, width: int = 16, spread: float = 1.5) -> Labelled:
    """Pictures around class centres that every seed shares, of very different lengths."""
    centres_CD = np.random.default_rng(99).normal(size=(classes, width))
    rng = np.random.default_rng(seed)
    labels_N = rng.integers(0, classes, n)
    x_ND = (centres_CD[labels_N] + spread * rng.normal(size=(n, width))) * rng.uniform(0.1, 10, (n, 1))
    return Labelled(torch.from_numpy(x_ND).float(), labels_N)


# -- neighbours -------------------------------------------------------------------------------------------------


def test_the_vote_is_scikit_learns_for_every_k() -> None:
    bank, query = blobs(700, 9, 0), blobs(300, 9, 1)
    votes = knn(bank, query.features_ND, 9)
    assert tuple(votes) == KS == (10, 20, 100, 200)
    for k, vote in votes.items():
        theirs = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07))
        want_MC = theirs.fit(bank.features_ND.double().numpy(), bank.labels_N).predict_proba(
            query.features_ND.double().numpy()
        )
        np.testing.assert_allclose(np.exp(vote.logits_MC), want_MC, rtol=0, atol=1e-6)
        assert vote.k == k
        assert metrics.accuracy(vote.logits_MC, query.labels_N).value == (want_MC.argmax(1) == query.labels_N).mean()
    assert not np.allclose(votes[10].logits_MC, votes[20].logits_MC)


def test_seven_pictures_and_three_thousand_classes() -> None:
    bank, query = blobs(4000, 3000, 2), blobs(7, 3000, 3)
    votes = knn(bank, query.features_ND, 3000)
    bank_ND, query_MD = bank.features_ND.double().numpy(), query.features_ND.double().numpy()
    for k, vote in votes.items():
        for row, x_D in zip(vote.logits_MC, query_MD, strict=True):
            cosines = [float(x_D @ b / math.sqrt(x_D @ x_D) / math.sqrt(b @ b)) for b in bank_ND]
            shares = np.zeros(3000)
            for i in sorted(range(4000), key=lambda i: -cosines[i])[:k]:
                shares[bank.labels_N[i]] += math.exp(cosines[i] / 0.07)
            np.testing.assert_allclose(np.exp(row), shares / shares.sum(), rtol=0, atol=1e-6)
    assert metrics.accuracy(votes[20].logits_MC, query.labels_N).n == 7


def test_a_k_beyond_the_bank_is_cut_and_said() -> None:
    bank, query = blobs(15, 3, 4), blobs(5, 3, 5)
    votes = knn(bank, query.features_ND, 3)
    assert {k: vote.k for k, vote in votes.items()} == {10: 10, 20: 15, 100: 15, 200: 15}
    np.testing.assert_array_equal(votes[20].logits_MC, votes[200].logits_MC)
    assert (votes[10].logits_MC != votes[20].logits_MC).any()
    assert judged(bank, query, {"t": query}, 3, ks=(10, 40)).k == {"knn@10": 10, "knn@40": 15}


def test_the_judge_and_the_head_hold_the_same_vote() -> None:
    bank, query = blobs(200, 5, 6), blobs(40, 5, 7)
    head = NeighboursHead(unit(bank.features_ND), torch.from_numpy(bank.labels_N), 5, Neighbours(k=20))
    np.testing.assert_allclose(
        np.exp(knn(bank, query.features_ND, 5, ks=(20,))[20].logits_MC),
        head(query.features_ND).exp().numpy(),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize(("rows", "piece"), [(1, 7), (3, 16), (64, 700)])
def test_the_answer_does_not_depend_on_the_chunks(rows: int, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, query = blobs(100, 4, 8), blobs(20, 4, 9)
    twice = Labelled(bank.features_ND.repeat(3, 1), np.tile(bank.labels_N, 3))  # each picture thrice: ties everywhere
    whole = nearest(query.features_ND, twice.features_ND, 50)
    monkeypatch.setattr(judge, "ROWS", rows)
    monkeypatch.setattr(judge, "PIECE", piece)
    parts = nearest(query.features_ND, twice.features_ND, 50)
    assert torch.equal(whole[1], parts[1])
    assert torch.equal(whole[0], parts[0])


def test_of_equals_the_first_of_the_bank_counts() -> None:
    bank_ND = torch.tensor([[0.0, 1.0], [3.0, 0.0], [1.0, 0.0], [2.0, 0.0], [1.0, 1.0]])
    cosine_MK, index_MK = nearest(torch.tensor([[5.0, 0.0], [0.0, 0.0]]), bank_ND, 4)
    assert index_MK.tolist() == [[1, 2, 3, 4], [0, 1, 2, 3]]
    np.testing.assert_allclose(cosine_MK[0], [1, 1, 1, math.sqrt(0.5)], atol=1e-9)
    # a collapsed encoder is at chance, not at whatever a sort happens to leave
    same = Labelled(torch.ones(50, 3), np.arange(50) % 5)
    assert knn(same, torch.ones(10, 3), 5, ks=(3,))[3].logits_MC.argmax(1).tolist() == [0] * 10


def test_no_temperature_overflows() -> None:
    bank, query = blobs(30, 3, 10), blobs(8, 3, 11)
    for temperature in (0.07, 1e-4):  # exp(1 / 1e-4) is far beyond a double
        for vote in knn(bank, query.features_ND, 3, temperature=temperature).values():
            assert np.isfinite(vote.logits_MC).all()
            np.testing.assert_allclose(np.exp(vote.logits_MC.astype(float)).sum(1), 1, atol=1e-6)
    near = knn(bank, query.features_ND, 3, ks=(30,), temperature=1e-4)[30].logits_MC.argmax(1)
    np.testing.assert_array_equal(near, knn(bank, query.features_ND, 3, ks=(1,))[1].logits_MC.argmax(1))


def test_half_precision_and_no_pictures_are_features_too() -> None:
    bank, query = blobs(60, 3, 12), blobs(9, 3, 13)
    half = knn(Labelled(bank.features_ND.bfloat16(), bank.labels_N), query.features_ND.bfloat16(), 3)
    assert np.isfinite(half[20].logits_MC).all()
    none = knn(bank, query.features_ND[:0], 3)
    assert {k: vote.logits_MC.shape for k, vote in none.items()} == dict.fromkeys(KS, (0, 3))


# -- linear probe and centroids ---------------------------------------------------------------------------------


def test_the_probe_is_scikit_learns_at_the_c_that_select_prefers() -> None:
    bank, select, test = (blobs(n, 4, seed, width=8) for n, seed in ((120, 20), (80, 21), (50, 22)))
    path = (0.03, 1.0, 30.0, 1000.0)
    probe = linear(bank, select, 4, Lbfgs(path=path, tolerance=1e-9))
    x, y = unit(bank.features_ND).double().numpy(), bank.labels_N
    theirs = {c: LogisticRegression(C=c, tol=1e-10, max_iter=20_000).fit(x, y) for c in path}
    shares = {c: m.score(unit(select.features_ND).double().numpy(), select.labels_N) for c, m in theirs.items()}
    best = max(path, key=lambda c: (shares[c], -c))
    assert len(set(shares.values())) > 1
    assert probe.c == best
    assert probe.select == metrics.proportion(round(80 * shares[best]), 80)
    want_MC = theirs[best].decision_function(unit(test.features_ND).double().numpy())
    np.testing.assert_allclose(
        log_softmax(probe.logits(test.features_ND), axis=1), log_softmax(want_MC, axis=1), atol=2e-3
    )


def test_of_equal_cs_the_stronger_penalty_is_kept_and_select_decides_alone() -> None:
    easy = [blobs(40, 3, seed, spread=0.01) for seed in (30, 31)]  # every C is right on all of them
    probe = linear(*easy, 3, Lbfgs(path=(100.0, 3.0, 10.0)))
    assert (probe.c, probe.select.value) == (3.0, 1.0)
    bank, select, test = blobs(60, 4, 32), blobs(60, 4, 33), blobs(60, 4, 34)
    swapped = Labelled(select.features_ND, (select.labels_N + 1) % 4)
    assert linear(bank, swapped, 4).select.value < linear(bank, select, 4).select.value
    both = [judged(bank, select, {"t": t}, 4) for t in (test, Labelled(test.features_ND, test.labels_N[::-1].copy()))]
    assert both[0].c == both[1].c
    assert both[0].scores["t"]["linear"] != both[1].scores["t"]["linear"]


def test_centroids_are_means_of_unit_features() -> None:
    bank, query = blobs(90, 4, 40), blobs(30, 4, 41)
    found_MC = centroid(bank, query.features_ND, 6)
    x = unit(bank.features_ND).double().numpy()
    want_CD = NearestCentroid().fit(x, bank.labels_N).centroids_  # sorted by class
    want_CD = want_CD / np.linalg.norm(want_CD, axis=1, keepdims=True)
    want_MC = unit(query.features_ND).double().numpy() @ want_CD.T
    np.testing.assert_allclose(found_MC[:, :4], want_MC, atol=1e-6)
    assert (found_MC[:, 4:] == -np.inf).all()  # classes without a picture are never the answer
    assert np.isfinite(metrics.probabilities(found_MC)).all()


def test_every_metric_of_every_test_set() -> None:
    bank, select = blobs(300, 5, 50), blobs(60, 5, 51)
    tests = {
        "id": blobs(80, 5, 52),
        "far": blobs(40, 5, 53, spread=6.0),
        "none": Labelled(torch.zeros(0, 16), np.zeros(0)),
    }
    found = judged(bank, select, tests, 5)
    names = ["knn@10", "knn@20", "knn@100", "knn@200", "linear", "centroid"]
    assert {name: list(rows) for name, rows in found.scores.items()} == dict.fromkeys(tests, names)
    for name in ("id", "far"):
        features_MD, labels_M = tests[name]
        for k, vote in knn(bank, features_MD, 5).items():
            assert found.scores[name][f"knn@{k}"] == metrics.accuracy(vote.logits_MC, labels_M)
        probe = linear(bank, select, 5)
        assert found.scores[name]["linear"] == metrics.accuracy(probe.logits(features_MD), labels_M)
        assert found.scores[name]["centroid"] == metrics.accuracy(centroid(bank, features_MD, 5), labels_M)
        assert found.c == probe.c
        assert found.scores[name] == scored(bank, probe, tests[name], 5)
    assert all(found.scores["id"][m].value > found.scores["far"][m].value for m in names)
    assert all(e.n == 0 and math.isnan(e.value) for e in found.scores["none"].values())
    macro = judged(bank, select, tests, 5, ks=(3,), score=metrics.macro_recall)
    assert macro.scores["id"]["knn@3"] == metrics.macro_recall(
        knn(bank, tests["id"][0], 5, (3,))[3].logits_MC, tests["id"][1]
    )


# -- retrieval --------------------------------------------------------------------------------------------------


def angles(*degrees: float) -> Tensor:
    x = torch.tensor(degrees) * math.pi / 180
    return torch.stack([x.cos(), x.sin()], 1)


IMAGES = angles(0, 40, 100)
TEXTS = 3 * angles(5, 30, 95, 42, 170)
OWNER = [0, 0, 1, 1, 2]
"""Nearest texts of the pictures: 0: 0 1 3 2 4; 1: 3 1 0 2 4; 2: 2 3 1 4 0 (58, 70, 70 degrees: see below)."""


def test_recall_is_what_a_hand_counts() -> None:
    found = retrieval(IMAGES, TEXTS, OWNER, ks=(1, 2, 4))
    # picture 0 finds its own text 0 first; picture 1 its text 3 first; picture 2's own is text 4, at 70 degrees,
    # behind 2 (5), 3 (58) and level with 1 (70), which comes first in the bank.
    assert [found[f"i2t@{k}"] for k in (1, 2, 4)] == [metrics.proportion(h, 3) for h in (2, 2, 3)]
    # texts: 0 -> picture 0; 1 (30 degrees) -> 1 before 0; 2 (95) -> 2 before 1; 3 -> 1; 4 -> 2
    assert [found[f"t2i@{k}"] for k in (1, 2, 4)] == [metrics.proportion(h, 5) for h in (3, 5, 5)]


def test_equal_words_are_ones_own() -> None:
    words = [
        "a key",
        "a cup",
        "a hat",
        "a cup",
        "a hat",
    ]  # 1 and 3 are the same words of pictures 0 and 1; 2, 4: of 1, 2
    found = retrieval(IMAGES, TEXTS, OWNER, texts=words, ks=(1,))
    assert found["i2t@1"] == metrics.proportion(3, 3)  # picture 2's nearest is text 2, whose words it owns
    assert found["t2i@1"] == metrics.proportion(5, 5)  # text 1 -> picture 1, text 2 -> picture 2
    assert retrieval(IMAGES, TEXTS, OWNER, texts=list("abcde"), ks=(1, 5)) == retrieval(IMAGES, TEXTS, OWNER, ks=(1, 5))


def test_recall_against_full_ranks_with_several_texts_a_picture() -> None:
    rng = np.random.default_rng(60)
    image_ND = rng.normal(size=(40, 6))
    owner_M = np.concatenate([np.repeat(np.arange(30), 3), [30, 31]])  # 8 pictures have no text
    text_MD = image_ND[owner_M] + 1.2 * rng.normal(size=(len(owner_M), 6))
    found = retrieval(torch.from_numpy(image_ND), torch.from_numpy(text_MD), owner_M)
    cosine_NM = unit(torch.from_numpy(image_ND)).numpy() @ unit(torch.from_numpy(text_MD)).numpy().T
    for k in (1, 5, 10):
        pictures = [bool(np.isin(np.argsort(-cosine_NM[n])[:k], np.flatnonzero(owner_M == n)).any()) for n in range(32)]
        texts = [bool((np.argsort(-cosine_NM[:, m])[:k] == owner_M[m]).any()) for m in range(len(owner_M))]
        assert found[f"i2t@{k}"] == metrics.proportion(sum(pictures), 32)
        assert found[f"t2i@{k}"] == metrics.proportion(sum(texts), 92)
    assert list(found) == ["i2t@1", "i2t@5", "i2t@10", "t2i@1", "t2i@5", "t2i@10"]


# -- what cannot be judged --------------------------------------------------------------------------------------

GOOD = blobs(20, 3, 70)
NAN = Labelled(GOOD.features_ND.clone().index_fill_(0, torch.tensor([4]), math.nan), GOOD.labels_N)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (NAN, "1 of 20 feature rows of id hold NaN"),
        (Labelled(GOOD.features_ND[:, :5], GOOD.labels_N), r"features of id are \(20, 5\), where rows of 16"),
        (Labelled(GOOD.features_ND, GOOD.labels_N[:7]), "id: 20 feature rows and 7 labels"),
        (Labelled(GOOD.features_ND, GOOD.labels_N + 1), "labels of id run from 1 to 3, the 3 classes from 0 to 2"),
    ],
)
def test_features_that_cannot_be_judged_are_refused_with_their_name(bad: Labelled, said: str) -> None:
    with pytest.raises(DataError, match=said):
        judged(GOOD, GOOD, {"id": bad}, 3)
    with pytest.raises(DataError, match="select pictures" if "where" in said else said.replace("id", "the bank")):
        judged(bad, GOOD, {}, 3)


def test_an_empty_bank_a_k_of_zero_and_stray_owners_are_refused() -> None:
    empty = Labelled(GOOD.features_ND[:0], GOOD.labels_N[:0])
    for bank, select in ((empty, GOOD), (GOOD, empty)):
        with pytest.raises(DataError, match="has no pictures"):
            judged(bank, select, {}, 3)
    with pytest.raises(UsageError, match="each k is 1 or more"):
        knn(GOOD, GOOD.features_ND, 3, ks=(0, 10))
    with pytest.raises(DataError, match="owners of texts run from 0 to 3, the pictures from 0 to 2"):
        retrieval(IMAGES, TEXTS, [0, 0, 1, 1, 3])
    with pytest.raises(DataError, match="5 texts have 3 owners"):
        retrieval(IMAGES, TEXTS, [0, 0, 1])
