"""How good an encoder's features are, its texts thrown away: neighbours, a linear probe, centroids, retrieval.

Pure functions of features and labels. Features are taken at unit length throughout.
"""

# B pictures of a chunk, C classes, D feature width, K neighbours, M queries, N rows of the bank, P rows of a piece.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from likewise.errors import DataError, UsageError
from likewise.heads import LinearHead
from likewise.heads.neighbours import vote
from likewise.metrics import Estimate, accuracy, proportion
from likewise.recipe import Lbfgs
from likewise.solve import lbfgs_path

KS = (10, 20, 100, 200)
"""How many neighbours DINO's evaluation asks (Caron et al. 2021, arXiv:2104.14294, appendix E)."""
TEMPERATURE = 0.07
ROWS, PIECE = 256, 32_768
"""Queries and rows of the bank that are compared at a time: 64 MiB of cosines, however large the bank."""

Score = Callable[[np.ndarray, np.ndarray], Estimate]
"""A number of logits_MC and labels_M, e.g. `metrics.accuracy`."""


class Labelled(NamedTuple):
    """features_ND of N pictures and their labels_N, each in 0 to C - 1."""

    features_ND: Tensor
    labels_N: np.ndarray


class Vote(NamedTuple):
    """logits_MC of a neighbours' vote (log of its shares) and the k that was used: at most the bank's size."""

    logits_MC: np.ndarray
    k: int


class Probe(NamedTuple):
    """A linear head, the C at which it was solved, and its score on the select pictures."""

    head: LinearHead
    c: float
    select: Estimate

    @torch.no_grad()
    def logits(self, features_MD: Tensor) -> np.ndarray:
        """logits_MC."""
        return np.asarray(self.head(features_MD.cpu()).numpy())


class Judgement(NamedTuple):
    """`scores[test][metric]`; `k[metric]` is the k that a neighbours' metric used; `c` is the probe's C."""

    scores: dict[str, dict[str, Estimate]]
    k: dict[str, int]
    c: float


def _unit(x_ND: Tensor) -> Tensor:
    """Rows at length 1, in fp64: at temperature 0.07 the vote multiplies a cosine's rounding by 14."""
    return F.normalize(x_ND.double(), dim=-1)


def nearest(query_MD: Tensor, bank_ND: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """cosine_MK (float64) and index_MK of the k nearest rows of the bank, the nearest first; K = min(k, N).

    Cosines that agree to 9 digits are equal, and of equals the first row of the bank counts as the nearest: the answer
    depends neither on the chunks nor on how a library sorts. Memory does not grow with the bank.
    """
    found = [_nearest(_unit(part), bank_ND, k) for part in query_MD.split(ROWS)]
    key_MK = torch.cat(found) if found else torch.zeros(0, min(k, len(bank_ND)), dtype=torch.int64)
    return (key_MK >> 32).double() / 2**30, 2**32 - 1 - (key_MK & (2**32 - 1))


def _nearest(query_BD: Tensor, bank_ND: Tensor, k: int) -> Tensor:
    """The k largest keys of each query. A key is an integer: the cosine in the high bits, the row's rank in the low."""
    best_BK = torch.zeros(len(query_BD), 0, dtype=torch.int64, device=bank_ND.device)
    for start in range(0, len(bank_ND), PIECE):
        piece_PD = _unit(bank_ND[start : start + PIECE])
        rank_P = 2**32 - 1 - torch.arange(start, start + len(piece_PD), device=bank_ND.device)
        cosine_BP = query_BD.to(bank_ND.device) @ piece_PD.T
        key_BP = ((cosine_BP * 2**30).round().long() << 32) + rank_P
        both_BP = torch.cat([best_BK, key_BP.topk(min(k, len(piece_PD)), dim=1).values], 1)
        best_BK = both_BP.topk(min(k, both_BP.shape[1]), dim=1).values
    return best_BK


@torch.no_grad()
def knn(
    bank: Labelled, query_MD: Tensor, classes: int, ks: Sequence[int] = KS, temperature: float = TEMPERATURE
) -> dict[int, Vote]:
    """The vote of the k nearest pictures of the bank, for every k of `ks` in one pass.

    DINO's protocol (Caron et al. 2021, arXiv:2104.14294, appendix E, after Wu et al. 2018, arXiv:1805.01978, section
    3.4): cosine of unit features, weights exp(cosine / temperature), summed for each class. Any number of classes and
    of pictures. Raises `DataError` J01 for features or labels that cannot be judged.

    Departs: a k beyond the bank becomes the bank's size, and the vote says so.
    """
    labels_N = _checked("the bank", bank, classes, bank.features_ND.shape[-1])
    _finite("the queries", query_MD, bank.features_ND.shape[-1])
    _positive(ks)
    near_MK, index_MK = nearest(query_MD, bank.features_ND, max(ks))
    labels_MK = labels_N.to(index_MK.device)[index_MK]
    votes = {}
    for k in ks:
        logits_MC = vote(near_MK[:, :k], labels_MK[:, :k], classes, temperature).float()
        votes[k] = Vote(logits_MC.cpu().numpy(), min(k, len(labels_N)))
    return votes


@torch.no_grad()
def linear(bank: Labelled, select: Labelled, classes: int, fit: Lbfgs | None = None, score: Score = accuracy) -> Probe:
    """Multinomial logistic regression on constant features, for each C of `fit.path`; the best on `select` is kept.

    Of equals the smallest C, which is the strongest penalty. Raises `DataError` J01 as `knn`, or without select
    pictures.

    Departs: DINO's probe (appendix E) is trained by gradient descent on augmented pictures, CLIP's and Kim et al.'s
    on features as they come; here the problem is convex, its features have length 1, and it is solved exactly. None
    of them standardises each feature, and neither does this.
    """
    fit = fit or Lbfgs()
    width = bank.features_ND.shape[-1]
    labels_N = _checked("the bank", bank, classes, width)
    _checked("the select pictures", select, classes, width)
    start = LinearHead(torch.zeros(classes, width), torch.zeros(classes))
    ordered = fit.model_copy(update={"path": tuple(sorted(fit.path))})
    best: Probe | None = None
    for solution in lbfgs_path(bank.features_ND.cpu(), labels_N, start, ordered):
        head = LinearHead(solution.weight_CD, solution.bias_C)
        probe = Probe(head, solution.c, Estimate(0.0, 0.0, 0.0, 0))
        probe = probe._replace(select=score(probe.logits(select.features_ND), select.labels_N))
        if best is None or probe.select.value > best.select.value:
            best = probe
    assert best is not None  # a path has at least one C
    return best


@torch.no_grad()
def centroid(bank: Labelled, query_MD: Tensor, classes: int) -> np.ndarray:
    """logits_MC: cosine to the mean of each class's unit features; minus infinity for a class that the bank lacks.

    Mensink et al. 2013 (nearest class mean), with the cosine in the place of a learned distance; Snell et al. 2017,
    arXiv:1703.05175. Raises `DataError` J01 as `knn`.
    """
    width = bank.features_ND.shape[-1]
    labels_N = _checked("the bank", bank, classes, width)
    _finite("the queries", query_MD, width)
    sum_CD = torch.zeros(classes, width, dtype=torch.float64)
    for rows_PD, labels_P in zip(bank.features_ND.cpu().split(PIECE), labels_N.split(PIECE), strict=True):
        sum_CD.index_add_(0, labels_P, _unit(rows_PD))
    logits_MC = _unit(query_MD.cpu()) @ _unit(sum_CD).T
    logits_MC[:, labels_N.bincount(minlength=classes) == 0] = -torch.inf
    return np.asarray(logits_MC.float().numpy())


def scored(
    bank: Labelled, probe: Probe, test: Labelled, classes: int, ks: Sequence[int] = KS, score: Score = accuracy
) -> dict[str, Estimate]:
    """Every metric on one test set: `knn@K` for each of `ks`, `linear` (the solved probe's) and `centroid`.

    A test set without pictures scores NaN with n = 0. Raises `DataError` J01 as `knn`, naming which set it is.
    """
    labels_M = _checked("the test set", test, classes, bank.features_ND.shape[-1], empty=True).numpy()
    votes = knn(bank, test.features_ND, classes, ks)
    rows = {f"knn@{k}": vote.logits_MC for k, vote in votes.items()}
    rows |= {"linear": probe.logits(test.features_ND), "centroid": centroid(bank, test.features_ND, classes)}
    return {metric: score(logits_MC, labels_M) for metric, logits_MC in rows.items()}


def judged(
    bank: Labelled, select: Labelled, tests: Mapping[str, Labelled], classes: int, *,
    ks: Sequence[int] = KS, fit: Lbfgs | None = None, score: Score = accuracy,
) -> Judgement:  # fmt: skip
    """Every metric of an encoder's features on every test set, as `scored` gives them.

    `bank` is what is voted with and fitted on, `select` decides the probe's C and nothing else. Raises `DataError` J01
    where features or labels cannot be judged.
    """
    for name, test in tests.items():
        _checked(name, test, classes, bank.features_ND.shape[-1], empty=True)
    probe = linear(bank, select, classes, fit, score)
    scores = {name: scored(bank, probe, test, classes, ks, score) for name, test in tests.items()}
    return Judgement(scores, {f"knn@{k}": min(k, len(bank.labels_N)) for k in ks}, probe.c)


@torch.no_grad()
def retrieval(
    image_ND: Tensor, text_MD: Tensor, owner_M: Sequence[int] | np.ndarray, *,
    texts: Sequence[str] | None = None, ks: Sequence[int] = (1, 5, 10),
) -> dict[str, Estimate]:  # fmt: skip
    """Recall at each k by cosine, both ways: `i2t@K` over pictures and `t2i@K` over texts. Text m is of `owner_M[m]`.

    A picture may own several texts: it is a hit where any of them is among its k nearest. A text is a hit where its
    picture is among its k nearest. With `texts`, the words of each, a text is also of every picture that owns one of
    the same words: what cannot be told apart is no error. Pictures without a text are not asked, but are there to be
    found. Intervals are Wilson's and take the queries as independent.

    Karpathy and Fei-Fei 2015, arXiv:1412.2306, section 4.1. Raises `DataError` J01 for owners that are no pictures.
    """
    _positive(ks)
    owner = torch.as_tensor(np.asarray(owner_M), dtype=torch.int64)
    m, n = len(text_MD), len(image_ND)
    if owner.shape != (m,) or (texts is not None and len(texts) != m):
        raise DataError("J01", f"{m} texts have {len(owner)} owners: give each text the index of its picture.")
    if m and (int(owner.min()) < 0 or int(owner.max()) >= n):
        raise DataError(
            "J01", f"owners of texts run from {owner.min()} to {owner.max()}, the pictures from 0 to {n - 1}."
        )
    _finite("the pictures", image_ND, image_ND.shape[-1])
    _finite("the texts", text_MD, image_ND.shape[-1])
    words = (
        np.arange(m)
        if texts is None
        else np.unique(np.asarray(texts, dtype=object).astype(str), return_inverse=True)[1]
    )
    word_M = torch.from_numpy(words)
    pairs = (owner * max(1, m) + word_M).unique()  # (picture, words) that belong together
    asked = owner.unique()
    texts_NK = nearest(image_ND[asked.to(image_ND.device)], text_MD, max(ks))[1].cpu()
    images_MK = nearest(text_MD, image_ND, max(ks))[1].cpu()
    hits = {
        "i2t": torch.isin(asked[:, None] * max(1, m) + word_M[texts_NK], pairs),
        "t2i": torch.isin(images_MK * max(1, m) + word_M[:, None], pairs),
    }
    return {
        f"{way}@{k}": proportion(int(hit[:, :k].any(1).sum()), len(hit)) for way, hit in hits.items() for k in ks
    }  # fmt: skip


def _positive(ks: Sequence[int]) -> None:
    if not ks or min(ks) < 1:
        raise UsageError("J01", f"the nearest {list(ks)} were asked; each k is 1 or more, for example {list(KS)}.")


def _finite(name: str, features_ND: Tensor, width: int) -> None:
    if features_ND.ndim != 2 or features_ND.shape[1] != width:
        raise DataError(
            "J01", f"features of {name} are {tuple(features_ND.shape)}, where rows of {width} numbers are needed. "
            "Take all features from one encoder."
        )  # fmt: skip
    bad = int((~torch.isfinite(features_ND).all(1)).sum())
    if bad:
        raise DataError(
            "J01", f"{bad} of {len(features_ND)} feature rows of {name} hold NaN or infinity, so nothing is near them. "
            "The encoder has diverged: train it with a smaller lr, or in fp32."
        )  # fmt: skip


def _checked(name: str, given: Labelled, classes: int, width: int, empty: bool = False) -> Tensor:
    """labels_N as a tensor on the CPU. Raises `DataError` J01 where the set cannot be judged."""
    _finite(name, given.features_ND, width)
    labels_N = torch.as_tensor(np.asarray(given.labels_N), dtype=torch.int64)
    if len(labels_N) != len(given.features_ND):
        raise DataError("J01", f"{name}: {len(given.features_ND)} feature rows and {len(labels_N)} labels.")
    if not len(labels_N) and not empty:
        raise DataError("J01", f"{name} has no pictures; features are judged by labelled pictures.")
    if len(labels_N) and (int(labels_N.min()) < 0 or int(labels_N.max()) >= classes):
        raise DataError(
            "J01", f"labels of {name} run from {labels_N.min()} to {labels_N.max()}, the {classes} classes from 0 to "
            f"{classes - 1}. Give the number of classes of the class table."
        )  # fmt: skip
    return labels_N
