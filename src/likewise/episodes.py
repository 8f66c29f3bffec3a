"""Few-shot episodes: new classes told apart by the mean of a few pictures each, the features as they are.

Pure functions of features and labels; nothing is trained.
"""

# D feature width, E pictures of an episode, N pictures, Q queries of an episode, S support pictures a class, W ways.

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from likewise.errors import DataError, UsageError
from likewise.keys import Key, key_rng
from likewise.metrics import Estimate, over_seeds


def episodes(
    features_ND: Tensor, labels_N: np.ndarray, *, shots: int, key: tuple[Key, ...], ways: int = 5, queries: int = 15,
    count: int = 600,
) -> Estimate:  # fmt: skip
    """Mean accuracy over `count` episodes with its 95 % interval; `n` counts the episodes.

    Of each episode, `ways` classes are drawn, and of each `shots` pictures whose unit features' mean stands for the
    class and `queries` others, each of which is given to the class of the largest cosine. The draws depend on `key` and
    the number of the episode only. As Chen et al. 2019 (arXiv:1904.04232, section 4.1) and Kim et al. 2021 (Tables 3
    and 4) report, 600 episodes of 5 ways and 15 queries; the classifier is Snell et al.'s (2017, arXiv:1703.05175).

    Departs: cosine in the place of Euclidean distance, as Kim et al. have it; the interval is Student's over episodes.
    Raises `UsageError` U04 for counts below what an episode needs, `DataError` J01 for features that are not finite or
    not as many as labels, and where classes are too few or too small.
    """
    if min(shots, queries, count) < 1 or ways < 2:
        raise UsageError(
            "U04", f"{count} episodes of {ways} ways, {shots} shots and {queries} queries: an episode needs two "
            "classes or more, and a picture of each for both. For example ways=5, shots=1, queries=15, count=600."
        )  # fmt: skip
    unit_ND = _unit(features_ND, labels_N)
    members = _members(np.asarray(labels_N), ways, shots + queries)
    right = [_episode(unit_ND, members, ways, shots, queries, (*key, number)) for number in range(count)]
    return over_seeds(right)


def _unit(features_ND: Tensor, labels_N: np.ndarray) -> np.ndarray:
    if features_ND.ndim != 2 or len(features_ND) != len(labels_N):
        raise DataError(
            "J01", f"features of the shape {tuple(features_ND.shape)} and {len(labels_N)} labels do not go together. "
            "Take both from one split."
        )  # fmt: skip
    if bad := int((~torch.isfinite(features_ND).all(1)).sum()):
        raise DataError(
            "J01", f"{bad} of {len(features_ND)} feature rows hold NaN or infinity, so nothing is near them. "
            "The encoder has diverged: train it with a smaller lr, or in fp32."
        )  # fmt: skip
    return np.asarray(F.normalize(features_ND.detach().cpu().double(), dim=-1).numpy())


def _members(labels_N: np.ndarray, ways: int, needed: int) -> list[np.ndarray]:
    """The pictures of every class that is there, in order of labels."""
    members = [np.flatnonzero(labels_N == label) for label in np.unique(labels_N)]
    if len(members) < ways:
        raise DataError(
            "J01", f"{ways} ways asked of {len(members)} classes. Ask fewer, or give the split of them all."
        )
    fewest = min(members, key=len)
    if len(fewest) < needed:
        raise DataError(
            "J01", f"class {labels_N[fewest[0]]} has {len(fewest)} pictures and an episode takes {needed} of a class "
            "(shots and queries). Ask fewer."
        )  # fmt: skip
    return members


def _episode(
    unit_ND: np.ndarray, members: list[np.ndarray], ways: int, shots: int, queries: int, key: tuple[Key, ...]
) -> float:
    rng = key_rng("episode", *key)
    chosen = rng.choice(len(members), ways, replace=False)
    drawn_WE = np.stack([rng.choice(members[i], shots + queries, replace=False) for i in chosen])
    means_WD = unit_ND[drawn_WE[:, :shots]].mean(1)
    means_WD /= np.maximum(np.linalg.norm(means_WD, axis=1, keepdims=True), 1e-12)
    said_WQ = (unit_ND[drawn_WE[:, shots:]] @ means_WD.T).argmax(2)
    return float((said_WQ == np.arange(ways)[:, None]).mean())
