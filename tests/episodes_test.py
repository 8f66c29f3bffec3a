"""Episodes against scikit-learn's nearest neighbour among the means and a loop over pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from likewise.episodes import episodes
from likewise.errors import DataError, UsageError
from likewise.keys import key_rng

CLASSES, EACH = 9, 25


def blobs(spread: float = 2.5) -> tuple[Tensor, np.ndarray]:
    """Features of very different lengths, in no order; labels with gaps, as those of a subset have them."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, 12))
    labels_N = rng.permutation(np.repeat(np.arange(CLASSES), EACH))
    x_ND = (centres[labels_N] + spread * rng.normal(size=(len(labels_N), 12))) * rng.uniform(
        0.1, 10, (len(labels_N), 1)
    )
    return torch.from_numpy(x_ND).float(), labels_N * 7 + 3


def by_hand(
    x_ND: np.ndarray, labels_N: np.ndarray, ways: int, shots: int, queries: int, key: tuple[object, ...]
) -> float:
    """One episode with the same draws: each query by each class's mean, one at a time."""
    rng = key_rng("episode", *key)  # type: ignore[arg-type]
    names = sorted(set(labels_N.tolist()))
    chosen = [names[i] for i in rng.choice(len(names), ways, replace=False)]
    support, held = {}, []
    for name in chosen:
        drawn = rng.choice(np.flatnonzero(labels_N == name), shots + queries, replace=False)
        support[name] = sum(x_ND[i] / np.sqrt(x_ND[i] @ x_ND[i]) for i in drawn[:shots])
        held += [(name, x_ND[i]) for i in drawn[shots:]]
    right = 0
    for name, x in held:
        cosine = {other: float(x @ mean / np.sqrt(mean @ mean)) for other, mean in support.items()}
        right += max(cosine, key=lambda other: cosine[other]) == name
    theirs = KNeighborsClassifier(1, metric="cosine", algorithm="brute").fit(np.stack(list(support.values())), chosen)
    assert (theirs.predict(np.stack([x for _, x in held])) == [name for name, _ in held]).mean() == right / len(held)
    return right / len(held)


@pytest.mark.parametrize(("ways", "shots", "queries"), [(5, 1, 15), (5, 5, 15), (3, 2, 4)])
def test_the_mean_is_that_of_a_loop_over_episodes_and_pictures(ways: int, shots: int, queries: int) -> None:
    x_ND, labels_N = blobs()
    found = episodes(x_ND, labels_N, ways=ways, shots=shots, queries=queries, count=20, key=("novel", 3))
    want = [
        by_hand(x_ND.double().numpy(), labels_N, ways, shots, queries, ("novel", 3, number)) for number in range(20)
    ]
    assert found.value == pytest.approx(np.mean(want), abs=1e-12)
    assert found.n == 20
    half = 2.0930240544 * np.std(want, ddof=1) / np.sqrt(20)  # Student's t, 19 degrees
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=1e-9)


def test_the_key_decides_and_nothing_else_does() -> None:
    x_ND, labels_N = blobs()
    one = episodes(x_ND, labels_N, shots=1, count=50, key=(0,))
    torch.manual_seed(5)
    assert one == episodes(x_ND * 3, labels_N, shots=1, count=50, key=(0,))  # length is no matter
    assert one != episodes(x_ND, labels_N, shots=1, count=50, key=(1,))
    first = episodes(x_ND, labels_N, shots=1, count=49, key=(0,))
    assert first.value * 49 < one.value * 50 <= first.value * 49 + 1  # an episode more, the others as they were
    assert episodes(x_ND, labels_N, shots=5, count=50, key=(0,)).value > one.value + 0.05
    easy, _ = blobs(spread=0.01)
    assert episodes(easy, labels_N, shots=1, count=10, key=(0,)).value == 1


def test_what_cannot_be_an_episode_is_refused() -> None:
    x_ND, labels_N = blobs()
    with pytest.raises(DataError, match="has 25 pictures and an episode takes 26"):
        episodes(x_ND, labels_N, shots=11, key=(0,))
    with pytest.raises(DataError, match="10 ways asked of 9 classes"):
        episodes(x_ND, labels_N, ways=10, shots=1, key=(0,))
    with pytest.raises(UsageError, match="an episode needs two"):
        episodes(x_ND, labels_N, ways=1, shots=1, key=(0,))
    with pytest.raises(UsageError, match="0 shots"):
        episodes(x_ND, labels_N, shots=0, key=(0,))
    x_ND[3, 2] = float("nan")
    with pytest.raises(DataError, match="1 of 225 feature rows hold NaN"):
        episodes(x_ND, labels_N, shots=1, key=(0,))
    with pytest.raises(DataError, match="do not go together"):
        episodes(x_ND[1:], labels_N, shots=1, key=(0,))
